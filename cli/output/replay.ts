/**
 * A recording as people read it: a timeline of statements, decisions and what was released. It must never show more than the
 * recording holds, and never let a released value reach the terminal unescaped.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { ReplayItem } from "@sluice/rpc/recordings.ts";
import { isRecord } from "../admin-client.ts";
import { formatTable, formatTime, visible, visibleLines } from "./table.ts";

export interface ReplayPrinter {
  /** Prints one item; rows are kept back until their table is whole. */
  print(item: ReplayItem): void;
  /** Prints what was kept back. */
  end(): void;
}

/** Rows of one result that are shown; the rest is counted. A recording of a million rows must not fill the memory. */
const ROWS_SHOWN = 200;

export function createReplayPrinter(out: (text: string) => void): ReplayPrinter {
  let startMs: number | undefined;
  let columns: readonly string[] = [];
  let rows: (readonly (string | null)[])[] = [];
  let hidden = 0;

  const line = (text: string): void => out(`${text}\n`);
  const flushRows = (): void => {
    if (columns.length === 0) return;
    for (const text of formatTable(columns, rows)) line(`        ${text}`);
    if (hidden > 0) line(`        … and ${hidden} more rows (all of them with --json)`);
    columns = [];
    rows = [];
    hidden = 0;
  };
  const stamp = (atMs: number): string => {
    startMs ??= atMs;
    return `+${((atMs - startMs) / 1000).toFixed(3)}s`.padStart(10);
  };

  return {
    print: (item) => {
      if (item.kind === "row") {
        if (columns.length === 0) columns = item.values.map((_, at) => `column ${at + 1}`);
        if (rows.length < ROWS_SHOWN) rows.push(item.values);
        else hidden += 1;
        return;
      }
      flushRows();
      if (item.kind === "columns") {
        stamp(item.atMs);
        columns = item.columns.map((column) => column.name);
        return;
      }
      for (const text of describe(item, stamp(item.atMs))) line(text);
    },
    end: flushRows,
  };
}

function describe(item: Exclude<ReplayItem, { kind: "row" | "columns" }>, at: string): readonly string[] {
  switch (item.kind) {
    case "opened":
      return describeOpened(item.opened, item.atMs);
    case "statement":
      return describeStatement(item.statement, at);
    case "copy":
      return visibleLines(item.text.replace(/\n$/, "")).map((text) => `        ${text}`);
    case "complete":
      return [`        ${visible(item.tag)}`];
    case "error":
      return describeFields("ERROR", item.fields);
    case "notice":
      return describeFields("NOTICE", item.fields);
    case "finished":
      return [];
    case "alert":
      return [`${at}  ALERT ${text(item.alert["code"])}: ${text(item.alert["message"])}`];
    case "closed":
      return [
        `${at}  closed (${text(item.closed["code"])}): ${text(item.closed["statements"])} statements, ` +
          `${text(item.closed["denied"])} denied, ${text(item.closed["masked"])} masked`,
      ];
    default:
      return assertNever(item);
  }
}

function describeOpened(opened: Readonly<Record<string, unknown>>, atMs: number): readonly string[] {
  const principal = isRecord(opened["principal"]) ? opened["principal"] : {};
  const groups = Array.isArray(principal["groups"]) ? principal["groups"].map(text).join(", ") : "";
  return [
    `${text(principal["subject"])}${groups === "" ? "" : ` (${groups})`} on ${text(opened["resource"])}, ` +
      `database ${text(opened["database"])}, from ${text(opened["clientAddress"])}`,
    `started ${formatTime(atMs)}, policy ${text(opened["policyVersion"])}, recording ${text(opened["recording"])}`,
    "",
  ];
}

function describeStatement(statement: Readonly<Record<string, unknown>>, at: string): readonly string[] {
  const sql = visibleLines(typeof statement["text"] === "string" ? statement["text"] : "");
  const [first = "", ...more] = sql;
  const parameters = Array.isArray(statement["parameters"]) ? statement["parameters"] : [];
  return [
    `${at}  ${statement["phase"] === "parse" ? "prepares " : ""}${first}`,
    ...more.map((part) => `            ${part}`),
    ...(parameters.length === 0
      ? []
      : [`        with ${parameters.map((value, n) => `$${n + 1} = ${parameter(value)}`).join(", ")}`]),
    ...describeDecision(isRecord(statement["decision"]) ? statement["decision"] : {}),
  ];
}

/** Two lines at most: what was decided by which rule, and what is masked how. */
export function describeDecision(decision: Readonly<Record<string, unknown>>): readonly string[] {
  const reason = text(decision["reason"]);
  const released = decision["effect"] !== "deny" && decision["effect"] !== "approve";
  const columns = released && Array.isArray(decision["columns"]) ? decision["columns"].filter(isRecord) : [];
  const masked = columns.flatMap((column) => {
    const mask = column["mask"];
    return isRecord(mask) ? [`${text(column["name"])} (${text(mask["entity"])}, ${text(mask["operator"])})`] : [];
  });
  return [
    `        → ${text(decision["effect"])} by ${text(decision["rule"])}${reason === "" || reason === "-" ? "" : `: ${reason}`}`,
    ...(masked.length === 0 ? [] : [`          masked: ${masked.join(", ")}`]),
  ];
}

/** Fields as the protocol names them: either the letters of PostgreSQL's ErrorResponse or whole words. */
function describeFields(fallback: string, fields: Readonly<Record<string, string>>): readonly string[] {
  const pick = (letter: string, word: string): string | undefined => fields[word] ?? fields[letter];
  const severity = pick("S", "severity") ?? fallback;
  const code = pick("C", "sqlState");
  const detail = pick("D", "detail");
  const hint = pick("H", "hint");
  return [
    `        ${visible(severity)}${code === undefined ? "" : ` ${visible(code)}`}: ${visible(pick("M", "message") ?? "")}`,
    ...(detail === undefined ? [] : [`        DETAIL: ${visible(detail)}`]),
    ...(hint === undefined ? [] : [`        HINT: ${visible(hint)}`]),
  ];
}

function parameter(value: unknown): string {
  return value === null ? "NULL" : `'${text(value)}'`;
}

function text(value: unknown): string {
  if (typeof value === "string") return visible(value);
  return typeof value === "number" || typeof value === "boolean" ? String(value) : "-";
}
