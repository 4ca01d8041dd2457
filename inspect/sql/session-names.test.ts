/** A session's names as statements, errors and ends of transactions go by: every transition, as the server makes it. */
import { describe, expect, it } from "vitest";
import { models } from "./postgres/testing.ts";
import { emptyScope, meaningOf } from "./scope.ts";
import { schemasOf, splitIdentifiers } from "./search-path.ts";
import { SessionNames, type TransactionState } from "./session-names.ts";

const start = { searchPath: '"$user", public', currentUser: "app", sessionUser: "app" };

/** A server's side of the conversation: `text` runs and succeeds; `!` is an error; then ReadyForQuery. */
function run(steps: readonly string[], from: typeof start = start): SessionNames {
  const names = new SessionNames(from);
  let open = false;
  for (const step of steps) {
    let state: TransactionState = open ? "T" : "I";
    let failed = false;
    for (const text of step.split(";").map((part) => part.trim())) {
      if (text === "!") {
        names.failed();
        failed = true;
        break;
      }
      const [tag = "", sql = text] = text.includes("=>")
        ? text
            .split("=>")
            .reverse()
            .map((part) => part.trim())
        : ["", text];
      for (const model of models(sql, names.scope)) names.succeeded(model.scopeChanges, tag);
      if (/^(begin|start)/i.test(sql)) open = true;
      if (/^(commit|rollback(?! to)|end|abort|prepare transaction)/i.test(sql)) open = false;
    }
    state = failed && open ? "E" : open ? "T" : "I";
    names.ready(state);
  }
  return names;
}

function pathAfter(...steps: readonly string[]): string {
  const { path, lost } = run(steps).scope;
  return lost.length > 0 ? `lost: ${lost.join()}` : (path ?? ["unknown"]).filter((name) => !name.startsWith("pg_")).join(" ");
}

