import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** The JDBC driver, with TEST_PREPARE as its prepareThreshold: one line of JSON for each feature. */
public class Jdbc {
  interface Work {
    Object run() throws Exception;
  }

  static Connection connect(String ca) throws SQLException {
    String url = "jdbc:postgresql://127.0.0.1:" + System.getenv("TEST_PORT") + "/" + System.getenv("TEST_DATABASE");
    Properties properties = new Properties();
    properties.setProperty("user", "me");
    properties.setProperty("password", System.getenv("TEST_TOKEN"));
    properties.setProperty("sslmode", "verify-full");
    properties.setProperty("sslrootcert", ca);
    properties.setProperty("prepareThreshold", System.getenv("TEST_PREPARE"));
    return DriverManager.getConnection(url, properties);
  }

  public static void main(String[] args) throws Exception {
    Connection connection = connect(System.getenv("TEST_CA"));
    feature("version", () -> connection.getMetaData().getDriverVersion());
    feature("connect", () -> one(connection, "SELECT 1"));
    feature("verify", () -> {
      try {
        connect(System.getenv("TEST_WRONG_CA")).close();
        return false;
      } catch (SQLException error) {
        return error.getMessage().contains("SSL");
      }
    });
    feature("metadata", () -> {
      DatabaseMetaData data = connection.getMetaData();
      data.getTables(null, "public", "c%", new String[] {"TABLE", "VIEW"}).close();
      data.getPrimaryKeys(null, "public", "customers").close();
      data.getImportedKeys(null, "public", "orders").close();
      data.getIndexInfo(null, "public", "orders", false, false).close();
      data.getTypeInfo().close();
      data.getSchemas().close();
      List<Object> names = new ArrayList<>();
      ResultSet columns = data.getColumns(null, "public", "customers", null);
      while (columns.next()) names.add(columns.getString("COLUMN_NAME"));
      return names;
    });
    feature("parameters", () -> byId(connection, 1));
    feature("prepared", () -> {
      List<Object> seen = new ArrayList<>();
      try (PreparedStatement statement = connection.prepareStatement("SELECT ssn FROM customers WHERE id = ?")) {
        for (int run = 0; run < 9; run++) {
          statement.setInt(1, 1 + run % 3);
          ResultSet result = statement.executeQuery();
          result.next();
          seen.add(result.getString(1));
        }
      }
      return seen;
    });
    // From the threshold on the driver asks for binary results of the types that it knows.
    feature("binary", () -> {
      Object last = null;
      for (int run = 0; run < 7; run++) last = byId(connection, 2);
      return last;
    });
    feature("types", () -> {
      ResultSet result =
          connection.createStatement().executeQuery("SELECT 1::int4, 2::int8, 1.5::float8, 'x'::text, true, NULL::text");
      result.next();
      return list(
          result.getInt(1), result.getLong(2), result.getDouble(3), result.getString(4), result.getBoolean(5), result.getString(6));
    });
    feature("rows", () -> {
      long sum = 0;
      ResultSet result = connection.createStatement().executeQuery("SELECT id FROM big");
      while (result.next()) sum += result.getInt(1);
      return sum;
    });
    feature("error", () -> list(stateOf(connection, "SELECT * FROM nowhere"), one(connection, "SELECT 1")));
    feature("refused", () -> list(stateOf(connection, "GRANT SELECT ON orders TO PUBLIC"), one(connection, "SELECT 1")));
    feature("refused in a transaction", () -> {
      connection.setAutoCommit(false);
      Object refused = stateOf(connection, "GRANT SELECT ON orders TO PUBLIC");
      Object aborted = stateOf(connection, "SELECT 1");
      connection.rollback();
      connection.setAutoCommit(true);
      return list(refused, aborted, one(connection, "SELECT 1"));
    });
    feature("transaction", () -> transaction(connection));
    feature("cursor", () -> {
      connection.setAutoCommit(false);
      List<Object> seen = new ArrayList<>();
      try (Statement statement = connection.createStatement()) {
        statement.setFetchSize(2);
        ResultSet result = statement.executeQuery("SELECT ssn FROM customers WHERE id < 4 ORDER BY id");
        while (result.next()) seen.add(result.getString(1));
      }
      connection.commit();
      connection.setAutoCommit(true);
      return seen;
    });
    CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
    feature("copy in", () -> {
      StringBuilder rows = new StringBuilder();
      for (int n = 0; n < 1000; n++) rows.append(n).append("\tcopied\n");
      copies.copyIn("COPY scratch FROM STDIN", new java.io.StringReader(rows.toString()));
      Object seen = one(connection, "SELECT count(*) FROM scratch");
      connection.createStatement().execute("DELETE FROM scratch");
      return seen;
    });
    feature("copy out", () -> {
      java.io.StringWriter out = new java.io.StringWriter();
      copies.copyOut("COPY (SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT", out);
      return out.toString();
    });
    feature("notify", () -> {
      connection.createStatement().execute("LISTEN news");
      connection.createStatement().execute("NOTIFY news, 'hello'");
      return connection.unwrap(PGConnection.class).getNotifications(5000)[0].getParameter();
    });
    feature("pipeline of one statement", () -> {
      int sum = 0;
      try (PreparedStatement statement = connection.prepareStatement("INSERT INTO scratch VALUES (?, ?)")) {
        for (int n = 0; n < 100; n++) {
          statement.setInt(1, n);
          statement.setString(2, "many");
          statement.addBatch();
        }
        for (int count : statement.executeBatch()) sum += count;
      }
      connection.createStatement().execute("DELETE FROM scratch");
      String failed = "none";
      try (Statement statement = connection.createStatement()) {
        for (String sql : new String[] {"SET extra_float_digits = 3", "INSERT INTO scratch SELECT 1/0", "SET extra_float_digits = 2"})
          statement.addBatch(sql);
        statement.executeBatch();
      } catch (BatchUpdateException error) {
        failed = error.getSQLState();
      }
      return list(sum, failed, one(connection, "SELECT 3"));
    });
    feature("cancel", () -> {
      try (Statement statement = connection.createStatement()) {
        statement.setQueryTimeout(1);
        String seen = "none";
        try {
          statement.executeQuery("SELECT pg_sleep(20)");
        } catch (SQLException error) {
          seen = error.getSQLState();
        }
        return list(seen, one(connection, "SELECT 1"));
      }
    });
    connection.close();
  }

