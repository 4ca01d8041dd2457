/**
 * Code that runs though no statement names it, on real servers: each of these functions says a protected value aloud when it runs. A
 * masked caller's statement is refused for each, and statements beside them are not.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type pg from "pg";
import { type Orders, startOrders } from "./support/orders.ts";
import { markersOf, planted, writersPolicy } from "./support/orders-schema.ts";
import { targetVersions } from "./support/targets.ts";

/** Sees the last four. */
const partsPolicy = writersPolicy
  .replaceAll("writers", "parts")
  .replace("operator: redact", "operator: { partial: { keepLast: 4 } }");

const TELLS = "BEGIN RAISE NOTICE 'told %', (SELECT string_agg(ssn, ' ') FROM public.customers);";
const telling = (signature: string, result: string, value: string, more = "IMMUTABLE"): string =>
  `CREATE FUNCTION ${signature} RETURNS ${result} LANGUAGE plpgsql ${more} AS $$ ${TELLS} RETURN ${value}; END $$`;

const SCHEMA = [
  "CREATE SCHEMA tools",
  "CREATE TYPE mood AS ENUM ('good', 'bad')",
  "CREATE TYPE grade AS (n int)",
  "CREATE TYPE shade AS ENUM ('dark', 'light')",
  telling("mood_text(mood)", "text", "'x'"),
  "CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood) AS IMPLICIT",
  telling("shade_int(shade)", "int", "1"),
  "CREATE CAST (shade AS int) WITH FUNCTION shade_int(shade) AS ASSIGNMENT",
  telling("big_json(bigint)", "jsonb", "'1'"),
  "CREATE CAST (bigint AS jsonb) WITH FUNCTION big_json(bigint)",
  telling("same(text, text)", "boolean", "true"),
  "CREATE OPERATOR tools.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = same)",
  telling("shade_le(shade, shade)", "boolean", "true"),
  "CREATE OPERATOR public.<= (LEFTARG = shade, RIGHTARG = shade, FUNCTION = shade_le)",
  telling("grade_lt(grade, grade)", "boolean", "true"),
  telling("grade_cmp(grade, grade)", "int", "0"),
  ...["<", "<=", "=", ">=", ">"].map(
    (name) => `CREATE OPERATOR tools.${name} (LEFTARG = grade, RIGHTARG = grade, FUNCTION = grade_lt)`,
  ),
  `CREATE OPERATOR CLASS grade_ops DEFAULT FOR TYPE grade USING btree AS OPERATOR 1 tools.<, OPERATOR 2 tools.<=, OPERATOR 3 tools.=,
    OPERATOR 4 tools.>=, OPERATOR 5 tools.>, FUNCTION 1 grade_cmp(grade, grade)`,
  telling("zip_ok(text)", "boolean", "true"),
  "CREATE DOMAIN zip AS text CHECK (zip_ok(VALUE))",
  "CREATE DOMAIN plain AS text",
  "CREATE TABLE people (id int PRIMARY KEY, feeling mood, tone shade, mark grade, size int)",
  "CREATE TABLE addresses (id int PRIMARY KEY, code zip)",
  telling("mine(int)", "boolean", "true", "STABLE"),
  "CREATE TABLE guarded (id int)",
  "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
  "CREATE POLICY own ON guarded USING (mine(id))",
  telling("half(int)", "int", "1"),
  "CREATE TABLE indexed (id int)",
  "CREATE INDEX ON indexed (half(id)) WHERE half(id) > 0",
  "CREATE TABLE counted (id int, other int)",
  "CREATE STATISTICS counted_half ON half(id), other FROM counted",
  "CREATE TABLE parted (id int) PARTITION BY RANGE (half(id))",
  "CREATE TABLE part PARTITION OF parted DEFAULT",
  "CREATE TABLE sliced (id int) PARTITION BY RANGE (id)",
  "CREATE TABLE slice PARTITION OF sliced DEFAULT",
  telling("fires()", "trigger", "NEW", ""),
  "CREATE TRIGGER fires BEFORE INSERT OR UPDATE ON slice FOR EACH ROW EXECUTE FUNCTION fires()",
  "CREATE TABLE heads (id int PRIMARY KEY)",
  "CREATE TABLE tails (id int REFERENCES heads ON DELETE CASCADE)",
  telling("fires_gone()", "trigger", "OLD", ""),
  "CREATE TRIGGER gone BEFORE DELETE ON tails FOR EACH ROW EXECUTE FUNCTION fires_gone()",
  "CREATE TABLE ruled (id int)",
  "CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT ssn FROM customers",
  "CREATE TABLE computed (id int, twice int GENERATED ALWAYS AS (half(id)) STORED, third int DEFAULT half(3), CHECK (half(id) > 0))",
  telling("add_up(int, int)", "int", "1"),
  "CREATE AGGREGATE total (int) (SFUNC = add_up, STYPE = int)",
  `CREATE PROCEDURE tidies() LANGUAGE plpgsql AS $$ ${TELLS} END $$`,
  telling("pg_catalog.added_later(int)", "int", "1"),
  "CREATE EXTENSION citext",
  "CREATE EXTENSION hstore",
  "CREATE TABLE kinds (id int, ssn citext, email mood, card plain, tags hstore)",
  `INSERT INTO kinds VALUES (1, '${planted[0]!.ssn}', 'good', '${planted[0]!.card}', 'a=>1')`,
  "INSERT INTO people VALUES (1, 'good', 'dark', ROW(1), 1)",
];
const EVENT = [
  telling("on_ddl()", "event_trigger", "", "").replace("RETURN ;", ""),
  "CREATE EVENT TRIGGER told ON ddl_command_start EXECUTE FUNCTION on_ddl()",
];

