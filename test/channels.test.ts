/** Every way out of a database but plain results: COPY in all its forms, texts, tags, settings. None may carry what is masked. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { markersOf, planted, writersPolicy } from "./support/orders-schema.ts";
import { runPsycopg } from "./support/programs.ts";
import { RawClient } from "./support/raw-client.ts";
import { targetVersions } from "./support/targets.ts";
import { codeOf, errorsOf, type WireMessage } from "./support/wire-messages.ts";

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
    orders = await startOrders({ version, manifests: (text) => text + writersPolicy + copiersPolicy + limitedPolicy });
    copier = await orders.sluice.token("cora", ["copiers"]);
    writer = await orders.sluice.token("will", ["writers"]);
    await orders.target.admin("orders", async (client) => {
      await client.query("SET ROLE orders_app");
      await client.query(
        "CREATE TABLE parts (id int PRIMARY KEY, card text, last text GENERATED ALWAYS AS (right(card, 4)) STORED, pan bigint, note text)",
      );
      await client.query("INSERT INTO parts (id, card, pan, note) VALUES (1, $1, $2, $3), (2, NULL, NULL, NULL)", [
        planted[0]!.card,
        planted[0]!.card,
        `tab\tline\nback\\slash "quoted", mail ${planted[0]!.email}`,
      ]);
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
});
