/**
 * Tables and one-line values for people. What comes from a database or a client is shown with its control characters made
 * visible: a stored value must never move the reader's cursor or recolour the terminal.
 */

export interface TableOptions {
  /** Cells longer than this are cut with an ellipsis. Characters; 60. */
  readonly cellWidthMax?: number;
}

/** Returns lines: header, rule, one line a row. Null cells are shown as `∅`, so that they differ from the empty text. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly (string | null)[])[],
  options: TableOptions = {},
): readonly string[] {
  const max = options.cellWidthMax ?? 60;
  const cells = rows.map((row) => header.map((_, at) => shorten(visible(row[at] === null ? "∅" : (row[at] ?? "")), max)));
  const titles = header.map((title) => shorten(visible(title), max));
  const widths = titles.map((title, at) => Math.max(title.length, ...cells.map((row) => (row[at] ?? "").length)));
  const line = (values: readonly string[]): string =>
    values
      .map((value, at) => value.padEnd(widths[at] ?? 0))
      .join(" | ")
      .trimEnd();
  return [line(titles), widths.map((width) => "-".repeat(width)).join("-+-"), ...cells.map(line)];
}

/** Control characters, bidirectional overrides and line separators as escapes. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) => escapes[character] ?? unicodeEscape(character));
}

/** The same for texts that may span lines, such as statements: line feeds and tabs stay. */
export function visibleLines(text: string): readonly string[] {
  return text.split(/\r?\n/).map((line) => line.split("\t").map(visible).join("  "));
}

export function shorten(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}

/** `2026-03-01 10:20:30.123Z`; `-` when unknown. Takes milliseconds since the epoch or an ISO text. */
export function formatTime(time: unknown): string {
  if (typeof time !== "string" && typeof time !== "number") return "-";
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "-" : date.toISOString().replace("T", " ");
}

const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function unicodeEscape(character: string): string {
  return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`;
}
