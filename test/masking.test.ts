/** What a masked caller sees, in every form the protocol has: never more than the mask, and never a session that stops working. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { markersOf, planted } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { targetVersions } from "./support/targets.ts";
import {
  bind,
  close,
  codeOf,
  describe as describeMessage,
  errorsOf,
  execute,
  flush,
  parse,
  query,
  rowsOf,
  shapeOf,
  sync,
  type WireMessage,
} from "./support/wire-messages.ts";

const MASKED = ["***-**-9382", "***-**-5462", "***-**-4077"];

describe.each(targetVersions)("masking, against PostgreSQL %s", (version) => {
  let orders: Orders;
  let raw: RawClient;
  beforeAll(async () => {
    orders = await startOrders({ version });
    await orders.target.admin("orders", async (client) => {
      await client.query("CREATE TYPE contact AS (who text, mail text)");
      await client.query(
        "CREATE TABLE shapes (id int PRIMARY KEY, home_email varchar(60), emails text[], doc jsonb, pan bigint, tax_ssn int, blob bytea, note text)",
      );
      const { ssn, email, card } = planted[0]!;
      await client.query("INSERT INTO shapes VALUES (1, $1::text, ARRAY[$1::text], $2, $3, 521449382, $4, $5)", [
        email,
        JSON.stringify({ mail: email, ssn }),
        card,
        Buffer.from(`ssn ${ssn}`),
        `write to ${email} or charge ${card}`,
      ]);
      await client.query("GRANT ALL ON shapes TO orders_app");
    });
  });
  afterAll(async () => {
    await raw?.end();
    await orders?.stop();
  });

  const connect = (token: string = orders.agent): Promise<RawClient> =>
    RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token });
  /** A connection kept for the tests that leave it as it was. */
  const shared = async (): Promise<RawClient> => (raw ??= await connect());
  const rows = async (sql: string): Promise<readonly (readonly (string | null)[])[]> => {
    const answers = await (await shared()).query(sql);
    expect(errorsOf(answers)).toEqual([]);
    return rowsOf(answers);
  };
  const refusal = async (sql: string, client?: RawClient): Promise<Readonly<Record<string, string>>> => {
    const answers = await (client ?? (await shared())).query(sql);
    expect(rowsOf(answers)).toEqual([]);
    expect(errorsOf(answers)).toHaveLength(1);
    return errorsOf(answers)[0]!;
  };
  const expectClean = (answers: readonly WireMessage[]): void => {
    const bytes = Buffer.concat(answers.map(({ body }) => body)).toString("latin1");
    for (const marker of markersOf(planted)) expect(bytes).not.toContain(marker);
  };

  it("shows the permitted part of an unmodified column, whatever it is called on the way", async () => {
    const sources = [
      "SELECT ssn FROM customers WHERE id < 4 ORDER BY id",
      "SELECT c.ssn AS harmless FROM customers AS c WHERE c.id < 4 ORDER BY c.id",
      "SELECT x FROM (SELECT id, ssn AS x FROM customers) AS t WHERE id < 4 ORDER BY id",
      "WITH c AS (SELECT id, ssn AS y FROM customers WHERE id < 4) SELECT y FROM c ORDER BY id",
      "SELECT t.b FROM customers AS t(a, n, m, b) WHERE a < 4 ORDER BY a",
    ];
    for (const sql of sources) expect(await rows(sql), sql).toEqual(MASKED.map((value) => [value]));
  });

  it("labels columns by name and through views", async () => {
    const [row] = await rows("SELECT contact FROM customer_contacts WHERE id = 1");
    expect(row![0]).toMatch(/\*{4,}/);
    const [shape] = await rows("SELECT home_email, pan, tax_ssn FROM shapes WHERE id = 1");
    expect(shape![0]).toMatch(/^\*+\.\*+@.*\.?org$/);
    expect(shape!.slice(1)).toEqual([null, null]);
  });

  it("gives derived values the constant or NULL", async () => {
    const derived = [
      "substr(ssn, 1, 4)",
      "ssn || ''",
      "reverse(ssn)",
      "upper(email)",
      "md5(ssn)",
      "coalesce(ssn, '')",
      "CASE WHEN true THEN ssn ELSE '' END",
      "encode(convert_to(ssn, 'UTF8'), 'hex')",
      "ssn::varchar(3)",
      "concat(id, ssn)",
      "left(card, 4)",
    ];
    const [row] = await rows(`SELECT ${derived.join(", ")} FROM customers WHERE id = 1`);
    expect(row).toEqual(derived.map(() => "****"));
    expect(await rows("SELECT length(ssn), ascii(ssn), ssn IS NULL FROM customers WHERE id = 1")).toEqual([[null, null, null]]);
    expect(await rows("SELECT min(ssn), max(ssn), count(ssn) FROM customers WHERE id < 3")).toEqual([["****", "****", "2"]]);
  });

  it("masks whole rows, arrays, json and composites that hold a protected column", async () => {
    const forms = [
      "SELECT to_jsonb(c) FROM customers c WHERE id = 1",
      "SELECT row_to_json(c) FROM customers c WHERE id = 1",
      "SELECT c FROM customers c WHERE id = 1",
      "SELECT ARRAY[ssn, email] FROM customers WHERE id = 1",
      "SELECT ROW(id, ssn) FROM customers WHERE id = 1",
      "SELECT json_build_object('a', ssn) FROM customers WHERE id = 1",
      "SELECT (c).ssn FROM customers c WHERE id = 1",
    ];
    const client = await shared();
    for (const sql of forms) {
      const answers = await client.query(sql);
      expectClean(answers);
      expect(shapeOf(answers), sql).toMatch(/^(T D C|E) Z$/);
    }
  });

  it("masks what detectors find in text that nobody declared", async () => {
    const [row] = await rows("SELECT notes FROM customers WHERE id = 1");
    expect(row![0]).toMatch(/^called about order; ssn \S+, card \S+, mail \S+$/);
    expect(row![0]).toContain("***-**-9382");
    const answers = await (await shared()).query("SELECT note, doc, emails FROM shapes WHERE id = 1");
    expectClean(answers);
    expect(rowsOf(answers)[0]![0]).toMatch(/^write to \S*\*\S* or charge \S*\*\S*$/);
    expect(() => void JSON.parse(rowsOf(answers)[0]![1]!)).not.toThrow();
  });

  it("masks binary results as text results", async () => {
    const client = await shared();
    const answers = await client.pipeline(
      parse(
        "",
        "SELECT ssn, email, notes, id, pan, doc FROM (SELECT c.*, s.pan, s.doc FROM customers c, shapes s) t WHERE id = 1",
      ),
      bind("", "", [], 1),
      execute(""),
    );
    expect(errorsOf(answers)).toEqual([]);
    expectClean(answers);
    const [row] = rowsOf(answers);
    expect(row![0]).toBe("***-**-9382");
    expect(Buffer.from(row![3]!, "latin1")).toEqual(Buffer.from([0, 0, 0, 1]));
    expect(row![4]).toBeNull();
  });

  it("leaves unprotected columns as they are", async () => {
    expect(await rows("SELECT id, name, balance FROM customers WHERE id = 2")).toEqual([["2", "customer 2", "1001"]]);
    const big = await rows("SELECT id, label FROM big WHERE id <= 1000 ORDER BY id LIMIT 1000");
    expect(big).toHaveLength(1000);
    expect(big[999]).toEqual(["1000", "row 1000"]);
  });

  it("refuses bulk export, predicates and exits, each with its reason", async () => {
    for (const sql of [
      "SELECT * FROM customers",
      "TABLE customers",
      "SELECT label FROM big",
      "SELECT label FROM big LIMIT 100000",
    ]) {
      expect(await refusal(sql), sql).toMatchObject({ C: "42501", M: "bulk export is not allowed for agents", S: "ERROR" });
    }
    for (const sql of [
      "SELECT id FROM customers WHERE ssn LIKE '5%'",
      "SELECT id FROM customers WHERE id < 9 ORDER BY ssn LIMIT 1",
      "SELECT count(*) FROM customers GROUP BY left(ssn, 1)",
      "SELECT query_to_xml('select ssn from customers', true, true, '')",
      "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers' LIMIT 1",
      "DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM customers LIMIT 1); END $$",
      "CREATE TABLE loot AS SELECT ssn FROM customers WHERE id = 1",
      "SET standard_conforming_strings = off",
      "SET SESSION AUTHORIZATION postgres",
    ]) {
      const fields = await refusal(sql);
      expect(fields, sql).toMatchObject({ C: "42501" });
      expect(codeOf(fields)).toBe("denied");
      expect(fields["H"]).toMatch(/\w+ \w+/);
    }
    expect(await rows("SELECT 1")).toEqual([["1"]]);
  });

  it("says that a write needs approval", async () => {
    const fields = await refusal("UPDATE customers SET name = 'x' WHERE id = 1");
    expect(fields).toMatchObject({ C: "42501", M: expect.stringMatching(/needs approval/) });
    expect(codeOf(fields)).toBe("needs_approval");
    expect(await rows("SELECT name FROM customers WHERE id = 1")).toEqual([["customer 1"]]);
  });

  it("releases a limit's rows and then ends the statement with an error", async () => {
    const answers = await (await shared()).query("SELECT id FROM big WHERE id < 5000");
    expect(rowsOf(answers)).toHaveLength(1000);
    expect(errorsOf(answers)[0]).toMatchObject({ C: "53400" });
    expect(codeOf(errorsOf(answers)[0])).toBe("limit_reached");
    expect(await rows("SELECT 1")).toEqual([["1"]]);
  });

  it("refuses a batch whole when one statement is bad", async () => {
    const answers = await (await shared()).query("SELECT 1; SELECT * FROM customers; SELECT 2");
    expect(rowsOf(answers)).toEqual([]);
    expect(errorsOf(answers)).toHaveLength(1);
    const good = await (await shared()).query("SELECT 1; SELECT ssn FROM customers WHERE id = 1; SELECT 2");
    expect(rowsOf(good)).toEqual([["1"], ["***-**-9382"], ["2"]]);
  });

  it("masks a prepared statement that is executed again without Describe", async () => {
    const client = await shared();
    const prepared = await client.pipeline(parse("again", "SELECT ssn FROM customers WHERE id = $1"));
    expect(shapeOf(prepared)).toBe("1 Z");
    for (const [id, masked] of [
      ["1", MASKED[0]],
      ["2", MASKED[1]],
    ] as const) {
      const answers = await client.pipeline(bind("", "again", [id]), execute(""));
      expect(shapeOf(answers)).toBe("2 D C Z");
      expect(rowsOf(answers)).toEqual([[masked]]);
    }
    expect(shapeOf(await client.pipeline(close("S", "again")))).toBe("3 Z");
  });

  it("answers Describe of a statement and of a portal as the target does", async () => {
    const client = await shared();
    const answers = await client.pipeline(
      parse("d", "SELECT ssn, id FROM customers WHERE id = $1::int"),
      describeMessage("S", "d"),
      bind("p", "d", ["1"]),
      describeMessage("P", "p"),
      execute("p"),
      close("P", "p"),
      close("S", "d"),
    );
    expect(shapeOf(answers)).toBe("1 t T 2 T D C 3 3 Z");
    expect(rowsOf(answers)).toEqual([["***-**-9382", "1"]]);
  });

  it("masks each part of a portal that is executed in parts, and counts its rows", async () => {
    const client = await shared();
    const answers = await client.pipeline(
      parse("", "SELECT ssn FROM customers WHERE id < 4 ORDER BY id"),
      bind("part", ""),
      execute("part", 1),
      execute("part", 1),
      execute("part", 0),
    );
    expect(shapeOf(answers)).toBe("1 2 D s D s D C Z");
    expect(rowsOf(answers)).toEqual(MASKED.map((value) => [value]));
    const many = [
      parse("", "SELECT id FROM big WHERE id < 3000"),
      bind("cap", ""),
      ...Array.from({ length: 3 }, () => execute("cap", 600)),
    ];
    const capped = await client.pipeline(...many);
    expect(rowsOf(capped)).toHaveLength(1000);
    expect(errorsOf(capped)[0]).toMatchObject({ C: "53400" });
  });

  it("refuses in the middle of a pipeline; the rest is skipped up to Sync", async () => {
    const client = await shared();
    const answers = await client.pipeline(
      parse("", "SELECT 1"),
      bind("", ""),
      execute(""),
      parse("", "SELECT * FROM customers"),
      bind("", ""),
      execute(""),
      parse("", "SELECT 3"),
      bind("", ""),
      execute(""),
    );
    expect(shapeOf(answers)).toBe("1 2 D C E Z");
    expect(errorsOf(answers)[0]).toMatchObject({ C: "42501", M: "bulk export is not allowed for agents" });
    expect(answers.at(-1)!.body.toString()).toBe("I");
    expect(await rows("SELECT 4")).toEqual([["4"]]);
  });

  it("lets the target answer for what comes before and after a refusal within one write", async () => {
    const client = await shared();
    const one = (sql: string): readonly Buffer[] => [parse("", sql), bind("", ""), execute(""), sync];
    client.send(
      ...one("SELECT 1"),
      ...one("SELECT * FROM customers"),
      ...one("SELECT 3"),
      query("SELECT 4"),
      query("TABLE customers"),
      query("SELECT 6"),
    );
    const shapes: string[] = [];
    const values: unknown[] = [];
    for (let at = 0; at < 6; at++) {
      const answers = await client.untilReady();
      shapes.push(shapeOf(answers));
      values.push(rowsOf(answers)[0]?.[0] ?? codeOf(errorsOf(answers)[0]));
    }
    expect(shapes).toEqual(["1 2 D C Z", "E Z", "1 2 D C Z", "T D C Z", "E Z", "T D C Z"]);
    expect(values).toEqual(["1", "denied", "3", "4", "denied", "6"]);
  });

  it("aborts a transaction in which a statement is refused, and honours savepoints", async () => {
    const client = await shared();
    const status = async (sql: string): Promise<string> => (await client.query(sql)).at(-1)!.body.toString();
    expect(await status("BEGIN")).toBe("T");
    expect(await status("SELECT * FROM customers")).toBe("E");
    expect(errorsOf(await client.query("SELECT 1"))[0]).toMatchObject({ C: "25P02" });
    expect(await status("ROLLBACK")).toBe("I");
    expect(await status("BEGIN")).toBe("T");
    expect(await status("SAVEPOINT a")).toBe("T");
    expect(await status("TABLE customers")).toBe("E");
    expect(await status("ROLLBACK TO a")).toBe("T");
    expect(await rows("SELECT ssn FROM customers WHERE id = 1")).toEqual([["***-**-9382"]]);
    expect(await status("COMMIT")).toBe("I");
  });

  it("refuses inside a transaction in extended form, with Flush before Sync", async () => {
    const client = await shared();
    await client.query("BEGIN");
    client.send(parse("", "SELECT 1"), bind("", ""), execute(""), parse("", "TABLE customers"), bind("", ""), execute(""), flush);
    const first = await client.until(({ type }) => type === "E");
    expect(shapeOf(first)).toBe("1 2 D C E");
    client.send(sync);
    expect((await client.untilReady()).at(-1)!.body.toString()).toBe("E");
    expect((await client.query("ROLLBACK")).at(-1)!.body.toString()).toBe("I");
  });

  it("follows SQL-level PREPARE and cursors", async () => {
    const client = await shared();
    await rows("PREPARE p AS SELECT ssn FROM customers WHERE id = $1");
    expect(await rows("EXECUTE p(1)")).toEqual([["***-**-9382"]]);
    await rows("DEALLOCATE p");
    await rows("BEGIN");
    await rows("DECLARE c CURSOR FOR SELECT ssn FROM customers WHERE id < 4 ORDER BY id");
    expect(await rows("FETCH 2 FROM c")).toEqual(MASKED.slice(0, 2).map((value) => [value]));
    await rows("ROLLBACK");
    expect((await client.query("EXECUTE nobody")).some(({ type }) => type === "E")).toBe(true);
  });

  it("scrubs errors and notices of statements that touch protected columns, and keeps their SQLSTATE", async () => {
    const client = await shared();
    for (const [sql, state] of [
      ["SELECT ssn::int FROM customers WHERE id = 1", "22P02"],
      ["SELECT (email || card)::date FROM customers WHERE id = 1", "22007"],
      ["SELECT 1 / (length(ssn) - 11) FROM customers WHERE id = 1", "22012"],
    ] as const) {
      const answers = await client.query(sql);
      expectClean(answers);
      const [fields] = errorsOf(answers);
      expect(["42501", state], sql).toContain(fields!["C"]);
    }
    const clear = await client.query("SELECT 'abc'::int");
    expect(errorsOf(clear)[0]).toMatchObject({ C: "22P02", M: 'invalid input syntax for type integer: "abc"' });
  });

  it("refuses COPY out for a masked caller and serves it to a dba", async () => {
    for (const sql of ["COPY customers TO STDOUT", "COPY (SELECT ssn FROM customers WHERE id = 1) TO STDOUT (FORMAT binary)"])
      expect(await refusal(sql), sql).toMatchObject({ C: "42501" });
    const dba = await connect(orders.dba);
    const answers = await dba.query("COPY (SELECT id, ssn FROM customers ORDER BY id) TO STDOUT");
    const copied = answers.filter(({ type }) => type === "d").map(({ body }) => body.toString());
    expect(copied.join("")).toBe(planted.map(({ ssn }, at) => `${at + 1}\t${ssn}\n`).join(""));
    await dba.end();
  });

  it("shows everything to a dba, who may write", async () => {
    const dba = await connect(orders.dba);
    expect(rowsOf(await dba.query("SELECT ssn FROM customers ORDER BY id"))).toEqual(planted.map(({ ssn }) => [ssn]));
    expect(shapeOf(await dba.query("INSERT INTO orders VALUES (900, 1, 'open', 5)"))).toBe("C Z");
    expect(shapeOf(await dba.query("BEGIN; DELETE FROM orders WHERE id = 900; COMMIT"))).toBe("C C C Z");
    await dba.end();
  });
});

describe("mask operators", () => {
  let orders: Orders;
  beforeAll(async () => {
    orders = await startOrders({
      manifests: (manifests) =>
        manifests.replace(
          "- name: mask-pii\n      effect: mask\n      entities: [US_SSN, EMAIL_ADDRESS, CREDIT_CARD]\n      operator: { partial: { keepLast: 4 } }",
          [
            "- { name: ssn, effect: mask, entities: [US_SSN], operator: redact }",
            "    - { name: mail, effect: mask, entities: [EMAIL_ADDRESS], operator: null }",
            "    - { name: card, effect: mask, entities: [CREDIT_CARD], operator: { partial: { keepFirst: 4, keepLast: 2 } } }",
          ].join("\n"),
        ),
    });
  });
  afterAll(async () => {
    await orders?.stop();
  });

  it("redacts, nulls, keeps both ends", async () => {
    const client = await orders.connect(orders.agent);
    const { rows } = await client.query("SELECT ssn, email, card FROM customers WHERE id = 1");
    expect(rows).toEqual([{ ssn: "****", email: null, card: "4012**********81" }]);
    await client.end();
  });
});
