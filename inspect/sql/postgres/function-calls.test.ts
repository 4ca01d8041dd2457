/** Calls of functions in language SQL: followed into their bodies with the arguments' values, by the names that count there. */
import type { CatalogFunction, FunctionArgument, FunctionBody, FunctionSignature } from "@sluice/core/catalog.ts";
import { parseSync } from "libpg-query";
import { describe, expect, it } from "vitest";
import { indexCatalog } from "../catalog-index.ts";
import type { SessionScope, StatementModel } from "../model.ts";
import { emptyScope } from "../scope.ts";
import { analyse } from "./analyse.ts";
import { catalog, settings, short } from "./testing.ts";

const CUSTOMER = "customers.card, customers.email, customers.id, customers.name, customers.notes, customers.ssn";
const customersOid = catalog.relations.find(({ name }) => name === "customers")!.oid;
let nextOid = 90_000;

/** `wanted:in x:out`; `text` is the body. */
function sql(
  name: string,
  args: string,
  text: string,
  more: Partial<FunctionSignature> & Partial<Omit<FunctionBody, "text">> & { readonly schema?: string } = {},
): CatalogFunction {
  const { schema, names, searchPath, ...signature } = more;
  const list = args === "" ? [] : args.split(" ");
  return {
    schema: schema ?? "public",
    name,
    language: "sql",
    volatility: "volatile",
    kind: "function",
    signature: {
      oid: nextOid++,
      arguments: list.map((arg): FunctionArgument => {
        const [argument = "", mode = "in"] = arg.split(":");
        return { name: argument, typeOid: 25, mode: mode as FunctionArgument["mode"] }; // written a few lines below
      }),
      defaults: 0,
      returnTypeOid: 25,
      returnsSet: false,
      strict: false,
      securityDefiner: false,
      ...signature,
    },
    body: { text, names: names ?? "called", ...(searchPath === undefined ? {} : { searchPath }) },
  };
}

const functions: readonly CatalogFunction[] = [
  ...catalog.functions,
  sql("ssn_of", "wanted", "SELECT ssn FROM public.customers WHERE id = wanted", { securityDefiner: true }),
  sql("same", "", "SELECT 'x'"),
  sql("echo", "a", "SELECT $1"),
  sql("second", "a b", "SELECT second.b"),
  sql("picks", "ssn", "SELECT ssn FROM public.countries"),
  sql("shadowed", "code", "SELECT code FROM public.countries"),
  sql("through", "a", "SELECT public.echo(public.echo(a)) || 'x'"),
  sql("people_list", "", "SELECT id, ssn FROM public.customers", { returnsSet: true, returnTypeOid: 2249 }),
  sql("pairs", "x:out y:out", "SELECT name, ssn FROM public.customers", { returnsSet: true, returnTypeOid: 2249 }),
  sql("listed", "least a:table", "SELECT ssn FROM public.customers WHERE id > least", { returnsSet: true }),
  sql("whole", "", "SELECT * FROM public.customers", { returnsSet: true, returnsRowOf: customersOid }),
  sql("one_row", "", "SELECT c FROM public.customers c", { returnsSet: true, returnsRowOf: customersOid }),
  sql("spin", "a", "SELECT public.spin(a)"),
  sql("writes", "a", "INSERT INTO public.countries (code) VALUES (a) RETURNING code"),
  sql("keeps", "a", "INSERT INTO public.countries (code) SELECT ssn FROM public.customers", { returnTypeOid: 2278 }),
  sql("fills", "a", "INSERT INTO countries (code) VALUES (a) RETURNING 'x'"),
  sql("audited", "", "UPDATE public.accounts SET owner = 'x'; SELECT 'y'"),
  sql("makes", "", "CREATE TABLE public.t3 (a int); SELECT 'x'"),
  sql("sets", "", "SELECT pg_catalog.set_config('search_path', 'x', false)"),
  sql("broken", "", "SELECT FROM WHERE"),
  sql("leaks", "a", "SELECT public.leak(a)"),
  sql("reads_file", "", "SELECT pg_catalog.pg_read_file('x')"),
  sql("bound", "a", "BEGIN ATOMIC\n SELECT 1;\n SELECT lower(bound.a) FROM public.customers;\nEND", { names: "bound" }),
  sql("returned", "a", "RETURN ($1 || 'x'::text)", { names: "bound" }),
  sql("by_path", "", "SELECT id FROM orders"),
  sql("other_path", "", "SELECT id FROM orders", { searchPath: "archive" }),
  sql("defaulted", "a b", "SELECT b", { defaults: 1, defaultValues: "'x'::text" }),
  sql("unknown_default", "a b", "SELECT b", { defaults: 1 }),
  sql("calls_default", "a b", "SELECT b", { defaults: 1, defaultValues: "public.leak('x')" }),
  sql("gathers", "a rest:variadic", "SELECT rest[1]"),
  sql("nothing", "a", "SELECT 'x'", { strict: true }),
  sql("guess", "a", "SELECT 'yes' FROM public.customers WHERE ssn LIKE a"),
  sql("equal", "a", "SELECT name FROM public.customers WHERE ssn = a"),
  sql("field", "c", "SELECT c.ssn || $1.name"),
  sql("nested_query", "a", "SELECT (SELECT x FROM (SELECT a AS x) s)"),
  sql("over", "a", "SELECT $1", { schema: "evil" }),
  sql("over", "a b", "SELECT ssn FROM public.customers"),
  sql("upper", "a", "SELECT card FROM public.customers", { schema: "evil" }),
  sql("row_name", "c", "SELECT 'x' || (c).name"),
  sql("elsewhere_temp", "a", "SELECT a", { schema: "pg_temp" }),
];
const index = indexCatalog({ ...catalog, functions }, parseSync);

