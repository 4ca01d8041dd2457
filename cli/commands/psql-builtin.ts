/**
 * A small SQL prompt for machines without psql: statements end with a semicolon, `\q` leaves. It verifies the server like
 * `sslmode=verify-full` and must never fall back to anything less.
 */
import pg from "pg";
import type { CommandContext, Prompt } from "../context.ts";
import { NegativeAnswer } from "../context.ts";
import { formatTable, visible } from "../output/table.ts";

export interface BuiltinTarget {
  readonly host: string;
  readonly port: number;
  /** The resource. */
  readonly database: string;
  readonly user: string;
  readonly token: string;
  /** PEM text of the CA. */
  readonly ca: string;
}

/** What node-postgres gives for one statement with `rowMode: "array"` and texts left as they are. */
interface Result {
  readonly command: string | null;
  readonly rowCount: number | null;
  readonly fields: readonly { readonly name: string }[];
  readonly rows: readonly (readonly (string | null)[])[];
}

const CONNECT_TIMEOUT_MS = 20_000;
/** Rows shown of one result; a prompt is no export. */
const ROWS_SHOWN = 1_000;

/** Runs the given statements, or a prompt when there are none. Throws NegativeAnswer after an error in given statements. */
export async function runBuiltinClient(
  target: BuiltinTarget,
  commands: readonly string[],
  context: CommandContext,
): Promise<void> {
  const client = new pg.Client({
    host: target.host,
    port: target.port,
    database: target.database,
    user: target.user,
    password: target.token,
    // `host` makes Node check the certificate against the address we dialled.
    ssl: { ca: target.ca, rejectUnauthorized: true, host: target.host },
    application_name: "sluice psql",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    types: { getTypeParser: () => (value: string) => value },
  });
  let ended: Error | undefined;
  client.on("error", (error) => {
    ended = error;
  });
  client.on("notice", (notice) => context.err(`${describeServerMessage("NOTICE", notice)}\n`));
  try {
    await client.connect();
  } catch (error) {
    context.err(`${isUnverified(error) ? UNVERIFIED : describeError(error)}\n`);
    throw new NegativeAnswer();
  }
  try {
    if (commands.length > 0) await runCommands(client, commands, context);
    else await runPrompt(client, target, context, () => ended);
  } finally {
    await client.end().catch(() => undefined);
  }
}

const UNVERIFIED =
  "ERROR:  The gateway's certificate could not be verified, so no token was sent.\n" +
  "HINT:  Where the gateway has a certificate of yours, name the CA that signed it with --gateway-ca-file.";

/** Node's codes for certificates that do not verify: SELF_SIGNED_CERT_IN_CHAIN, UNABLE_TO_VERIFY_LEAF_SIGNATURE, CERT_HAS_EXPIRED … */
function isUnverified(error: unknown): boolean {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && /CERT|VERIFY|TLS_/.test(code);
}

async function runCommands(client: pg.Client, commands: readonly string[], context: CommandContext): Promise<void> {
  let failed = false;
  for (const sql of commands) failed = !(await runStatement(client, sql, context)) || failed;
  if (failed) throw new NegativeAnswer();
}

async function runPrompt(
  client: pg.Client,
  target: BuiltinTarget,
  context: CommandContext,
  ended: () => Error | undefined,
): Promise<void> {
  context.err("Sluice's small SQL prompt: end a statement with a semicolon; \\q leaves.\n");
  const prompt: Prompt = context.openPrompt();
  try {
    let text = "";
    while (ended() === undefined) {
      const line = await prompt.ask(text === "" ? `${target.database}=> ` : `${target.database}-> `);
      if (line === undefined || line.trim() === "\\q") return;
      if (text === "" && line.trim().startsWith("\\")) {
        context.err("Only \\q is known here. Install psql for the rest (Debian: postgresql-client).\n");
        continue;
      }
      text = text === "" ? line : `${text}\n${line}`;
      if (!text.trimEnd().endsWith(";")) {
        if (text.trim() === "") text = "";
        continue;
      }
      await runStatement(client, text, context);
      text = "";
    }
    context.err("The connection was closed by the gateway.\n");
    throw new NegativeAnswer();
  } finally {
    prompt.close();
  }
}

/** Runs a text (one statement or several) and prints what came back; false after an error. */
async function runStatement(client: pg.Client, sql: string, context: CommandContext): Promise<boolean> {
  try {
    // Several statements in one text give a list of results, which the type of node-postgres does not say.
    const answer = (await client.query({ text: sql, rowMode: "array" })) as unknown as Result | readonly Result[];
    for (const result of Array.isArray(answer) ? (answer as readonly Result[]) : [answer as Result]) printResult(result, context);
    return true;
  } catch (error) {
    context.err(`${describeError(error)}\n`);
    return false;
  }
}

function printResult(result: Result, context: CommandContext): void {
  if (result.fields.length === 0) {
    context.out(`${[result.command, result.rowCount].filter((part) => part !== null).join(" ")}\n`);
    return;
  }
  const header = result.fields.map((field) => field.name);
  const lines = formatTable(header, result.rows.slice(0, ROWS_SHOWN), { cellWidthMax: 120 });
  const more = result.rows.length > ROWS_SHOWN ? `, the first ${ROWS_SHOWN} shown` : "";
  context.out(`${lines.join("\n")}\n(${result.rows.length} row${result.rows.length === 1 ? "" : "s"}${more})\n\n`);
}

function describeError(error: unknown): string {
  return error instanceof Error ? describeServerMessage("ERROR", error) : "ERROR: unknown failure";
}

/** Severity, message, DETAIL and HINT, each on its line, as psql shows them. */
function describeServerMessage(fallback: string, message: object): string {
  const fields = message as Partial<Record<"severity" | "message" | "detail" | "hint", unknown>>; // read as unknown
  const show = (value: unknown): string => (typeof value === "string" ? visible(value) : "");
  return [
    `${show(fields.severity) === "" ? fallback : show(fields.severity)}:  ${show(fields.message)}`,
    ...(show(fields.detail) === "" ? [] : [`DETAIL:  ${show(fields.detail)}`]),
    ...(show(fields.hint) === "" ? [] : [`HINT:  ${show(fields.hint)}`]),
  ].join("\n");
}
