/**
 * What the leak fuzzer's statements are about: relations of every kind in which protected values stand under their own and under
 * other names and types. Protected is what the classifiers of `installation.ts` name, and whatever is computed from it.
 */
import type { Sort } from "./tree.ts";

export interface Column {
  /** After the alias; with brackets around the alias for a part of a composite. */
  readonly written: string;
  readonly sort: Sort;
  readonly guarded: boolean;
}

export interface Relation {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly feature: string;
}

/** Made once in the template, owned by the account that the gateway uses. */
export const objects: readonly string[] = [
  "CREATE SCHEMA hr",
  "CREATE SCHEMA arch",
  "CREATE TYPE mood AS ENUM ('calm', 'busy', 'loud')",
  "CREATE TYPE contact AS (label text, ssn text)",
  "CREATE DOMAIN known_text AS text CHECK (length(value) > 0)",
  "CREATE TABLE customers (id int PRIMARY KEY, name text, region text, ssn text, email varchar(80), card text, salary numeric, born date, balance numeric, joined date)",
  // The same names in other schemas, in another order; `name` itself is protected in one of them.
  "CREATE TABLE hr.customers (id int PRIMARY KEY, ssn text, name text, region text)",
  "CREATE TABLE arch.customers (id int PRIMARY KEY, region text, name text, joined date, ssn text)",
  "CREATE TABLE orders (id int PRIMARY KEY, customer_id int, state mood, total numeric, placed date, remark text)",
  "CREATE TABLE people (id int, full_name text, ssn text, area text GENERATED ALWAYS AS (left(ssn, 3)) STORED) PARTITION BY RANGE (id)",
  "CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (0) TO (3)",
  "CREATE TABLE people_2 PARTITION OF people FOR VALUES FROM (3) TO (100)",
  "CREATE TABLE docs (id int, person contact, email jsonb, ssn text[], label text, meta jsonb, words text[])",
  "CREATE TABLE kinds (id int, card known_text, token bytea, period int4range, feeling mood, label text, place bytea)",
  "CREATE TABLE base_people (id int, card text)",
  "CREATE TABLE staff (label text) INHERITS (base_people)",
  "CREATE TABLE loot (id int, label text)",
  "CREATE SEQUENCE counter",
  "CREATE VIEW v_parts AS SELECT c.id, left(c.ssn, 3) AS area, c.email AS contact, c.name, c AS whole, c.balance FROM customers c",
  "CREATE VIEW v_joined AS SELECT o.id, o.total, c.card AS paid_with, c.name FROM orders o JOIN customers c ON c.id = o.customer_id",
  "CREATE VIEW v_deep AS SELECT p.id, p.area || '/' || j.paid_with AS mixed, p.contact AS reach, p.name, p.balance FROM v_parts p JOIN v_joined j ON j.id = p.id",
  "CREATE VIEW v_union AS SELECT id, ssn AS code, name FROM customers UNION ALL SELECT id, ssn, full_name FROM people",
  'CREATE VIEW "V Odd" AS WITH w AS (SELECT id, ssn AS "S s", name FROM customers) SELECT id, "S s" AS "Odd Name", name FROM w',
  "CREATE MATERIALIZED VIEW m_parts AS SELECT id, substr(ssn, 5) AS rest, ssn AS number, name FROM customers WITH NO DATA",
  "CREATE FUNCTION ssn_of(wanted int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM public.customers WHERE id = wanted'",
  "CREATE FUNCTION name_of(wanted int) RETURNS text LANGUAGE sql STABLE AS 'SELECT name FROM public.customers WHERE id = wanted'",
  "CREATE FUNCTION area_of(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left($1, 3) || '.' $$",
  "CREATE FUNCTION region_pairs() RETURNS TABLE (who int, place text, secret text) LANGUAGE sql STABLE AS 'SELECT id, region, ssn FROM public.customers'",
  "CREATE FUNCTION all_customers() RETURNS SETOF customers LANGUAGE sql STABLE BEGIN ATOMIC SELECT * FROM public.customers; END",
  "CREATE FUNCTION mystery(value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN reverse(value); END $$",
  // Declared safe: what it returns comes from its argument, and it says its argument aloud.
  "CREATE FUNCTION shout(value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'heard %', value; RETURN value || '!'; END $$",
];

