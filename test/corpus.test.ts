/** The corpus command over scripts of our own: what psql would send of a script, and what is counted. */
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { emptyScope } from "@sluice/inspect/sql/scope.ts";
import { loadModule, parseSync } from "libpg-query";
import { beforeAll, expect, it } from "vitest";
import { index } from "@sluice/inspect/sql/postgres/testing.ts";
import { splitPsqlScript } from "./corpus/psql-script.ts";
import { reportOf } from "./corpus/report.ts";
import { compareColumns, noColumns } from "./corpus/server-compare.ts";
import { corpusSettings, tallyScripts } from "./corpus/tally.ts";

beforeAll(loadModule);

const texts = (script: string): readonly string[] => splitPsqlScript(script).map(({ text }) => text);

it.each([
  ["two statements", "SELECT 1; SELECT 2;", ["SELECT 1;", "SELECT 2;"]],
  ["no last semicolon", "SELECT 1;\nSELECT 2\n", ["SELECT 1;", "SELECT 2"]],
  ["strings and names", `SELECT ';', ";", E'\\';', 'it''s;';`, [`SELECT ';', ";", E'\\';', 'it''s;';`]],
  ["a name that ends in e", "SELECT file';';", ["SELECT file';';"]],
  ["comments", "SELECT 1 -- ;\n, 2 /* ; /* ; */ ; */;", ["SELECT 1 -- ;\n, 2 /* ; /* ; */ ; */;"]],
  ["nothing but comments", "-- one;\n/* two; */\n;\n", []],
  ["dollar quotes", "DO $x$ BEGIN; $$ ; $x$; SELECT a$b$;", ["DO $x$ BEGIN; $$ ; $x$;", "SELECT a$b$;"]],
  [
    "brackets",
    "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3;",
    ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);", "SELECT 3;"],
  ],
  [
    "SQL bodies",
    "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3;",
    ["CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;", "SELECT 3;"],
  ],
  [
    "backslash commands",
    "\\d t\nSELECT 1 \\gset\nSELECT 2 AS a \\; SELECT 3;\nSELECT \\r\nSELECT 4;",
    ["SELECT 1", "SELECT 2 AS a ; SELECT 3;", "SELECT 4;"],
  ],
  ["data", "COPY t FROM stdin;\n1\t';\n\\.\nSELECT 1;", ["COPY t FROM stdin;", "SELECT 1;"]],
  [
    "no data after a COPY that fails",
    "COPY t (x) FROM STDIN;\nSELECT 1;\nCOPY t FROM STDIN;\n1\n\\.\n",
    ["COPY t (x) FROM STDIN;", "SELECT 1;", "COPY t FROM STDIN;"],
  ],
  [
    "variables",
    "\\set n 5\n\\set f '/x/y'\nSELECT :n, :'f', :\"n\", a[1:2], x::int, ':n';",
    [`SELECT 5, '/x/y', "5", a[1:2], x::int, ':n';`],
  ],
])("%s", (_, script, expected) => {
  expect(texts(script)).toEqual(expected);
});

it("knows what psql's own commands say about a statement", () => {
  const script = String.raw`\getenv dir PG_ABS_SRCDIR
\set file :dir '/data/x.data'
COPY t FROM :'file';
COPY t FROM stdin;
1	a
2	\.b
\.
SELECT 1 AS n \gset
\c - somebody
SELECT 2;
\connect
SELECT 3;`;
  expect(splitPsqlScript(script, { PG_ABS_SRCDIR: "/src" })).toEqual([
    { text: "COPY t FROM '/src/data/x.data';", line: 3 },
    { text: "COPY t FROM stdin;", line: 4, data: "1\ta\n2\t\\.b\n" },
    { text: "SELECT 1 AS n", line: 8, sentBy: "gset" },
    { text: "SELECT 2;", line: 10, connected: { user: "somebody" } },
    { text: "SELECT 3;", line: 12, connected: { user: null } },
  ]);
});

it("knows the line of each", () => {
  expect(splitPsqlScript("-- a\n\nSELECT\n1;\n\nSELECT 2;").map(({ line }) => line)).toEqual([3, 6]);
});

it("is tallied without a crash, every reason for not knowing named", () => {
  const script = `
    SELECT ssn, upper(name), (SELECT 1) FROM customers WHERE id = 1;
    DECLARE c CURSOR FOR SELECT ssn FROM customers; FETCH ALL FROM c; CLOSE c; FETCH c;
    PREPARE p AS DELETE FROM orders; EXECUTE p; DO 'x'; SELEC 1; SELECT leak('x'), nobody(1);
    COPY countries FROM stdin;\n1\t;\n\\.\nVACUUM \\gexec\n`;
  const tally = tallyScripts([{ name: "own.sql", text: script }], index);
  expect(tally.crashes).toEqual([]);
  expect([...tally.classes].sort(([a], [b]) => (a < b ? -1 : 1))).toEqual([
    ["admin", 1],
    ["read", 4],
    ["session", 1],
    ["unknown", 2],
    ["unparsed", 1],
    ["write", 3],
  ]);
  expect([...tally.unknown]).toEqual([
    ["fetch: cursor", ["own.sql:3"]],
    ["do: DO", ["own.sql:4"]],
  ]);
  expect(tally.columns).toMatchObject({ exact: 2, derived: 1, clean: 1 });
  expect(reportOf("own", tally)).toContain("| do: DO | 1 | own.sql:4 |");
});

const customers = index.find("public", "customers")[0]!;
const column = (name: string): { readonly name: string; readonly tableOid: number; readonly column: number } => ({
  name,
  tableOid: customers.oid,
  column: customers.columns.find((each) => each.name === name)!.number,
});
const none = { name: "ssn", tableOid: 0, column: 0 };

it.each([
  ["the very column", "SELECT ssn, name FROM customers", [column("ssn"), column("name")], []],
  ["another column", "SELECT ssn, name FROM customers", [column("ssn"), { ...column("ssn"), name: "name" }], ["origin"]],
  ["less than the wire", "SELECT 1 AS ssn", [column("ssn")], ["origin"]],
  ["derived from it", "SELECT upper(ssn) AS ssn FROM customers", [column("ssn")], []],
  ["unknown", "SELECT leak('x') AS ssn", [column("ssn")], []],
  ["another name", "SELECT ssn FROM customers", [{ ...column("ssn"), name: "SSN" }], ["names"]],
  ["another number", "SELECT ssn FROM customers", [none, none], ["count"]],
  ["no rows expected", "DELETE FROM customers", [column("ssn")], []],
  ["not named by the wire", "SELECT ssn FROM customers", [none], []],
])("what the server says is held against the model: %s", (_, text, fields, kinds) => {
  const analysis = analyse(parseSync, text, index, emptyScope, corpusSettings);
  const model = analysis.kind === "ok" ? analysis.statements[0]! : undefined;
  expect(compareColumns(model!, fields, index, noColumns(), () => {}).map(({ kind }) => kind)).toEqual(kinds);
});