  static Object byId(Connection connection, int id) throws SQLException {
    PreparedStatement statement = connection.prepareStatement("SELECT id, name, ssn FROM customers WHERE id = ?");
    statement.setInt(1, id);
    ResultSet result = statement.executeQuery();
    result.next();
    return list(result.getInt(1), result.getString(2), result.getString(3));
  }

  static Object transaction(Connection connection) throws SQLException {
    List<Object> seen = new ArrayList<>();
    connection.setAutoCommit(false);
    connection.createStatement().execute("INSERT INTO scratch VALUES (1, 'a')");
    seen.add(one(connection, "SELECT count(*) FROM scratch"));
    seen.add(stateOf(connection, "SELECT 1/0"));
    seen.add(stateOf(connection, "SELECT 1"));
    connection.rollback();
    seen.add(one(connection, "SELECT count(*) FROM scratch"));
    connection.createStatement().execute("INSERT INTO scratch VALUES (1, 'a')");
    Savepoint savepoint = connection.setSavepoint();
    stateOf(connection, "SELECT 1/0");
    connection.rollback(savepoint);
    connection.commit();
    seen.add(one(connection, "SELECT count(*) FROM scratch"));
    connection.createStatement().execute("DELETE FROM scratch");
    connection.commit();
    connection.setAutoCommit(true);
    return seen;
  }

  static Object one(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet result = statement.executeQuery(sql)) {
      result.next();
      return result.getLong(1);
    }
  }

  static String stateOf(Connection connection, String sql) {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
      return "none";
    } catch (SQLException error) {
      return error.getSQLState();
    }
  }

  static void feature(String name, Work work) {
    String seen;
    try {
      seen = "\"value\":" + json(work.run());
    } catch (Exception error) {
      error.printStackTrace();
      seen = "\"error\":" + json(error.toString());
    }
    System.out.println("{\"feature\":" + json(name) + "," + seen + "}");
  }

  static List<Object> list(Object... items) {
    return Arrays.asList(items);
  }

  static String json(Object value) {
    if (value == null) return "null";
    if (value instanceof Number || value instanceof Boolean) return value.toString();
    if (value instanceof List<?> items) {
      StringJoiner out = new StringJoiner(",", "[", "]");
      for (Object item : items) out.add(json(item));
      return out.toString();
    }
    String text = value.toString().replace("\\", "\\\\").replace("\"", "\\\"");
    return "\"" + text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + "\"";
  }
}
