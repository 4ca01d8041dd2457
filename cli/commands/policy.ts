/**
 * `sluice policy explain`: what would be decided, as JSON lines for machines. Nothing is sent to the target but catalog reads.
 * Output keeps the order of the input, one line for each.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import { type AdminClient, isRecord } from "../admin-client.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";

interface ExplainOptions extends InstallationOptions {
  readonly as?: string;
  readonly resource?: string;
  readonly sql?: string;
  readonly batch?: string;
}

/** One line of a batch: a question, or what is wrong with it. */
export type BatchLine = ExplainLine | FaultyLine;

/** A line that cannot be asked; the answer says why, the others are asked all the same. */
export interface FaultyLine {
  readonly fault: string;
  /** As far as it could be read. */
  readonly id: unknown;
}

/** A line after checking; `id` is copied into the answer. */
export interface ExplainLine {
  readonly id: string | number;
  readonly as: Readonly<Record<string, unknown>>;
  readonly resource: string;
  readonly sql: string | readonly string[];
}

/** Lines and bytes of one call: far below the admin API's message limit, so that output flows while a large batch runs. */
const LINES_PER_CALL = 200;
const BYTES_PER_CALL = 1024 * 1024;
const NOT_TEXT = "The statement, or who asks it, is not text in Unicode.";

export function addPolicyCommand(program: Command, context: CommandContext): void {
  const policy = program.command("policy").description("questions to the policy in force");
  withInstallationOptions(
    policy
      .command("explain")
      .description("print the decision for a statement as one JSON line; only catalog reads reach the target")
      .option("--as <json>", 'the caller: {"sub": "ada", "groups": ["agents"]}')
      .option("--resource <name>", "the resource, as dbname would name it")
      .option("--sql <text>", "the statement")
      .option("--batch <file>", 'a file of lines {"id","as","resource","sql"}; - for standard input'),
  ).action((options: ExplainOptions) => explain(options, context));
}

async function explain(options: ExplainOptions, context: CommandContext): Promise<void> {
  const { as, resource, sql, batch } = options;
  if (batch !== undefined) {
    if (as !== undefined || resource !== undefined || sql !== undefined) {
      throw new UsageError("--batch goes alone: its lines hold as, resource and sql.");
    }
    const text =
      batch === "-" ? await context.readStandardInput() : await readBatch(path.resolve(context.workingDirectory, batch), batch);
    const lines = parseBatch(text, batch === "-" ? "standard input" : batch);
    await explainLines((await findInstallation(options, context)).admin, lines, context);
    return;
  }
  if (as === undefined || resource === undefined || sql === undefined) {
    throw new UsageError("policy explain needs --as, --resource and --sql, or --batch.");
  }
  const caller = parseCaller(parseJson(as, "--as"), "--as");
  const { admin } = await findInstallation(options, context);
  if (!isText([caller, resource, sql])) throw new GatewayError("statement_invalid", NOT_TEXT);
  const answer = await admin.call("PolicyService/Explain", { as: caller, resource, sql: [sql] });
  context.out(`${JSON.stringify(isRecord(answer) ? answer["decision"] : null)}\n`);
}

async function explainLines(admin: AdminClient, lines: readonly BatchLine[], context: CommandContext): Promise<void> {
  let failed = false;
  for (const part of splitBatch(lines)) {
    const asked = part.filter((line): line is ExplainLine => !("fault" in line));
    const answers = await askLines(admin, asked);
    let at = 0;
    for (const line of part) {
      const answer = "fault" in line ? faultAnswer(line) : answers[at++];
      failed ||= isRecord(answer) && "error" in answer;
      context.out(`${JSON.stringify(answer)}\n`);
    }
  }
  // Every line has its answer, so the command did its work; a line that cannot be judged is a denial with an `error`.
  if (failed) context.err("sluice: at least one line could not be judged; see its `error`\n");
}

async function askLines(admin: AdminClient, asked: readonly ExplainLine[]): Promise<readonly unknown[]> {
  if (asked.length === 0) return [];
  const lines = asked.map((line) => ({ ...line, sql: typeof line.sql === "string" ? [line.sql] : line.sql }));
  const answer = await admin.call("PolicyService/ExplainBatch", { lines });
  const answers: readonly unknown[] = isRecord(answer) && Array.isArray(answer["lines"]) ? answer["lines"] : [];
  if (answers.length === asked.length) return answers;
  throw new GatewayError("internal", `The installation answered ${answers.length} of ${asked.length} lines.`);
}