describe("search_path of a session", () => {
  it.each<[readonly string[], string]>([
    [["SELECT 1"], "app public"],
    [["SET search_path = a, B, \"C d\", 'E, f'"], "a b C d E, f"],
    [["SET search_path TO ''"], ""],
    [["SET SCHEMA 'a'"], "a"],
    [["SET search_path = a", "RESET search_path"], "app public"],
    [["SET search_path = a", "SET search_path TO DEFAULT"], "app public"],
    [["SET search_path = a", "RESET ALL"], "app public"],
    [["SET search_path = a", "DISCARD ALL"], "app public"],
    [["SET search_path = a", "DISCARD PLANS"], "a"],
    [["SET LOCAL search_path = a"], "app public"],
    [["SET LOCAL search_path = a; SELECT 1"], "app public"],
    [["BEGIN", "SET LOCAL search_path = a"], "a"],
    [["BEGIN", "SET LOCAL search_path = a", "COMMIT"], "app public"],
    [["BEGIN", "SET LOCAL search_path = a", "SET search_path FROM CURRENT", "COMMIT"], "a"],
    [["BEGIN", "SET search_path = a", "COMMIT"], "a"],
    [["BEGIN", "SET search_path = a", "COMMIT AND CHAIN"], "a"],
    [["BEGIN", "SET search_path = a", "ROLLBACK"], "app public"],
    [["BEGIN", "SET search_path = a", "SET LOCAL search_path = b"], "b"],
    [["BEGIN", "SET search_path = a", "SET LOCAL search_path = b", "COMMIT"], "a"],
    [["BEGIN", "SET LOCAL search_path = b", "SET search_path = a", "COMMIT"], "a"],
    [["BEGIN", "SET search_path = a", "!", "ROLLBACK"], "app public"],
    [["BEGIN", "SET search_path = a", "!", "COMMIT => ROLLBACK"], "app public"],
    [["BEGIN", "SET search_path = a", "PREPARE TRANSACTION 'x'"], "a"],
    [["SET search_path = a; !"], "app public"],
    [["SET search_path = a; COMMIT; SET search_path = b; !"], "a"],
    [["SET search_path = a; BEGIN; SET search_path = b", "ROLLBACK"], "app public"],
    [["BEGIN", "SAVEPOINT s", "SET search_path = a", "ROLLBACK TO s"], "app public"],
    [["BEGIN", "SAVEPOINT s", "SET search_path = a", "!", "ROLLBACK TO s", "COMMIT"], "app public"],
    [["BEGIN", "SET search_path = a", "SAVEPOINT s", "SET search_path = b", "ROLLBACK TO s"], "a"],
    [["BEGIN", "SET search_path = a", "SAVEPOINT s", "SET search_path = b", "RELEASE s", "COMMIT"], "b"],
    [
      [
        "BEGIN",
        "SET search_path = a",
        "SAVEPOINT s",
        "SET search_path = b",
        "SAVEPOINT s",
        "SET search_path = c",
        "ROLLBACK TO s",
      ],
      "b",
    ],
    [["BEGIN", "SET search_path = a", "SAVEPOINT s", "SET search_path = b", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s"], "a"],
    [
      ["BEGIN", "SAVEPOINT t", "SET search_path = a", "SAVEPOINT s", "RELEASE t", "SET search_path = b", "ROLLBACK"],
      "app public",
    ],
    [["SELECT set_config('search_path', 'a, \"B\"', false)"], "a B"],
    [["SELECT pg_catalog.set_config('search_path', '', false)"], ""],
    [["BEGIN", "SELECT set_config('search_path', 'a', true)", "COMMIT"], "app public"],
    [["SELECT set_config('search_path', 'a', '1')"], "app public"],
    [["SELECT set_config('search_path', $1, false)"], "lost: set_config"],
    [["SELECT set_config('search_path', 'a', $1)"], "lost: set_config"],
    [["SELECT set_config('search_pathX'::varchar(11), 'a', false)"], "lost: set_config"],
    [["SELECT set_config('search_path', 'a', false) WHERE random() < 1"], "lost: set_config"],
    [["UPDATE pg_settings SET setting = 'a' WHERE name = 'search_path'"], "lost: set_config"],
    [["SELECT set_config('application_name', 'a', false)"], "app public"],
    [["SELECT leak()"], "lost: function public.leak"],
    [["SELECT leak()", "DISCARD ALL"], "app public"],
    [["PREPARE p AS SELECT set_config('search_path', 'a', false)"], "app public"],
    [["PREPARE p AS SELECT set_config('search_path', 'a', false)", "EXECUTE p"], "a"],
    [["DECLARE c CURSOR FOR SELECT set_config('search_path', 'a', false)", "FETCH c"], "lost: the query of a cursor"],
  ])("after %j is %s", (steps, path) => {
    expect(pathAfter(...steps)).toBe(path);
  });

  it("stands for the role by $user", () => {
    const roleAfter = (...steps: readonly string[]): unknown => {
      const { role, path } = run(steps).scope;
      return [role, path?.[2]];
    };
    expect(roleAfter("SET ROLE other")).toEqual(["other", "other"]);
    expect(roleAfter("SET ROLE other", "RESET ROLE")).toEqual(["app", "app"]);
    expect(roleAfter("SET ROLE other", "SET ROLE NONE")).toEqual(["app", "app"]);
    expect(roleAfter("SET ROLE other", "RESET ALL")).toEqual(["other", "other"]);
    expect(roleAfter("SET ROLE other", "SET SESSION AUTHORIZATION third")).toEqual(["third", "third"]);
    expect(roleAfter("SET SESSION AUTHORIZATION third", "SET SESSION AUTHORIZATION DEFAULT")).toEqual(["app", "app"]);
    expect(roleAfter("BEGIN", "SET LOCAL ROLE other", "COMMIT")).toEqual(["app", "app"]);
    // Servers disagree about what is left of the role.
    expect(roleAfter("SET ROLE other", "BEGIN", "SET SESSION AUTHORIZATION third", "ROLLBACK")).toEqual([null, undefined]);
    const otherwise = run(["RESET ROLE"], { ...start, currentUser: "login_role" }).scope;
    expect(otherwise.role).toBe("login_role");
  });

  it("is what the server reports, where it does", () => {
    const names = run([]);
    names.reported("search_path", "a");
    expect(names.scope.path).toContain("public");
    names.ready("I");
    expect(names.scope.path).toEqual(["pg_temp", "pg_catalog", "a"]);
    const { scope } = names;
    names.reported("search_path", '"a"');
    names.ready("I");
    expect(names.scope).toBe(scope);
  });
});

describe("the cost of following", () => {
  it("is nothing for a session that changes nothing: one scope, shared by digest", () => {
    const names = run([]);
    const { scope } = names;
    const other = run(["BEGIN", "SAVEPOINT s", "SELECT 1", "ROLLBACK TO s", "RELEASE s", "COMMIT", "!"]);
    expect(other.scope.digest).toBe(scope.digest);
    names.ready("I");
    expect(names.scope).toBe(scope);
    expect(names.settles(models("BEGIN; SAVEPOINT s; COMMIT"))).toBe(false);
    expect(run(["SET search_path = a", "RESET search_path"]).scope.digest).toBe(scope.digest);
    expect(new SessionNames(undefined).scope).toBe(emptyScope);
  });

  it("makes an end of a transaction wait only where it undoes something", () => {
    const names = run(["BEGIN", "SET LOCAL search_path = a"]);
    expect([names.undoable, names.settles(models("COMMIT")), names.settles(models("SAVEPOINT s"))]).toEqual([true, true, false]);
    expect(run(["BEGIN", "SET LOCAL search_path = a", "COMMIT"]).undoable).toBe(false);
  });
});

describe("what was named under other names", () => {
  it("is not known while the path is another one, and known again after", () => {
    const steps = ["PREPARE p AS SELECT name FROM customers"];
    expect(Object.keys(run(steps).scope.prepared)).toEqual(["p"]);
    expect(Object.keys(run([...steps, "SET search_path = a"]).scope.prepared)).toEqual([]);
    expect(Object.keys(run([...steps, "SET search_path = a", "RESET search_path"]).scope.prepared)).toEqual(["p"]);
    expect(Object.keys(run([...steps, "SET search_path = a", "DEALLOCATE p", "RESET search_path"]).scope.prepared)).toEqual([]);
    expect(meaningOf(run(steps).scope)).toBe(meaningOf(run([]).scope));
  });
});

describe("a list of schemas", () => {
  it("is read as the server reads it", () => {
    expect(splitIdentifiers(' A ,"b""C" , d')).toEqual(["a", 'b"C', "d"]);
    expect(splitIdentifiers("")).toEqual([]);
    for (const wrong of ["a,", ",a", "a b", '"a', '"a"b']) expect(splitIdentifiers(wrong), wrong).toBeNull();
    expect(splitIdentifiers("é".repeat(40))![0]).toBe("é".repeat(31));
    expect(schemasOf("pg_catalog, pg_temp, a", null)).toEqual(["pg_catalog", "pg_temp", "a"]);
    expect(schemasOf("a", null)).toEqual(["pg_temp", "pg_catalog", "a"]);
    expect(schemasOf('"$user"', null)).toBeNull();
    expect(schemasOf("pg_temp_3", "app")).toBeNull();
  });
});
