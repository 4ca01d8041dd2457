/** The parts of the hot path alone, in this process, one core: best of several passes over 64 KB chunks of ten-column rows. */
import { compileDetector } from "@sluice/inspect/dlp/detect.ts";
import { maskExact, scanCell } from "@sluice/inspect/dlp/cell-edit.ts";
import type { ColumnPlan } from "@sluice/inspect/wire/judgement.ts";
import { RowWalker } from "@sluice/inspect/wire/postgres/row-walker.ts";
import { defaultLimits } from "@sluice/core/limits.ts";

export interface InProcessRow {
  readonly name: string;
  readonly value: number;
  readonly unit: "MB/s";
  readonly aim: string;
}

const TEXT_OID = 25;
const CHUNK_BYTES = 64 * 1024;
const ROWS = 60_000;
const PASSES = 12;

export async function measureInProcess(): Promise<readonly InProcessRow[]> {
  const bytes = rows();
  const mask = maskExact({ kind: "partial", keepFirst: 0, keepLast: 4 }, TEXT_OID, "text");
  const detectors = ["US_SSN", "EMAIL_ADDRESS", "CREDIT_CARD"].map((detector) => ({
    detector: compileDetector(detector, { kind: "builtin", detector }),
    operator: { kind: "redact" } as const,
  }));
  const scan = scanCell(detectors, TEXT_OID, "text");
  const two: ColumnPlan = [null, mask, null, mask, null, null, null, null, null, null];
  const all: ColumnPlan = [scan, mask, scan, mask, scan, scan, scan, scan, scan, scan];
  return [
    row("codec walks, nothing edited", bytes, null, 1000),
    row("two columns masked", bytes, two, undefined),
    row("two columns masked, eight searched by three detectors", bytes, all, 300),
  ];
}

function row(name: string, bytes: Buffer, edits: ColumnPlan, aim: number | undefined): InProcessRow {
  let best = Number.POSITIVE_INFINITY;
  for (let pass = 0; pass < PASSES; pass++) best = Math.min(best, walk(bytes, edits));
  const value = bytes.length / 1e6 / (best / 1000);
  return { name, value, unit: "MB/s", aim: aim === undefined ? "" : `aim ${aim}: ${value >= aim ? "reached" : "NOT reached"}` };
}

function walk(bytes: Buffer, edits: ColumnPlan): number {
  let released = 0;
  const walker = new RowWalker(
    {
      control: () => {},
      beginRows: () => ({ kind: "release", edits, rowsLeft: Number.POSITIVE_INFINITY }),
      rowsExceeded: () => {},
      rowTooLarge: () => {},
      release: (piece) => {
        released += piece.length;
      },
    },
    defaultLimits,
  );
  const started = performance.now();
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) walker.push(bytes.subarray(at, at + CHUNK_BYTES));
  const ms = performance.now() - started;
  if (released === 0) throw new Error("the walker released nothing");
  return ms;
}

/** DataRow messages of ten text columns. */
function rows(): Buffer {
  const parts: Buffer[] = [];
  for (let n = 0; n < ROWS; n++) {
    const cells = [
      `${n}`,
      `${100 + (n % 600)}-${10 + (n % 80)}-${1000 + (n % 9000)}`,
      `name ${n}`,
      `401288888888${String(n % 10_000).padStart(4, "0")}`,
      `city of ${n % 977}`,
      `note ${n}`,
      `state ${n % 50}`,
      `street ${n % 5000}`,
      `remark number ${n}`,
      "d41d8cd98f00b204e9800998ecf8427e",
    ].map((text) => Buffer.from(text));
    const bodyBytes = 2 + cells.reduce((sum, cell) => sum + 4 + cell.length, 0);
    const head = Buffer.alloc(7);
    head[0] = 0x44;
    head.writeUInt32BE(bodyBytes + 4, 1);
    head.writeInt16BE(cells.length, 5);
    parts.push(head);
    for (const cell of cells) {
      const length = Buffer.alloc(4);
      length.writeInt32BE(cell.length);
      parts.push(length, cell);
    }
  }
  return Buffer.concat(parts);
}