function model(text: string, scope: SessionScope = emptyScope): StatementModel {
  const analysis = analyse(parseSync, text, index, scope, settings);
  if (analysis.kind !== "ok") throw new Error(`${analysis.message}: ${text}`);
  return analysis.statements.at(-1)!;
}

function outputs(text: string, path: readonly string[] | null = null): string {
  const { columns, columnsKnown, undecided } = model(text, { ...emptyScope, path });
  const texts = (columns ?? []).map(({ name, origins, exact }) =>
    `${name}: ${origins.map(short).join(", ")}${exact ? "!" : ""}`.trimEnd(),
  );
  return `${columnsKnown ? "" : "? "}${texts.join("; ")}${undecided.length === 0 ? "" : ` | ${undecided.join(", ")}`}`;
}

describe("what a call returns", () => {
  it.each([
    ["SELECT ssn_of(1)", "ssn_of: customers.id, customers.ssn"],
    ["SELECT same()", "same:"],
    ["SELECT echo(ssn) FROM customers", "echo: customers.ssn"],
    ["SELECT echo('x') FROM customers", "echo:"],
    ["SELECT second(ssn, name) FROM customers", "second: customers.name"],
    ["SELECT second(b => ssn, a => name) FROM customers", "second: customers.ssn"],
    ["SELECT second(ssn, b => name) FROM customers", "second: customers.name"],
    // A column comes before a parameter of its name.
    ["SELECT picks(ssn) FROM customers", "picks: customers.ssn"],
    ["SELECT shadowed(ssn) FROM customers", "shadowed: countries.code"],
    ["SELECT through(ssn) FROM customers", "through: customers.ssn"],
    ["SELECT bound(name) FROM customers", "bound: customers.name"],
    ["SELECT returned(name) FROM customers", "returned: customers.name"],
    ["SELECT nested_query(name) FROM customers", "nested_query: customers.name"],
    ["SELECT defaulted(ssn) FROM customers", "defaulted:"],
    ["SELECT defaulted(name, ssn) FROM customers", "defaulted: customers.ssn"],
    ["SELECT unknown_default(name) FROM customers", "unknown_default: *"],
    ["SELECT calls_default(name) FROM customers", "calls_default: * | function public.leak"],
    ["SELECT gathers(name, card, ssn) FROM customers", "gathers: customers.card, customers.ssn"],
    ["SELECT nothing(ssn) FROM customers", "nothing: customers.ssn"],
    ["SELECT guess('1%')", "guess: customers.ssn"],
    ["SELECT equal('1')", "equal: customers.name, customers.ssn"],
    ["SELECT field(c) FROM customers c", `field: ${CUSTOMER}`],
    ["SELECT upper(echo(ssn)) FROM customers", "upper: customers.card, customers.ssn"],
    ["SELECT pg_catalog.upper(echo(ssn)) FROM customers", "upper: customers.ssn"],
    ["SELECT writes(ssn) FROM customers", "writes: countries.code, customers.ssn"],
    ["SELECT keeps('x')", "keeps:"],
    ["SELECT c.row_name FROM customers c", `row_name: ${CUSTOMER}`],
    ["SELECT (c).row_name FROM customers c", `row_name: ${CUSTOMER}`],
  ])("%s", (text, expected) => {
    expect(outputs(text)).toBe(expected);
  });

  it.each([
    ["SELECT * FROM people_list() AS t(a int, b text)", "a: customers.id; b: customers.ssn"],
    ["SELECT * FROM pairs()", "x: customers.name; y: customers.ssn"],
    ["SELECT p.x FROM pairs() p", "x: customers.name"],
    ["SELECT y FROM pairs() AS p(a)", "y: customers.ssn"],
    ["SELECT a FROM listed(1)", "a: customers.ssn"],
    ["SELECT * FROM listed(1) WITH ORDINALITY", "a: customers.ssn; ordinality:"],
    ["SELECT name FROM whole()", "name: customers.name"],
    ["SELECT * FROM one_row()", ["id", "name", "email", "ssn", "card", "notes"].map((name) => `${name}: ${CUSTOMER}`).join("; ")],
    ["SELECT * FROM ssn_of(1)", "ssn_of: customers.ssn"],
    ["SELECT * FROM ssn_of(1) s", "s: customers.ssn"],
    ["SELECT s FROM ssn_of(1) s", "s: customers.ssn"],
    ["SELECT * FROM ssn_of(1) s(v)", "v: customers.ssn"],
    [
      "SELECT * FROM customers c, LATERAL echo(c.card) e",
      "id: customers.id!; name: customers.name!; email: customers.email!; ssn: customers.ssn!; card: customers.card!; notes: customers.notes!; e: customers.card",
    ],
    ["SELECT (pairs()).x", "x: customers.name"],
    ["SELECT (pairs()).*", "x: customers.name; y: customers.ssn"],
    ["SELECT * FROM ROWS FROM (pairs(), generate_series(1, 2)) AS r", "x: customers.name; y: customers.ssn; generate_series:"],
  ])("%s", (text, expected) => {
    expect(outputs(text)).toBe(expected);
  });

  it.each([
    ["SELECT spin('x')", "spin: *"],
    ["SELECT makes()", "makes: * | function public.makes"],
    ["SELECT sets()", "sets: * | function public.sets"],
    ["SELECT broken()", "broken: * | function public.broken"],
    ["SELECT leaks(name) FROM customers", "leaks: *, customers.name | function public.leak"],
    ["SELECT elsewhere_temp('x')", "elsewhere_temp: * | function pg_temp.elsewhere_temp"],
    ["SELECT echo('a', 'b')", "echo: * | function echo"],
  ])("gives up: %s", (text, expected) => {
    expect(outputs(text)).toBe(expected);
  });
});

