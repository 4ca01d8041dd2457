/** Temporary relations: what they hold is known from what was written, and their names hide others only where the server says so. */
import { describe, expect, it } from "vitest";
import type { OutputColumn, SessionScope, StatementModel, TemporaryRelation } from "../model.ts";
import { emptyScope } from "../scope.ts";
import { unsure } from "../unsure.ts";
import { model, short } from "./testing.ts";

/** A session in which these texts have run, with the usual path. */
function after(...texts: readonly string[]): SessionScope {
  let scope: SessionScope = { ...emptyScope, path: ["pg_temp", "pg_catalog", "public"] };
  for (const text of texts) {
    let { temporary, lost } = scope;
    for (const change of model(text, scope).scopeChanges) {
      if (change.kind === "lost") lost = [...lost, change.why];
      if (change.kind !== "temporary") continue;
      const others = Object.entries(temporary).filter(([name]) => name !== change.name);
      temporary = Object.fromEntries(change.relation === null ? others : [...others, [change.name, change.relation]]);
    }
    scope = { ...scope, temporary, lost };
  }
  return scope;
}

function shown(columns: readonly OutputColumn[] | null): string {
  return (columns ?? [])
    .map(({ name, origins, exact }) => `${name}: ${origins.map(short).join(", ")}${exact ? "!" : ""}`.trimEnd())
    .join("; ");
}

function read(sql: string, scope: SessionScope): string {
  const { columns, columnsKnown } = model(sql, scope);
  return `${columnsKnown ? "" : "? "}${shown(columns)}`;
}

const relationAfter = (name: string, ...texts: readonly string[]): TemporaryRelation | undefined =>
  after(...texts).temporary[name];
const flows = (of: StatementModel): string => of.writeFlows.map(short).join(" ");
const tells = (of: StatementModel): string => (of.tells ?? []).map(short).join(" ");

