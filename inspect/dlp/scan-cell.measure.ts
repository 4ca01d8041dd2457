/**
 * Measures masking and searching of cells in process, one core: `node inspect/dlp/scan-cell.measure.ts`. Prints MB/s of row
 * bytes, the best of several rounds, since the machine has other work too. Made-up rows of ten text columns, two of them
 * masked, the rest searched by all built-in detectors; nothing here is a test, and numbers compare within one run only.
 */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { maskExact, scanCell } from "./cell-edit.ts";
import { builtinDetectorNames, compileDetector } from "./detect.ts";

const TEXT_OID = 25;
const ROWS = 20_000;
const ROUNDS = 40;
const LAST_FOUR: MaskOperator = { kind: "partial", keepFirst: 0, keepLast: 4 };

interface Cell {
  readonly column: number;
  readonly start: number;
  readonly end: number;
}

function main(): void {
  const clean = layOut(0);
  const planted = layOut(20);
  const rules = builtinDetectorNames.map((detector) => ({
    detector: compileDetector(detector, { kind: "builtin", detector }),
    operator: LAST_FOUR,
  }));
  const scan = scanCell(rules, TEXT_OID, "text");
  const mask = maskExact(LAST_FOUR, TEXT_OID, "text");
  const masked = (column: number): CellEdit | null => (column === 1 || column === 2 ? mask : null);
  report("copy only", clean, () => null);
  report("mask two columns", clean, masked);
  report("search ten columns, two hits a row", clean, () => scan);
  report("mask two, search eight, no hit", clean, (column) => masked(column) ?? scan);
  report("mask two, search eight, a hit every 20 rows", planted, (column) => masked(column) ?? scan);
  const pattern = compileDetector("BADGE", { kind: "pattern", pattern: "\\bEMP-\\d{6}\\b", context: [] });
  report("search eight columns, no hit", clean, (column) => (masked(column) === null ? scan : null));
  report("search ten columns for a declared pattern", clean, () =>
    scanCell([{ detector: pattern, operator: LAST_FOUR }], TEXT_OID, "text"),
  );
}

/** One buffer with all rows, as a chunk holds them: four bytes of length before each cell. */
function layOut(hitEveryRows: number): { readonly bytes: Buffer; readonly cells: readonly Cell[] } {
  const parts: Buffer[] = [];
  const cells: Cell[] = [];
  let at = 0;
  for (let row = 0; row < ROWS; row += 1) {
    const hit = hitEveryRows > 0 && row % hitEveryRows === 0;
    for (const [column, text] of rowOf(row, hit).entries()) {
      const bytes = Buffer.from(text);
      parts.push(Buffer.alloc(4), bytes);
      cells.push({ column, start: at + 4, end: at + 4 + bytes.length });
      at += 4 + bytes.length;
    }
  }
  return { bytes: Buffer.concat(parts), cells };
}

function rowOf(row: number, hit: boolean): readonly string[] {
  return [
    `${row}`,
    `${100 + (row % 500)}-${10 + (row % 80)}-${1000 + (row % 9000)}`,
    `person${row}@example.com`,
    `Avery Longlastname ${row % 97}`,
    `${row % 900} Long Meadow Road`,
    "Springfield",
    `2026-0${1 + (row % 9)}-1${row % 9} 12:34:56.789+00`,
    `shipped, order ${row * 7} of batch ${row % 31}`,
    hit ? `call back, ssn 219-45-${1000 + (row % 9000)} on file` : "left at the door with a neighbour",
    `d41d8cd98f00b204e9800998ecf8${1000 + (row % 9000)}`,
  ];
}

function report(name: string, data: ReturnType<typeof layOut>, editOf: (column: number) => CellEdit | null): void {
  const edits = Array.from({ length: 10 }, (_, column) => editOf(column));
  const out = Buffer.allocUnsafe(data.bytes.length * 2);
  let bestMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const started = performance.now();
    pass(data, edits, out);
    bestMs = Math.min(bestMs, performance.now() - started);
  }
  const speed = (data.bytes.length / 1e3 / bestMs).toFixed(0);
  console.log(`${name.padEnd(46)} ${speed.padStart(6)} MB/s ${((bestMs * 1e6) / ROWS).toFixed(0).padStart(6)} ns/row`);
}

/** What a row walker does: untouched stretches are copied together, edited cells written between. Returns bytes written. */
function pass(data: ReturnType<typeof layOut>, edits: readonly (CellEdit | null)[], out: Buffer): number {
  const { bytes, cells } = data;
  let written = 0;
  let copied = 0;
  for (const cell of cells) {
    const edit = edits[cell.column];
    if (!edit) continue;
    const replacement = edit(bytes, cell.start, cell.end);
    if (replacement === undefined) continue;
    written += bytes.copy(out, written, copied, cell.start - 4);
    written = out.writeInt32BE(replacement === null ? -1 : replacement.length, written);
    if (replacement !== null) written += replacement.copy(out, written);
    copied = cell.end;
  }
  return written + bytes.copy(out, written, copied);
}

main();