/** Halves of surrogate pairs can be written in JSON and be sent nowhere: no wire carries them as text. */
function isText(value: unknown): boolean {
  if (typeof value === "string") return value.isWellFormed();
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([name, inner]) => name.isWellFormed() && isText(inner));
}

/** As the installation answers for a line that cannot be judged. */
function faultAnswer({ id, fault }: FaultyLine): Readonly<Record<string, unknown>> {
  const rule = "builtin/statement-invalid";
  return { id, effect: "deny", rule, rules: [rule], reason: fault, error: { code: "statement_invalid", message: fault } };
}

/** Groups lines so that no call grows beyond the bounds; order is kept. */
export function splitBatch(lines: readonly BatchLine[]): readonly (readonly BatchLine[])[] {
  const parts: BatchLine[][] = [];
  let part: BatchLine[] = [];
  let bytes = 0;
  for (const line of lines) {
    const size = Buffer.byteLength(JSON.stringify(line));
    if (part.length > 0 && (part.length >= LINES_PER_CALL || bytes + size > BYTES_PER_CALL)) {
      parts.push(part);
      part = [];
      bytes = 0;
    }
    part.push(line);
    bytes += size;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

/** Checks every line by itself: what is wrong with one is its own answer. Empty lines are none. */
export function parseBatch(text: string, name: string): readonly BatchLine[] {
  const lines: BatchLine[] = [];
  for (const [at, raw] of text.split("\n").entries()) {
    if (raw.trim() === "") continue;
    const place = `${name}:${at + 1}`;
    let id: unknown = null;
    try {
      const value = parseJson(raw, place);
      if (isRecord(value)) id = value["id"] ?? null;
      lines.push(parseLine(value, place));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      lines.push({ id, fault: error.message });
    }
  }
  return lines;
}

function parseLine(value: unknown, place: string): ExplainLine {
  if (!isRecord(value)) throw new UsageError(`${place}: a line must be a JSON object.`);
  const { id, as, resource, sql } = value;
  if (typeof id !== "string" && typeof id !== "number") throw new UsageError(`${place}: "id" must be a text or a number.`);
  if (typeof resource !== "string") throw new UsageError(`${place}: "resource" must be a text.`);
  const line = { id, as: parseCaller(as, `${place}: "as"`), resource, sql: parseSql(sql, place) };
  if (!isText(line)) throw new UsageError(NOT_TEXT);
  return line;
}

function parseSql(value: unknown, place: string): string | readonly string[] {
  if (typeof value === "string") return value;
  if (isTexts(value) && value.length > 0) return value;
  throw new UsageError(`${place}: "sql" must be a text, or a list of texts of one session.`);
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((part) => typeof part === "string");
}

/** Every field, since the installation would refuse the whole call for one of another type. */
function parseCaller(value: unknown, place: string): Readonly<Record<string, unknown>> {
  if (!isRecord(value) || typeof value["sub"] !== "string") {
    throw new UsageError(`${place} must be a JSON object with "sub", for example {"sub": "ada", "groups": ["agents"]}.`);
  }
  const { sub: _sub, groups, iss, claims, ...others } = value;
  if (groups !== undefined && !isTexts(groups)) throw new UsageError(`${place}: "groups" must be a list of texts.`);
  if (iss !== undefined && typeof iss !== "string") throw new UsageError(`${place}: "iss" must be a text.`);
  if (claims !== undefined && !isRecord(claims)) throw new UsageError(`${place}: "claims" must be a JSON object.`);
  const [other] = Object.keys(others);
  if (other !== undefined) throw new UsageError(`${place} has sub, groups, iss and claims, no ${JSON.stringify(other)}.`);
  return value;
}

function parseJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`${place} is not valid JSON.`);
  }
}

async function readBatch(file: string, shown: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new GatewayError("not_found", `${shown} does not exist or may not be read.`, { cause: error });
  }
}
