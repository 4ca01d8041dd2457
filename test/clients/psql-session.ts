/** psql of Debian: its own commands, \copy, cursors by FETCH_COUNT. Left out is what its version cannot do with a newer server (\l, csv from standard input). */
import { isDeepStrictEqual } from "node:util";
import { markersOf, planted } from "../support/orders-schema.ts";
import { runCommand } from "../support/sluice.ts";
import { expectedOf } from "./expected.ts";
import type { ClientGround, Role } from "./installation.ts";
import type { Outcome } from "./run-program.ts";

/** Scripts by feature; what the lines of their output are taken for is said by `read`. */
const scripts: Readonly<Record<string, { readonly script: string; readonly read: (lines: readonly string[]) => unknown }>> = {
  connect: { script: "SELECT 1;", read: ([one]) => Number(one) },
  prepared: {
    script: `PREPARE by_id(int) AS SELECT ssn FROM customers WHERE id = $1;\n${[1, 2, 3, 1, 2, 3, 1, 2, 3].map((id) => `EXECUTE by_id(${id});`).join("\n")}`,
    read: (lines) => lines,
  },
  rows: {
    script: "\\set FETCH_COUNT 1000\nSELECT id FROM big;",
    read: (lines) => lines.reduce((sum, line) => sum + Number(line), 0),
  },
  error: {
    script: "SELECT * FROM nowhere;\n\\echo :LAST_ERROR_SQLSTATE\nSELECT 1;",
    read: ([state, one]) => [state, Number(one)],
  },
  refused: {
    script:
      "GRANT SELECT ON orders TO PUBLIC;\n\\if :ERROR\n\\echo :LAST_ERROR_SQLSTATE\n\\else\n\\echo none\n\\endif\nSELECT 1;",
    read: ([state, one]) => [state, Number(one)],
  },
  transaction: {
    script: [
      "BEGIN;",
      "INSERT INTO scratch VALUES (1, 'a');",
      "SELECT count(*) FROM scratch;",
      "SELECT 1/0;",
      "\\echo :LAST_ERROR_SQLSTATE",
      "SELECT 1;",
      "\\echo :LAST_ERROR_SQLSTATE",
      "ROLLBACK;",
      "SELECT count(*) FROM scratch;",
      "BEGIN;",
      "INSERT INTO scratch VALUES (1, 'a');",
      "COMMIT;",
      "SELECT count(*) FROM scratch;",
      "DELETE FROM scratch;",
    ].join("\n"),
    read: ([inside, failed, aborted, after, kept]) => [Number(inside), failed, aborted, Number(after), Number(kept)],
  },
  cursor: {
    script: "\\set FETCH_COUNT 2\nSELECT ssn FROM customers WHERE id < 4 ORDER BY id;",
    read: (lines) => lines,
  },
  "copy in": {
    script: `\\copy scratch FROM STDIN (DELIMITER ',')\n${Array.from({ length: 1000 }, (_, n) => `${n},copied`).join("\n")}\n\\.\nSELECT count(*) FROM scratch;\nDELETE FROM scratch;`,
    read: ([count]) => Number(count),
  },
  "copy out": {
    script: "\\copy (SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT",
    read: (lines) => lines.map((line) => `${line}\n`).join(""),
  },
  cancel: {
    script: "SET statement_timeout = 300;\nSELECT pg_sleep(20);\n\\echo :LAST_ERROR_SQLSTATE\nSELECT 1;",
    read: ([state, one]) => [state, Number(one)],
  },
};

export async function psqlSession({ orders, token, wrongCaFile }: ClientGround, role: Role): Promise<Outcome> {
  const expected = expectedOf(role);
  const features: Record<string, string> = {};
  let written = "";
  for (const [feature, { script, read }] of Object.entries(scripts)) {
    const ran = await orders.psql(token(role), `${script}\n`, "-Atq");
    written += ran.stdout + ran.stderr;
    const seen = read(ran.stdout.trimEnd().split("\n"));
    features[feature] = isDeepStrictEqual(seen, expected[feature])
      ? "ok"
      : `saw ${JSON.stringify(seen)} ${ran.stderr.slice(0, 200)}`;
  }
  const described = await orders.psql(
    token(role),
    "\\d customers\n\\d+ orders\n\\dt\n\\di\n\\dv+\n\\df\n\\dT\n\\du\n\\dp\n\\dn+\n\\sv customer_contacts\n",
  );
  features["metadata"] = described.stderr === "" && /customers_pkey/.test(described.stdout) ? "ok" : `said ${described.stderr}`;
  const conninfo = `host=127.0.0.1 port=${orders.sluice.port} dbname=orders user=me sslmode=verify-full sslrootcert=${wrongCaFile}`;
  const wrong = await runCommand("psql", [conninfo, "-Xc", "SELECT 1"], "/", { PGPASSWORD: token(role) });
  features["verify"] = /certificate verify failed/.test(wrong.stderr) ? "ok" : `said ${wrong.stderr}`;
  if (role === "masked" && markersOf(planted).some((marker) => written.includes(marker)))
    features["secrets"] = "a protected value was printed";
  return {
    version: (await runCommand("psql", ["--version"], "/")).stdout.trim().replace(/^.* \(PostgreSQL\) (\S+).*$/, "$1"),
    features,
  };
}