describe("columns keep the labels of what was written", () => {
  it.each<[readonly string[], string, string]>([
    [
      ["CREATE TEMP TABLE t AS SELECT id, ssn AS x, upper(card) AS c FROM customers"],
      "SELECT * FROM t",
      "id: customers.id!; x: customers.ssn!; c: customers.card",
    ],
    [["CREATE TEMP TABLE t(a, b) AS SELECT id, ssn FROM customers"], "SELECT b, a FROM t", "b: customers.ssn!; a: customers.id!"],
    [["CREATE TEMP TABLE t(a) AS SELECT id, ssn FROM customers"], "TABLE t", "a: customers.id!; ssn: customers.ssn!"],
    [["SELECT id, ssn AS x INTO TEMP t FROM customers"], "SELECT x FROM t", "x: customers.ssn!"],
    [["SELECT 'a' AS x INTO TEMP t UNION ALL SELECT ssn FROM customers"], "SELECT x FROM t", "x: customers.ssn"],
    [["CREATE TABLE pg_temp.t AS SELECT ssn FROM customers"], "SELECT ssn FROM pg_temp.t", "ssn: customers.ssn!"],
    [["CREATE TEMP TABLE t AS SELECT ssn FROM customers WITH NO DATA"], "SELECT ssn FROM t", "ssn:"],
    [["CREATE TEMP TABLE t (id int, x text)"], "SELECT * FROM t", "id:; x:"],
    [
      ["CREATE TEMP TABLE t (id int, x text)", "INSERT INTO t SELECT id, ssn FROM customers"],
      "SELECT * FROM t",
      "id: customers.id; x: customers.ssn!",
    ],
    [
      ["CREATE TEMP TABLE t (id int, x text)", "INSERT INTO t (x, id) SELECT ssn, id FROM customers"],
      "SELECT x FROM t",
      "x: customers.ssn!",
    ],
    [
      ["CREATE TEMP TABLE t (id int, x text)", "INSERT INTO t SELECT id, upper(ssn) FROM customers"],
      "SELECT x, id FROM t",
      "x: customers.ssn; id: customers.id",
    ],
    [
      ["CREATE TEMP TABLE t (x text)", "INSERT INTO t SELECT ssn FROM customers", "INSERT INTO t SELECT card FROM customers"],
      "SELECT x FROM t",
      "x: customers.card, customers.ssn",
    ],
    [
      ["CREATE TEMP TABLE t (x text)", "INSERT INTO t SELECT ssn FROM customers", "INSERT INTO t VALUES ('mine')"],
      "SELECT x FROM t",
      "x: customers.ssn!",
    ],
    [
      ["CREATE TEMP TABLE t AS SELECT ssn FROM customers", "UPDATE t SET ssn = substr(ssn, 1, 4)"],
      "SELECT ssn FROM t",
      "ssn: customers.ssn",
    ],
    [
      ["CREATE TEMP TABLE t (id int, x text)", "UPDATE t SET x = c.ssn FROM customers c WHERE c.id = t.id"],
      "SELECT id, x FROM t",
      "id:; x: customers.ssn!",
    ],
    [
      ["CREATE TEMP TABLE t (id int, x text)", "UPDATE t SET (id, x) = (SELECT id, ssn FROM customers LIMIT 1)"],
      "SELECT id FROM t",
      "id: customers.id, customers.ssn",
    ],
    [
      [
        "CREATE TEMP TABLE t (id text, x text)",
        "MERGE INTO t USING customers c ON c.id = t.id WHEN NOT MATCHED THEN INSERT (x, id) VALUES (c.ssn, c.id)",
      ],
      "SELECT x, id FROM t",
      "x: customers.ssn!; id: customers.id!",
    ],
    [
      [
        "CREATE TEMP TABLE t (id text, x text)",
        "MERGE INTO t USING customers c ON c.id = t.id WHEN MATCHED THEN UPDATE SET x = c.card",
      ],
      "SELECT x, id FROM t",
      "x: customers.card!; id:",
    ],
    [
      [
        "CREATE TEMP TABLE t (id text UNIQUE, x text)",
        "INSERT INTO t SELECT id, ssn FROM customers ON CONFLICT (id) DO UPDATE SET x = excluded.x",
      ],
      "SELECT x FROM t",
      "x: customers.ssn!",
    ],
    [
      ["CREATE TEMP TABLE t (x text)", "WITH i AS (INSERT INTO t SELECT ssn FROM customers) SELECT 1"],
      "SELECT x FROM t",
      "x: customers.ssn!",
    ],
    [
      ["CREATE TEMP TABLE t (x text)", "EXPLAIN ANALYZE INSERT INTO t SELECT ssn FROM customers"],
      "SELECT x FROM t",
      "x: customers.ssn!",
    ],
    [["CREATE TEMP TABLE t (x text)", "EXPLAIN INSERT INTO t SELECT ssn FROM customers"], "SELECT x FROM t", "x:"],
    [["CREATE TEMP TABLE t (x text)", "COPY t FROM STDIN"], "SELECT x FROM t", "x:"],
    [["CREATE TEMP TABLE t (x text)", "COPY t FROM '/tmp/x'"], "SELECT x FROM t", "x: *"],
    [["CREATE TEMP TABLE t (x text)", "INSERT INTO t SELECT leak('x')"], "SELECT x FROM t", "x: *"],
    [["CREATE TEMP TABLE t (x text DEFAULT leak('x'))"], "SELECT x FROM t", "x: *"],
    [
      [
        "CREATE TEMP TABLE t (a text, x text GENERATED ALWAYS AS (upper(a)) STORED)",
        "INSERT INTO t (a) SELECT ssn FROM customers",
      ],
      "SELECT x FROM t",
      "x: customers.ssn",
    ],
    [["CREATE TEMP TABLE t (LIKE customers)"], "SELECT ssn FROM t", "ssn:"],
    [
      ["CREATE TEMP TABLE t (LIKE customers)", "INSERT INTO t SELECT * FROM customers"],
      "SELECT notes, ssn FROM t",
      "notes: customers.notes; ssn: customers.ssn",
    ],
    [["CREATE TEMP TABLE t OF address", "INSERT INTO t SELECT ssn FROM customers"], "SELECT x FROM t", "x: customers.ssn"],
  ])("%s; %s", (before, sql, expected) => {
    expect(read(sql, after(...before))).toBe(expected);
  });

  it("carries them on from one to the next", () => {
    const scope = after(
      "CREATE TEMP TABLE a AS SELECT ssn FROM customers",
      "CREATE TEMP TABLE b AS SELECT reverse(ssn) AS x FROM a",
    );
    expect(read("SELECT x FROM b", scope)).toBe("x: customers.ssn");
    expect(flows(model("INSERT INTO countries SELECT x FROM b", scope))).toBe("customers.ssn");
    expect(model("SELECT 1 FROM b WHERE x = '1'", scope).influences).toEqual([{ column: "public.customers.ssn", form: "other" }]);
    expect(model("SELECT 1 FROM a WHERE ssn = '1'", scope).influences).toEqual([
      { column: "public.customers.ssn", form: "equality" },
    ]);
    expect(model("SELECT 1 FROM a", scope).reaches).toEqual(["public.customers.ssn"]);
  });
});