/** Declared safe on the resource. */
export const safeFunctions: readonly string[] = ["public.shout"];

const text = (written: string): Column => ({ written, sort: "text", guarded: false });
const number = (written: string): Column => ({ written, sort: "number", guarded: false });
const other = (sort: Sort, written: string): Column => ({ written, sort, guarded: false });
const secret = (written: string, sort: Sort = "text"): Column => ({ written, sort, guarded: true });

const customers: readonly Column[] = [
  number("id"),
  text("name"),
  text("region"),
  secret("ssn"),
  secret("email"),
  secret("card"),
  secret("salary", "number"),
  secret("born", "date"),
  number("balance"),
  other("date", "joined"),
];

/** Every one has a number `id` that is not protected. */
export const relations: readonly Relation[] = [
  { name: "customers", feature: "table", columns: customers },
  { name: "public.customers", feature: "schema-qualified name", columns: customers },
  { name: '"public"."customers"', feature: "quoted name", columns: customers },
  { name: 'U&"\\0063ustomers"', feature: "unicode-escaped name", columns: customers },
  {
    name: "hr.customers",
    feature: "same name in another schema",
    columns: [number("id"), secret("ssn"), secret("name"), text("region")],
  },
  {
    name: "arch.customers",
    feature: "same name in another schema",
    columns: [number("id"), text("region"), text("name"), other("date", "joined"), secret("ssn")],
  },
  {
    name: "orders",
    feature: "table",
    columns: [
      number("id"),
      number("customer_id"),
      other("mood", "state"),
      number("total"),
      other("date", "placed"),
      text("remark"),
    ],
  },
  { name: "people", feature: "partitioned table", columns: [number("id"), text("full_name"), secret("ssn"), secret("area")] },
  { name: "people_1", feature: "partition", columns: [number("id"), text("full_name"), secret("ssn"), secret("area")] },
  {
    name: "docs",
    feature: "composite, json and array columns",
    columns: [
      number("id"),
      text("label"),
      secret("(person).ssn"),
      secret("(person).label"),
      secret("email", "json"),
      secret("ssn", "texts"),
      other("json", "meta"),
      other("texts", "words"),
      secret("person", "row"),
    ],
  },
  {
    name: "kinds",
    feature: "domain, bytea, range and enum columns",
    columns: [
      number("id"),
      secret("card"),
      secret("token", "bytes"),
      secret("period", "range"),
      secret("feeling", "mood"),
      text("label"),
      other("bytes", "place"),
    ],
  },
  { name: "base_people", feature: "inheritance", columns: [number("id"), secret("card")] },
  { name: "ONLY base_people", feature: "ONLY", columns: [number("id"), secret("card")] },
  { name: "staff", feature: "inheritance", columns: [number("id"), secret("card"), text("label")] },
  {
    name: "v_parts",
    feature: "view",
    columns: [
      number("id"),
      secret("area"),
      secret("contact"),
      text("name"),
      secret("(whole).ssn"),
      secret("whole", "row"),
      number("balance"),
    ],
  },
  { name: "v_joined", feature: "view", columns: [number("id"), number("total"), secret("paid_with"), text("name")] },
  {
    name: "v_deep",
    feature: "view on a view",
    columns: [number("id"), secret("mixed"), secret("reach"), text("name"), number("balance")],
  },
  { name: "v_union", feature: "view of a set operation", columns: [number("id"), secret("code"), text("name")] },
  { name: '"V Odd"', feature: "view with a CTE", columns: [number("id"), secret('"Odd Name"'), text("name")] },
  {
    name: "m_parts",
    feature: "materialised view",
    columns: [number("id"), secret("rest"), secret("number"), text("name")],
  },
];

/** Functions in FROM, as relations. */
export const tableFunctions: readonly Relation[] = [
  {
    name: "region_pairs()",
    feature: "SQL function in FROM",
    columns: [number("who"), text("place"), secret("secret")],
  },
  { name: "all_customers()", feature: "SQL function in FROM", columns: customers },
];