const REFUSED: readonly (readonly [what: string, sql: string, says: string])[] = [
  ["implicit casts of a user's type", "SELECT lower(feeling) FROM people", "public.mood_text"],
  ["implicit casts in a comparison", "SELECT id FROM people WHERE feeling = 'a'::text", "public.mood_text"],
  ["implicit casts of what comes with a row", "SELECT lower(p.feeling) FROM (SELECT * FROM people) p", "public.mood_text"],
  ["casts on assignment", "UPDATE people SET size = tone", "public.shade_int"],
  ["explicit casts between the server's types", "SELECT id::bigint::jsonb FROM customers", "public.big_json"],
  ["explicit casts of arrays", "SELECT ARRAY[1::bigint]::jsonb[]", "public.big_json"],
  ["operators by schema", "SELECT id FROM customers WHERE ssn OPERATOR(tools.===) 'x'", "operator tools.==="],
  ["operators that BETWEEN stands for", "SELECT id FROM people WHERE tone BETWEEN 'dark' AND 'light'", "operator public.<="],
  ["orders of a user's type", "SELECT id FROM people ORDER BY mark", "type public.grade"],
  ["groups of a user's type", "SELECT count(*) FROM people GROUP BY mark", "type public.grade"],
  ["the largest of a user's type", "SELECT GREATEST(mark, mark) IS NULL FROM people", "type public.grade"],
  ["domains' checks in a cast", "SELECT ssn::zip IS NULL FROM customers", "type public.zip"],
  ["domains' checks in a write", "INSERT INTO addresses SELECT 1, 'x'", "type public.zip"],
  ["policies of rows", "SELECT id FROM guarded", "public.mine"],
  ["index expressions", "INSERT INTO indexed VALUES (1)", "public.half"],
  ["statistics", "ANALYZE counted", "public.half"],
  ["partition keys", "INSERT INTO parted VALUES (1)", "public.half"],
  ["triggers of partitions", "INSERT INTO sliced VALUES (1)", "public.fires"],
  ["triggers behind a cascade", "DELETE FROM heads", "public.fires_gone"],
  ["rules", "INSERT INTO ruled VALUES (1)", "rule public.ruled.also"],
  ["defaults, checks and generated columns", "INSERT INTO computed (id) VALUES (1)", "public.half"],
  ["aggregates", "SELECT total(id) FROM customers", "public.total"],
  ["procedures", "CALL tidies()", "public.tidies"],
  ["functions added to the server's schema", "SELECT added_later(id) FROM customers", "pg_catalog.added_later"],
  ["event triggers", "CREATE TABLE made (id int)", "public.on_ddl"],
];

const PERMITTED: readonly string[] = [
  "SELECT id, feeling, tone FROM people ORDER BY id",
  "SELECT id FROM people WHERE id = 1",
  "SELECT id FROM people WHERE size BETWEEN 1 AND 2 ORDER BY size",
  "SELECT id FROM customers WHERE name = 'x' AND id >= 1 AND name LIKE 'c%'",
  "SELECT count(*) FROM indexed",
  "SELECT id, other FROM counted",
  "SELECT code FROM addresses",
  "SELECT id FROM ruled",
  "SELECT tags FROM kinds WHERE tags IS NOT NULL",
];

describe.each(targetVersions)("hidden code, against PostgreSQL %s", (version) => {
  let orders: Orders;
  let writer: pg.Client;
  let parts: pg.Client;
  const heard: string[] = [];
  beforeAll(async () => {
    orders = await startOrders({ version, manifests: (text) => text + writersPolicy + partsPolicy });
    await orders.target.admin("orders", async (admin) => {
      for (const sql of SCHEMA) await admin.query(sql);
      await admin.query("GRANT ALL ON ALL TABLES IN SCHEMA public TO orders_app; GRANT USAGE ON SCHEMA tools TO orders_app");
      for (const sql of EVENT) await admin.query(sql);
    });
    writer = await orders.connect(await orders.sluice.token("will", ["writers"]));
    parts = await orders.connect(await orders.sluice.token("petra", ["parts"]));
    writer.on("notice", (notice) => heard.push(String(notice.message)));
  });
  afterAll(async () => {
    await writer?.end();
    await parts?.end();
    await orders?.stop();
  });

  it.each(REFUSED)("%s", async (_, sql, says) => {
    const error = await writer.query(sql).then(
      () => undefined,
      (refusal: pg.DatabaseError) => refusal,
    );
    expect(error).toMatchObject({ code: "42501" });
    expect(`${error?.message} ${error?.detail}`).toContain(says);
    for (const marker of markersOf(planted)) expect(heard.join("\n")).not.toContain(marker);
  });

  it.each(PERMITTED)("permits %s", async (sql) => {
    await writer.query(sql);
    expect(heard).toEqual([]);
  });

  it("shows of each kind of type what is a value of it", async () => {
    const sql = "SELECT ssn, email, card FROM kinds";
    expect((await writer.query(sql)).rows).toEqual([{ ssn: "****", email: null, card: "****" }]);
    expect((await parts.query(sql)).rows).toEqual([{ ssn: "***-**-9382", email: null, card: "************1881" }]);
  });
});