describe("which function, which relation", () => {
  it.each([
    [null, "SELECT by_path()", "by_path: archive.orders.id, orders.id"],
    [null, "SELECT other_path()", "other_path: archive.orders.id, orders.id"],
    [["pg_catalog", "public"], "SELECT over(card) FROM public.customers", "over: *, customers.card | function over"],
    [["pg_catalog", "evil"], "SELECT over(card) FROM public.customers", "over: customers.card"],
    [["pg_catalog", "public"], "SELECT upper(name) FROM public.customers", "upper: customers.name"],
    [["pg_catalog", "evil"], "SELECT upper(name) FROM public.customers", "upper: customers.card, customers.name"],
    [["pg_catalog", "public"], "SELECT lower(name) FROM public.customers", "lower: customers.name"],
    [["pg_catalog", "evil"], "SELECT lower(name) FROM public.customers", "lower: *, customers.name | function evil.lower"],
    [["pg_catalog", "evil"], "SELECT public.bound(name) FROM public.customers", "bound: customers.name"],
    [["pg_catalog", "public"], "SELECT evil.upper(name) FROM public.customers", "upper: customers.card"],
  ])("%j %s", (path, text, expected) => {
    expect(outputs(text, path)).toBe(expected);
  });
});

it("takes names for any relation's where the statement itself changes the path", () => {
  const path = ["pg_catalog", "archive"];
  expect(outputs("SELECT by_path() FROM public.countries", ["pg_catalog", "public"])).toBe("by_path: orders.id");
  expect(outputs("SELECT public.by_path()", path)).toBe("by_path: archive.orders.id");
  expect(outputs("SELECT set_config('search_path', 'public', false), public.by_path()", path)).toBe(
    "set_config:; by_path: archive.orders.id, orders.id",
  );
});