describe("what a session writes for itself", () => {
  it.each([
    "CREATE TEMP TABLE t AS SELECT upper(ssn) AS x FROM customers",
    "SELECT ssn INTO TEMP t FROM customers",
    "CREATE TEMP VIEW v AS SELECT ssn FROM customers",
    "CREATE TEMP TABLE t (LIKE customers)",
    "CREATE TEMP SEQUENCE s",
  ])("%s flows nowhere, and no other session sees it", (sql) => {
    expect(model(sql)).toMatchObject({ writeFlows: [], changesCatalog: false, undecided: [] });
  });

  it("is a flow still where the name may mean a permanent relation", () => {
    const scope = after("CREATE TEMP TABLE countries (code text, label text)");
    const insert = "INSERT INTO countries SELECT ssn FROM customers";
    expect(flows(model(insert, scope))).toBe("");
    expect(flows(model(insert, { ...scope, path: null }))).toBe("customers.ssn");
    expect(flows(model(insert, { ...scope, path: ["pg_catalog", "public", "pg_temp"] }))).toBe("customers.ssn");
    expect(flows(model("INSERT INTO public.countries SELECT ssn FROM customers", scope))).toBe("customers.ssn");
    const brief = after("CREATE TEMP TABLE countries (code text, label text) ON COMMIT DROP");
    expect(flows(model(insert, brief))).toBe("customers.ssn");
  });

  it.each([
    ["CREATE TEMP TABLE t (x text CHECK (x > '5'))", "INSERT INTO t SELECT ssn FROM customers", "customers.ssn"],
    ["CREATE TEMP TABLE t (x text, CHECK (x > '5'))", "INSERT INTO t SELECT ssn FROM customers", "customers.ssn"],
    ["CREATE TEMP TABLE t (x text PRIMARY KEY)", "INSERT INTO t SELECT ssn FROM customers", "customers.ssn"],
    ["CREATE TEMP TABLE t (x varchar(8))", "INSERT INTO t SELECT ssn FROM customers", "customers.ssn"],
    ["CREATE TEMP TABLE t (x zip)", "INSERT INTO t SELECT ssn FROM customers", "customers.ssn"],
    ["CREATE TEMP TABLE t (x int)", "INSERT INTO t SELECT length(ssn) FROM customers", "customers.ssn"],
    ["CREATE TEMP TABLE t (x int)", "INSERT INTO t SELECT ssn FROM customers", ""],
    ["CREATE TEMP TABLE t (x text)", "INSERT INTO t SELECT upper(ssn) FROM customers", ""],
    ["CREATE TEMP TABLE t (id int PRIMARY KEY, x text)", "INSERT INTO t SELECT id, ssn FROM customers", "customers.id"],
    ["CREATE TEMP TABLE t (x text NOT NULL)", "UPDATE t SET x = nullif(c.ssn, '5') FROM customers c", "customers.ssn"],
    ["CREATE TEMP TABLE t AS SELECT ssn FROM customers", "CREATE UNIQUE INDEX ON t (ssn)", "customers.ssn"],
    ["CREATE TEMP TABLE t AS SELECT ssn FROM customers", "CREATE INDEX ON t (upper(ssn))", "customers.ssn"],
    ["CREATE TEMP TABLE t AS SELECT id, ssn FROM customers", "CREATE INDEX ON t (id)", ""],
    ["CREATE TEMP TABLE t AS SELECT ssn FROM customers", "ALTER TABLE t ADD CHECK (ssn > '5')", "customers.ssn"],
    ["CREATE TEMP TABLE t AS SELECT ssn FROM customers", "ALTER TABLE t ALTER ssn TYPE int USING length(ssn)", "customers.ssn"],
    ["CREATE TEMP TABLE t AS SELECT ssn FROM customers", "ALTER TABLE t ALTER ssn SET NOT NULL", "customers.ssn"],
    ["CREATE TEMP TABLE t (x text)", "ALTER TABLE t ADD CHECK (x > '5')", ""],
  ])("%s; %s tells about %s", (before, sql, expected) => {
    expect(tells(model(sql, after(before)))).toBe(expected);
  });
});

