/**
 * How fast rows pass, in one process, without sockets: `node row-walker.measure.ts`. Prints MB/s of input. Rows of 185 bytes in
 * ten text columns, in chunks of 64 KiB.
 */
import type { ColumnPlan } from "../judgement.ts";
import { encodeMessage, int16, int32 } from "./frames.ts";
import { type RowMode, RowWalker } from "./row-walker.ts";

const CHUNK_BYTES = 64 * 1024;
const ROUNDS = 40;

function rows(totalBytes: number): Buffer[] {
  const cells = [
    "1234567",
    "Ada Lovelace",
    "ada@example.com",
    "123-45-6789",
    "London",
    "2024-01-01 10:00:00",
    "active",
    "x".repeat(20),
    "42",
    "0.25",
  ];
  const row = encodeMessage("D", [int16(cells.length), ...cells.flatMap((cell) => [int32(cell.length), Buffer.from(cell)])]);
  const all = Buffer.concat(Array.from({ length: Math.ceil(totalBytes / row.length) }, () => row));
  const chunks: Buffer[] = [];
  for (let at = 0; at < all.length; at += CHUNK_BYTES) chunks.push(all.subarray(at, at + CHUNK_BYTES));
  return chunks;
}

function measure(name: string, edits: ColumnPlan): void {
  const chunks = rows(16 * 1024 * 1024);
  const inputBytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const mode: RowMode = { kind: "release", edits, rowsLeft: Infinity };
  let released = 0;
  const nothing = (): void => {};
  const walker = new RowWalker(
    {
      control: nothing,
      beginRows: () => mode,
      rowsExceeded: nothing,
      rowTooLarge: nothing,
      release: (bytes) => (released += bytes.length),
    },
    { targetFrameBytesMax: 1 << 24, editedRowBytesMax: 1 << 24 },
  );
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = performance.now();
    for (const chunk of chunks) walker.push(chunk);
    times.push(performance.now() - startMs);
  }
  times.sort((a, b) => a - b);
  const medianMs = times[ROUNDS / 2]!;
  console.log(
    `${name}: ${Math.round(inputBytes / 1e3 / medianMs)} MB/s (${Math.round(released / ROUNDS / 1e6)} MB released a round)`,
  );
}

const mask = Buffer.from("*******6789");
measure("untouched", null);
measure(
  "one column replaced, same length",
  Array.from({ length: 10 }, (_, index) => (index === 3 ? () => mask : null)),
);
measure(
  "two columns replaced, other length",
  Array.from({ length: 10 }, (_, index) => (index === 2 || index === 3 ? () => mask : null)),
);
