// libpqxx (C++ over libpq): one line of JSON for each feature.
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static const std::string three = "SELECT ssn FROM customers WHERE id < 4 ORDER BY id";

static std::string given(const char *name) { return std::getenv(name); }

static std::string where(const std::string &ca) {
  return "host=127.0.0.1 user=me sslmode=verify-full port=" + given("TEST_PORT") + " dbname=" + given("TEST_DATABASE") +
         " password=" + given("TEST_TOKEN") + " sslrootcert=" + ca;
}

static std::string quoted(const std::string &text) {
  std::string out = "\"";
  for (char letter : text) {
    if (letter == '\n') out += "\\n";
    else if (letter == '\t') out += "\\t";
    else if (letter == '"' || letter == '\\') out += std::string("\\") + letter;
    else out += letter;
  }
  return out + "\"";
}

static std::string listed(const std::vector<std::string> &items) {
  std::string out;
  for (const auto &item : items) out += (out.empty() ? "" : ",") + item;
  return "[" + out + "]";
}

static void feature(const std::string &name, const std::function<std::string()> &work) {
  std::string seen;
  try {
    seen = "\"value\":" + work();
  } catch (const std::exception &error) {
    std::cerr << name << ": " << error.what() << "\n";
    seen = "\"error\":" + quoted(error.what());
  }
  std::cout << "{\"feature\":" << quoted(name) << "," << seen << "}" << std::endl;
}

static std::string state(const std::function<void()> &work) {
  try {
    work();
  } catch (const pqxx::insufficient_privilege &) {
    return quoted("42501"); // this version keeps no SQLSTATE with it
  } catch (const pqxx::sql_error &error) {
    return quoted(error.sqlstate());
  }
  return quoted("none");
}

static std::string count(pqxx::transaction_base &work) { return work.exec1("SELECT count(*) FROM scratch")[0].c_str(); }

class Heard : public pqxx::notification_receiver {
public:
  std::string payload;
  explicit Heard(pqxx::connection_base &connection) : pqxx::notification_receiver(connection, "news") {}
  void operator()(const std::string &said, int) override { payload = said; }
};

int main() {
  pqxx::connection connection(where(given("TEST_CA")));
  auto statement = [&](const std::string &sql) {
    return state([&] {
      pqxx::nontransaction work(connection);
      work.exec(sql);
    });
  };
  auto one = [&] {
    pqxx::nontransaction work(connection);
    return std::string(work.exec1("SELECT 1")[0].c_str());
  };
  feature("version", [] { return quoted(PQXX_VERSION); });
  feature("connect", one);
  feature("verify", [] {
    try {
      pqxx::connection other(where(given("TEST_WRONG_CA")));
    } catch (const pqxx::broken_connection &error) {
      return std::string(std::string(error.what()).find("certificate") == std::string::npos ? "false" : "true");
    }
    return std::string("false");
  });
  feature("parameters", [&] {
    pqxx::nontransaction work(connection);
    auto row = work.exec_params1("SELECT id, name, ssn FROM customers WHERE id = $1", 1);
    return listed({row[0].c_str(), quoted(row[1].c_str()), quoted(row[2].c_str())});
  });
  feature("prepared", [&] {
    connection.prepare("by_id", "SELECT ssn FROM customers WHERE id = $1");
    pqxx::nontransaction work(connection);
    std::vector<std::string> seen;
    for (int n = 0; n < 9; n++) seen.push_back(quoted(work.exec_prepared1("by_id", 1 + n % 3)[0].c_str()));
    return listed(seen);
  });
  feature("rows", [&] {
    pqxx::nontransaction work(connection);
    long sum = 0;
    for (auto row : work.exec("SELECT id FROM big")) sum += row[0].as<long>();
    return std::to_string(sum);
  });
  feature("error", [&] { return listed({statement("SELECT * FROM nowhere"), one()}); });
  feature("refused", [&] { return listed({statement("GRANT SELECT ON orders TO PUBLIC"), one()}); });
  feature("transaction", [&] {
    std::vector<std::string> seen;
    {
      pqxx::work work(connection);
      work.exec("INSERT INTO scratch VALUES (1, 'a')");
      seen.push_back(count(work));
      seen.push_back(state([&] { work.exec("SELECT 1/0"); }));
    }
    {
      // The class for transactions knows by itself that they have failed; the server says it here.
      pqxx::nontransaction work(connection);
      work.exec("BEGIN");
      state([&] { work.exec("SELECT 1/0"); });
      seen.push_back(state([&] { work.exec("SELECT 1"); }));
      work.exec("ROLLBACK");
    }
    {
      pqxx::work work(connection);
      seen.push_back(count(work));
      work.exec("INSERT INTO scratch VALUES (1, 'a')");
      pqxx::subtransaction inner(work);
      inner.exec("SELECT 1");
      inner.commit();
      work.commit();
    }
    pqxx::work work(connection);
    seen.push_back(count(work));
    work.exec("DELETE FROM scratch");
    work.commit();
    return listed(seen);
  });
  feature("cursor", [&] {
    pqxx::work work(connection);
    pqxx::icursorstream cursor(work, three, "in_parts", 2);
    std::vector<std::string> seen;
    pqxx::result part;
    while (cursor >> part)
      for (auto row : part) seen.push_back(quoted(row[0].c_str()));
    return listed(seen);
  });
  feature("copy in", [&] {
    pqxx::work work(connection);
    pqxx::stream_to stream(work, "scratch", std::vector<std::string>{"n", "note"});
    for (int n = 0; n < 1000; n++) stream << std::make_tuple(n, "copied");
    stream.complete();
    auto seen = count(work);
    work.exec("DELETE FROM scratch");
    work.commit();
    return seen;
  });
  feature("notify", [&] {
    Heard heard(connection);
    {
      pqxx::work work(connection);
      work.exec("NOTIFY news, 'hello'");
      work.commit();
    }
    if (heard.payload.empty()) connection.await_notification(5, 0);
    return quoted(heard.payload);
  });
  feature("pipeline of one statement", [&] {
    std::string sum;
    std::string failed;
    {
      pqxx::work work(connection);
      pqxx::pipeline pipe(work);
      pipe.retain(100);
      for (int n = 0; n < 100; n++) pipe.insert("INSERT INTO scratch VALUES (" + std::to_string(n) + ", 'many')");
      pipe.complete();
      sum = count(work);
    }
    {
      pqxx::work work(connection);
      pqxx::pipeline pipe(work);
      pipe.retain(3);
      pipe.insert("SELECT 1");
      auto bad = pipe.insert("SELECT 1/0");
      failed = state([&] { pipe.retrieve(bad); });
      pipe.flush();
    }
    pqxx::nontransaction work(connection);
    return listed({sum, failed, work.exec1("SELECT 3")[0].c_str()});
  });
  feature("cancel", [&] {
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      connection.cancel_query();
    });
    auto seen = statement("SELECT pg_sleep(20)");
    other.join();
    return listed({seen, one()});
  });
}