describe("names", () => {
  const shadow = after("CREATE TEMP TABLE customers (ssn text, id int)");

  it("mean the temporary relation until it is dropped", () => {
    expect(read("SELECT upper(ssn), id FROM customers", shadow)).toBe("upper:; id:");
    expect(model("SELECT ssn FROM customers", shadow).relations).toEqual([{ name: "pg_temp.customers", access: "read" }]);
    expect(read("SELECT ssn FROM public.customers", shadow)).toBe("ssn: customers.ssn!");
    expect(model("DROP TABLE customers", shadow)).toMatchObject({
      relations: [{ name: "pg_temp.customers", access: "ddl" }],
      changesCatalog: false,
    });
    expect(model("DROP TABLE customers", shadow).scopeChanges).toEqual([
      { kind: "temporary", name: "customers", relation: null },
    ]);
  });

  it.each<[string, SessionScope]>([
    ["path not known", { ...shadow, path: null }],
    ["listed later", { ...shadow, path: ["pg_catalog", "public", "pg_temp"] }],
    ["dropped at commit", after("CREATE TEMP TABLE customers (ssn text, id int) ON COMMIT DROP")],
    ["lost", { ...shadow, lost: ["DO"] }],
  ])("mean both where it cannot be told: %s", (_why, scope) => {
    expect(model("SELECT upper(ssn) FROM customers", scope).columns![0]!.origins).toEqual(
      expect.arrayContaining(["public.customers.ssn"]),
    );
  });

  it("are changed by ALTER, and follow it", () => {
    const made = "CREATE TEMP TABLE t AS SELECT id, ssn FROM customers";
    expect(read("SELECT x FROM t", after(made, "ALTER TABLE t RENAME COLUMN ssn TO x"))).toBe("x: customers.ssn!");
    expect(read("SELECT ssn FROM u", after(made, "ALTER TABLE t RENAME TO u"))).toBe("ssn: customers.ssn!");
    expect(read("SELECT ssn FROM t", after(made, "ALTER TABLE t RENAME TO u"))).toBe("ssn: *");
    expect(read("SELECT * FROM t", after(made, "ALTER TABLE t ADD COLUMN more text, DROP COLUMN id"))).toBe(
      "ssn: customers.ssn!; more:",
    );
    expect(
      read(
        "SELECT upper(code) FROM customers",
        after(made, "CREATE TEMP TABLE x AS TABLE countries", "ALTER TABLE x RENAME TO customers"),
      ),
    ).toBe("upper: countries.code");
  });

  it("of what is made twice only when it is not there, stay what they are", () => {
    const scope = after("CREATE TEMP TABLE t AS SELECT ssn FROM customers", "CREATE TEMP TABLE IF NOT EXISTS t (ssn text)");
    expect(read("SELECT ssn FROM t", scope)).toBe("ssn: customers.ssn!");
  });

  it.each([
    ["CREATE TEMP TABLE t () INHERITS (countries)", true],
    ["CREATE TEMP TABLE t (a text REFERENCES p ON UPDATE CASCADE)", true],
    ["CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION audit()", true],
    ["CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING", true],
    ["ALTER TABLE t INHERIT countries", true],
    ["DROP TABLE pg_temp_3.t", false],
    ["INSERT INTO v VALUES ((SELECT ssn FROM customers LIMIT 1))", false],
    ["DROP OWNED BY me", false],
  ])("%s cannot be followed", (sql, undecided) => {
    const scope = after("CREATE TEMP TABLE t (code text)", "CREATE TEMP VIEW v AS SELECT label FROM countries");
    const { scopeChanges, undecided: found } = model(sql, scope);
    expect(scopeChanges.filter(({ kind }) => kind === "lost")).not.toEqual([]);
    expect(found.length > 0).toBe(undecided);
  });

  it("of what a CASCADE may have taken along are in doubt", () => {
    const scope = after(
      "CREATE TEMP TABLE t (a text)",
      "CREATE TEMP VIEW customers AS SELECT a AS ssn FROM t",
      "DROP TABLE t CASCADE",
    );
    expect(model("SELECT upper(ssn) FROM customers", scope).columns![0]!.origins).toContain("public.customers.ssn");
  });
});

