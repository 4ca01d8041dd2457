/** Every way out of a database but plain results: COPY in all its forms, texts, tags, settings. None may carry what is masked. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { markersOf, planted, writersPolicy } from "./support/orders-schema.ts";
import { runPsycopg } from "./support/programs.ts";
import { RawClient } from "./support/raw-client.ts";
import { replayedWhole } from "./support/replayed.ts";
import { runCommand } from "./support/sluice.ts";
import { targetVersions } from "./support/targets.ts";
import { codeOf, errorsOf, rowsOf, type WireMessage } from "./support/wire-messages.ts";

/** May export, and sees the last four. */
const copiersPolicy = writersPolicy
  .replaceAll("writers", "copiers")
  .replace("operator: redact", "operator: { partial: { keepLast: 4 } }");
/** May export a few rows. */
const limitedPolicy = copiersPolicy.replaceAll("copiers", "limited").concat("    - { name: few, effect: limit, rows: 2 }\n");

const MASKED = ["***-**-9382", "***-**-5462", "***-**-4077"];

describe.each(targetVersions)("channels, against PostgreSQL %s", (version) => {
  let orders: Orders;
  let copier: string;
  let writer: string;
  let raw: RawClient;
  beforeAll(async () => {
    orders = await startOrders({
      version,
      manifests: (text) =>
        // What the trigger does is declared to be harmless, which must not make it a way out.
        text.replace("credential:", "inspection: { safeFunctions: [public.telling] }\n  credential:") +
        writersPolicy +
        copiersPolicy +
        limitedPolicy,
    });
    copier = await orders.sluice.token("cora", ["copiers"]);
    writer = await orders.sluice.token("will", ["writers"]);
    await orders.target.admin("orders", async (client) => {
      await client.query("SET ROLE orders_app");
      await client.query(
        "CREATE TABLE parts (id int PRIMARY KEY, card text, last text GENERATED ALWAYS AS (left(card, 12)) STORED, pan bigint, note text)",
      );
      await client.query("INSERT INTO parts (id, card, pan, note) VALUES (1, $1, $2, $3), (2, NULL, NULL, NULL)", [
        planted[0]!.card,
        planted[0]!.card,
        `tab\tline\nback\\slash "quoted", mail ${planted[0]!.email}`,
      ]);
    });
    await orders.target.admin("orders", async (client) => {
      for (const sql of [
        "SET ROLE orders_app",
        "CREATE VIEW lasts AS SELECT id, last FROM parts",
        "CREATE TABLE strict (id int PRIMARY KEY, ssn text, amount int CHECK (amount > 0))",
        `INSERT INTO strict VALUES (1, '${planted[0]!.ssn}', 1)`,
        `CREATE VIEW hot AS SELECT id FROM customers WHERE ssn <> '${planted[1]!.ssn}' AND email <> '${planted[1]!.email}'`,
        `CREATE FUNCTION telling() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE NOTICE 'ssn %', NEW.ssn;
          PERFORM pg_notify('news', NEW.ssn), set_config('application_name', NEW.ssn, false);
          RETURN NEW; END $$`,
        "CREATE TRIGGER telling BEFORE UPDATE ON strict FOR EACH ROW EXECUTE FUNCTION telling()",
      ])
        await client.query(sql);
    });
    raw = await connect(copier);
  });
  afterAll(async () => {
    await raw?.end();
    await orders?.stop();
  });

  const connect = (token: string): Promise<RawClient> =>
    RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token });
  const dataOf = (answers: readonly WireMessage[]): string =>
    answers
      .filter(({ type }) => type === "d")
      .map(({ body }) => body.toString("latin1"))
      .join("");
  const copied = async (sql: string): Promise<string> => {
    const answers = await raw.query(sql);
    expect(errorsOf(answers), sql).toEqual([]);
    expectClean(answers);
    return dataOf(answers);
  };
  const expectClean = (answers: readonly WireMessage[]): void => {
    const bytes = Buffer.concat(answers.map(({ body }) => body)).toString("latin1");
    for (const marker of markersOf(planted)) expect(bytes).not.toContain(marker);
  };

  it("masks COPY in text, csv and their options", async () => {
    const query = "(SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id)";
    expect(await copied(`COPY ${query} TO STDOUT`)).toBe(MASKED.map((ssn, at) => `${at + 1}\t${ssn}\n`).join(""));
    expect(await copied(`COPY ${query} TO STDOUT (HEADER)`)).toMatch(/^id\tssn\n1\t\*\*\*-/);
    expect(await copied(`COPY ${query} TO STDOUT (FORMAT csv, HEADER)`)).toBe(
      `id,ssn\n${MASKED.map((ssn, at) => `${at + 1},${ssn}\n`).join("")}`,
    );
    expect(await copied(`COPY ${query} TO STDOUT (FORMAT csv, DELIMITER '-', QUOTE '*')`)).toBe(
      MASKED.map((ssn, at) => `${at + 1}-*${ssn.replaceAll("*", "**")}*\n`).join(""),
    );
    expect(await copied(`COPY ${query} TO STDOUT (FORMAT csv, FORCE_QUOTE (id), ESCAPE '~')`)).toMatch(/^"1",\*\*\*-\*\*-9382\n/);
    expect(await copied(`COPY ${query} TO STDOUT WITH CSV HEADER QUOTE AS ''''`)).toContain("\n1,***-**-9382\n");
    expect(await copied("COPY customers (ssn, id) TO STDOUT WITH DELIMITER AS '|' NULL AS ''")).toMatch(/^\*\*\*-\*\*-9382\|1\n/);
    for (const guess of planted.map(({ ssn }) => ssn))
      expect(
        dataOf(await raw.query(`COPY (SELECT ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT (NULL '${guess}')`)),
      ).toBe(MASKED.map((ssn) => `${ssn}\n`).join(""));
  });

  it("makes NULL of what is derived or cannot hold a constant, and searches the rest", async () => {
    expect(await copied("COPY (SELECT left(ssn, 3), md5(ssn), ssn || '', id FROM customers WHERE id = 1) TO STDOUT")).toBe(
      "\\N\t\\N\t\\N\t1\n",
    );
    expect(await copied("COPY parts TO STDOUT")).toBe(
      `1\t************1881\t\\N\ttab\\tline\\nback\\\\slash "quoted", mail *****.******@******e.org\n2\t\\N\t\\N\t\\N\n`,
    );
    expect(await copied("COPY parts TO STDOUT (FORMAT csv, NULL 'none')")).toBe(
      `1,************1881,none,"tab\tline\nback\\slash ""quoted"", mail *****.******@******e.org"\n2,none,none,none\n`,
    );
    // Of what is computed from a protected column nothing stays visible, also where the table computes it.
    expect(await copied("COPY (SELECT last FROM parts WHERE id = 1) TO STDOUT")).toBe("\\N\n");
    expect(rowsOf(await raw.query("SELECT last FROM lasts WHERE id = 1"))).toEqual([["****"]]);
    expect(await copied("COPY (SELECT notes || '' FROM customers WHERE id = 1) TO STDOUT")).toBe(
      "called about order; ssn ****, card ****, mail ****\n",
    );
    expect(await copied("COPY (SELECT json_build_object('n', notes) FROM customers WHERE id = 1) TO STDOUT")).toBe(
      '{"n" : "called about order; ssn ****, card ****, mail ****"}\n',
    );
  });

  it("masks COPY in binary", async () => {
    const data = Buffer.from(
      await copied("COPY (SELECT id, ssn, left(ssn, 1) FROM customers WHERE id = 1) TO STDOUT (FORMAT binary)"),
      "latin1",
    );
    expect(data.subarray(19)).toEqual(
      Buffer.concat([
        Buffer.from([0, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 11]),
        Buffer.from(MASKED[0]!),
        Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
      ]),
    );
    await copied("COPY parts TO STDOUT WITH BINARY");
    await copied("COPY customers TO STDOUT (FORMAT binary)");
  });

  it("counts the rows of COPY against a limit, and nothing else", async () => {
    const limited = await connect(await orders.sluice.token("lim", ["limited"]));
    for (const options of ["", " (HEADER)", " (FORMAT csv, HEADER)", " (FORMAT binary)"]) {
      const two = await limited.query(`COPY (SELECT id FROM orders WHERE id < 3) TO STDOUT${options}`);
      expect(errorsOf(two), options).toEqual([]);
      const three = await limited.query(`COPY (SELECT id FROM orders WHERE id < 4 ORDER BY id) TO STDOUT${options}`);
      expect(codeOf(errorsOf(three)[0]), options).toBe("limit_reached");
      if (!options.includes("binary")) expect(dataOf(three)).toBe(`${options === "" ? "" : "id\n"}1\n2\n`);
    }
    await limited.end();
  });

  it("refuses COPY that cannot be masked, and goes on", async () => {
    for (const sql of [
      "COPY customers TO STDOUT (ENCODING 'LATIN1')",
      "COPY (SELECT id FROM orders) TO STDOUT (NULL E'\\\\')",
      "COPY customers TO '/tmp/x'",
      "COPY customers TO PROGRAM 'cat'",
      "COPY pg_stats TO STDOUT",
    ]) {
      const answers = await raw.query(sql);
      expect(dataOf(answers)).toBe("");
      expect(errorsOf(answers)[0], sql).toMatchObject({ C: "42501" });
    }
    expect(await copied("COPY (SELECT 1) TO STDOUT")).toBe("1\n");
  });

  it("masks COPY for psql and psycopg", async () => {
    const psql = await orders.psql(
      copier,
      "\\copy (SELECT id, ssn FROM customers WHERE id < 3 ORDER BY id) TO STDOUT (FORMAT csv, HEADER)\n\\copy customers (ssn) TO STDOUT\nCOPY (SELECT left(ssn, 3) FROM customers WHERE id = 1) TO STDOUT;\n",
    );
    expect(psql.stderr).toBe("");
    expect(psql.stdout).toBe(`id,ssn\n1,${MASKED[0]}\n2,${MASKED[1]}\n${MASKED.map((ssn) => `${ssn}\n`).join("")}\\N\n`);
    const seen = await runPsycopg("copying.py", {
      port: orders.sluice.port,
      caFile: orders.sluice.ready.caFile,
      token: copier,
    });
    expect(seen).toEqual({
      rows: MASKED.map((ssn, at) => [String(at + 1), ssn, null]),
      binary: MASKED.map((ssn, at) => [at + 1, ssn, null]),
      csv: `id,ssn,length\n${MASKED.map((ssn, at) => `${at + 1},${ssn},\n`).join("")}`,
      parameters: MASKED.slice(0, 2),
      after: 1,
    });
  });

  it("refuses pg_dump with a reason, before any row", async () => {
    const { sluice } = orders;
    const address = `host=127.0.0.1 port=${sluice.port} dbname=orders user=me sslmode=verify-full sslrootcert=${sluice.ready.caFile}`;
    const dump = await runCommand("pg_dump", ["-t", "customers", address], sluice.directory, { PGPASSWORD: copier });
    expect(dump.status).toBe(1);
    // Debian's pg_dump is of version 15, and reads no newer server.
    expect(dump.stderr).toMatch(version > 15 ? /server version mismatch/ : /DETAIL: {2}\{"code":"denied"/);
    for (const marker of markersOf(planted)) expect(dump.stdout + dump.stderr).not.toContain(marker);
  });

  it("withholds the texts of errors and notices, payloads and settings that speak of rows", async () => {
    const client = await connect(writer);
    const said = async (sql: string): Promise<readonly WireMessage[]> => {
      const answers = await client.query(sql);
      expectClean(answers);
      return answers;
    };
    await said("LISTEN news");
    const failed = await said("UPDATE strict SET amount = -1 WHERE id = 1");
    expect(errorsOf(failed)[0]).toMatchObject({ C: "23514", M: expect.stringContaining("withheld") });
    expect(errorsOf(failed)[0]).not.toHaveProperty("D");
    expect(errorsOf(await said("INSERT INTO strict VALUES (1, 'new', 1)"))[0]).toMatchObject({ C: "23505" });
    // The trigger raises a notice, notifies and names the session after the value.
    const told = await said("UPDATE strict SET amount = 2 WHERE id = 1 RETURNING id, ssn, left(ssn, 3), 'of ' || ssn");
    expect(errorsOf(told)).toEqual([]);
    expect(rowsOf(told)).toEqual([["1", "****", "****", "****"]]);
    expect(told.filter(({ type }) => type === "C").map(({ body }) => body.toString())).toEqual(["UPDATE 1\0"]);
    expect(told.filter(({ type }) => type === "N")).toHaveLength(1);
    expect(told.filter(({ type }) => type === "S")).toEqual([]);
    const payloads = [...told, ...(await said("SELECT 1"))].filter(({ type }) => type === "A");
    expect(payloads.map(({ body }) => body.subarray(4).toString())).toEqual(["news\0\0"]);
    await orders.target.admin("orders", (admin) => admin.query("SELECT pg_notify('news', $1)", [planted[1]!.ssn]));
    const [heard] = await client.until(({ type }) => type === "A");
    expect(heard!.body.subarray(4).toString()).toBe("news\0\0");
    await client.end();
  });

  it("says where a statement is wrong, and nothing else", async () => {
    const [wrong] = errorsOf(await raw.query("SELECT nothing_of_it FROM customers WHERE id = 1"));
    expect(wrong).toMatchObject({ C: "42703", P: "8" });
  });

  it("shows plans without what they are made of, in every format", async () => {
    const client = await connect(writer);
    for (const format of ["TEXT", "JSON", "XML", "YAML"]) {
      for (const options of ["", ", VERBOSE", ", ANALYZE", ", ANALYZE, VERBOSE"]) {
        const answers = await client.query(`EXPLAIN (FORMAT ${format}${options}) SELECT id FROM hot WHERE id < 3 ORDER BY id`);
        expectClean(answers);
        expect(rowsOf(answers).flat().join("")).toMatch(/^[*"]*$/);
        expect(errorsOf(answers)).toEqual([]);
      }
    }
    expect(
      rowsOf(await client.query("EXPLAIN SELECT id FROM orders"))
        .flat()
        .join(""),
    ).toContain("orders");
    await client.end();
  });

  it("keeps other sessions' statements, cursors and what statements return behind their masks", async () => {
    const busy = await connect(orders.dba);
    await busy.query(`SELECT '${planted[0]!.ssn}'`);
    for (const sql of [
      "SELECT query FROM pg_stat_activity",
      "SELECT * FROM pg_stat_get_activity(NULL)",
      "SELECT most_common_vals FROM pg_stats",
      "SELECT statement FROM pg_prepared_statements",
    ]) {
      const answers = await raw.query(sql);
      expectClean(answers);
      expect(errorsOf(answers)[0], sql).toMatchObject({ C: "42501" });
    }
    await busy.end();
    for (const [sql, shown] of [
      [
        "UPDATE customers SET balance = balance WHERE id = 1 RETURNING ssn, left(ssn, 3), notes",
        [[MASKED[0], "****", expect.stringContaining("mail")]],
      ],
      ["BEGIN", []],
      ["DECLARE c BINARY CURSOR FOR SELECT ssn, left(ssn, 2), length(ssn) FROM customers WHERE id < 3 ORDER BY id", []],
      ["FETCH 1 FROM c", [[MASKED[0], "****", null]]],
      ["FETCH BACKWARD 1 FROM c", []],
      [
        "FETCH ALL FROM c",
        [
          [MASKED[0], "****", null],
          [MASKED[1], "****", null],
        ],
      ],
      ["DELETE FROM strict WHERE id = 1 RETURNING *", [["1", MASKED[0], "2"]]],
      ["ROLLBACK", []],
      ...(version >= 18
        ? [["UPDATE customers SET ssn = 'x' WHERE id = 3 RETURNING old.ssn, new.id", [["****", "3"]]] as const]
        : []),
    ] as const) {
      const answers = await raw.query(sql);
      expectClean(answers);
      expect(errorsOf(answers), sql).toEqual([]);
      expect(rowsOf(answers), sql).toEqual(shown);
    }
  });

  it("records COPY as it was released", async () => {
    const client = await RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
    const started = await client.login({ token: copier });
    const id = started
      .find(({ body }) => body.includes("sluice.session_id"))!
      .body.toString()
      .split("\0")[1]!;
    const answers = await client.query("COPY (SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT");
    await client.end();
    const items = await replayedWhole(orders.sluice, id);
    expect(
      items
        .filter(({ kind }) => kind === "copy")
        .map(({ text }) => text)
        .join(""),
    ).toBe(dataOf(answers));
    for (const marker of markersOf(planted)) expect(JSON.stringify(items)).not.toContain(marker);
  });
});