it("keeps what a body writes into a temporary relation under its labels", () => {
  const temporary = {
    countries: { kind: "table" as const, columns: [{ name: "code", origins: [], exact: false }], origins: [] },
  };
  const scope: SessionScope = { ...emptyScope, path: ["pg_catalog", "public"], temporary };
  const { scopeChanges, writeFlows } = model("SELECT fills(ssn) FROM customers", scope);
  const change = scopeChanges.find(({ kind }) => kind === "temporary");
  const stored = change?.kind === "temporary" ? change.relation?.columns?.[0]?.origins : undefined;
  expect(stored ?? writeFlows).toEqual(["public.customers.ssn"]);
});

describe("what a body does counts as the statement's own", () => {
  it("effects, relations, hidden code and escapes", () => {
    const written = model("SELECT writes('x')");
    expect(written.class).toBe("write");
    expect(written.effects.map(({ name }) => name)).toEqual(["select", "insert"]);
    expect(written.relations).toContainEqual({ name: "public.countries", access: "write" });
    expect(written.followed).toEqual(["public.writes"]);
    expect(model("SELECT audited()").undecided).toEqual(["trigger or default function public.audit on public.accounts"]);
    expect(model("SELECT reads_file()").escapes).toEqual(["pg_read_file"]);
    expect(model("SELECT ssn_of(1)").reaches).toContain("public.customers.ssn");
    expect(model("SELECT through('x')").followed).toEqual(["public.echo", "public.through"]);
    expect(model("SELECT 1").followed).toBeUndefined();
  });

  it("what flows into relations, and what rows are chosen by", () => {
    expect(model("SELECT writes(ssn) FROM customers").writeFlows).toEqual(["public.customers.ssn"]);
    expect(model("SELECT keeps('x')").writeFlows).toEqual(["public.customers.ssn"]);
    const asked = (text: string): unknown => model(text).influences.filter(({ column }) => column.endsWith("ssn"));
    expect(asked("SELECT * FROM guess('1%')")).toEqual([{ column: "public.customers.ssn", form: "other" }]);
    expect(asked("SELECT equal(left(name, 1)) FROM customers")).toEqual([{ column: "public.customers.ssn", form: "other" }]);
    expect(asked("SELECT * FROM whole()")).toEqual([]);
  });
});