describe("views of a session", () => {
  it("show what is in temporary tables by now", () => {
    const made = ["CREATE TEMP TABLE t (id int, a text)", "CREATE VIEW v AS SELECT a, id FROM t"];
    expect(relationAfter("v", ...made)).toMatchObject({ kind: "view", reads: ["pg_temp.t"] });
    expect(read("SELECT a FROM v", after(...made))).toBe("a:");
    expect(read("SELECT a FROM v", after(...made, "INSERT INTO t (a) SELECT ssn FROM customers"))).toBe("a: customers.ssn");
    const renamed = after(...made, "ALTER TABLE t RENAME TO u", "INSERT INTO u (a) SELECT ssn FROM customers");
    expect(read("SELECT a FROM v", renamed)).toBe("a: customers.ssn");
    const twice = after(...made, "CREATE TEMP VIEW w AS SELECT a FROM v", "INSERT INTO t (a) SELECT ssn FROM customers");
    expect(read("SELECT a FROM w", twice)).toBe("a: customers.ssn");
  });

  it("are exact where they show a column as it is, and count as reading what is behind them", () => {
    const scope = after("CREATE TEMP VIEW v(x) AS SELECT ssn FROM customers");
    expect(read("SELECT x FROM v", scope)).toBe("x: customers.ssn!");
    expect(model("SELECT x FROM v", scope).relations).toEqual([
      { name: "pg_temp.v", access: "read" },
      { name: "public.customers", access: "read" },
    ]);
    expect(model("SELECT x FROM v", scope)).toMatchObject({ bulkExport: true, bulkRelations: ["public.customers"] });
    expect(model("CREATE TEMP VIEW v AS SELECT id FROM customers WHERE ssn > '5'").influences).toEqual([
      { column: "public.customers.ssn", form: "other" },
    ]);
  });

  it("that are gone may still be read by an open portal", () => {
    const scope = after(
      "CREATE TEMP VIEW v AS SELECT upper(ssn) AS x FROM customers",
      "DROP VIEW v",
      "CREATE TEMP VIEW v AS SELECT 'k' AS x",
    );
    expect(model("SELECT x FROM v", scope).columns![0]!.origins).toEqual(["public.customers.ssn"]);
    const replaced = after(
      "CREATE TEMP VIEW v AS SELECT upper(ssn) AS x FROM customers",
      "CREATE OR REPLACE TEMP VIEW v AS SELECT 'k' AS x",
    );
    expect(read("SELECT x FROM v", replaced)).toBe("x: customers.ssn");
    expect(relationAfter("v", "CREATE TEMP VIEW v AS SELECT 1 AS x", "DROP VIEW v")).toBeUndefined();
  });
});

it("an EXECUTE adds to what a relation holds now", () => {
  const prepared = model("PREPARE p AS INSERT INTO t VALUES ($1)", after("CREATE TEMP TABLE t (x text)"));
  const [change] = prepared.scopeChanges;
  const scope = after("CREATE TEMP TABLE t (x text)", "INSERT INTO t SELECT ssn FROM customers");
  const prepare = change?.kind === "prepare" ? { p: change.model } : {};
  for (const later of model("EXECUTE p('a')", { ...scope, prepared: prepare }).scopeChanges) {
    expect(later).toMatchObject({ kind: "temporary", relation: { origins: ["public.customers.ssn"] } });
  }
  const select = model("PREPARE q AS SELECT upper(ssn) FROM customers", after()).scopeChanges[0];
  const shadowed = {
    ...after("CREATE TEMP TABLE customers (ssn text)"),
    prepared: select?.kind === "prepare" ? { q: select.model } : {},
  };
  expect(model("EXECUTE q", shadowed).columns).toMatchObject([{ origins: ["*", "public.customers.ssn"] }]);
});

it("what is stored while a definition changes may be anything", () => {
  const scope = after("CREATE TEMP TABLE t (x text)");
  const [stored] = unsure(model("CREATE TEMP TABLE u AS SELECT label FROM countries", scope)).scopeChanges;
  expect(stored).toMatchObject({
    relation: { columns: [{ name: "label", origins: ["*", "public.countries.label"], exact: false }] },
  });
  const [made] = unsure(model("CREATE TEMP TABLE u (x text)", scope)).scopeChanges;
  expect(made).toMatchObject({ relation: { columns: [{ name: "x", origins: [] }] } });
});
