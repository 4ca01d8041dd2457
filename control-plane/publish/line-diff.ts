/**
 * What changed between two texts, line by line, as a unified diff. Pure. The shortest edit by Myers' algorithm ("An O(ND) Difference
 * Algorithm and Its Variations", 1986); texts that have little in common are shown as replaced, so that time stays bounded.
 */

/** Lines around a change. */
const CONTEXT = 3;
/** Lines inserted and deleted beyond which the middle counts as replaced: the work grows with its square. */
const EDITS_MAX = 500;

/** Empty when they are equal. A last line without an end is marked as `diff -u` does. */
export function unifiedDiff(before: string, after: string, names: { readonly before: string; readonly after: string }): string {
  const edits = editsBetween(linesOf(before), linesOf(after));
  if (edits.every(({ kind }) => kind === "same")) return "";
  const hunks = hunksOf(edits).map(showHunk);
  return `--- ${names.before}\n+++ ${names.after}\n${hunks.join("")}`;
}

interface Edit {
  readonly kind: "same" | "deleted" | "inserted";
  /** With its line end, where it has one. */
  readonly line: string;
}

interface Hunk {
  /** Lines before it in the former and the later text. */
  readonly skippedBefore: number;
  readonly skippedAfter: number;
  readonly edits: readonly Edit[];
}

function linesOf(text: string): readonly string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function editsBetween(before: readonly string[], after: readonly string[]): readonly Edit[] {
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < shorter - head && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
  const same = (line: string): Edit => ({ kind: "same", line });
  return [
    ...before.slice(0, head).map(same),
    ...shortestEdits(before.slice(head, before.length - tail), after.slice(head, after.length - tail)),
    ...before.slice(before.length - tail).map(same),
  ];
}

/** How far along the former text each diagonal had come, for each number of edits. Diagonal k: (place in former) - (place in later). */
type Trace = readonly ReadonlyMap<number, number>[];

function shortestEdits(before: readonly string[], after: readonly string[]): readonly Edit[] {
  const reach = new Map<number, number>([[1, 0]]);
  const trace: ReadonlyMap<number, number>[] = [];
  for (let edits = 0; edits <= Math.min(EDITS_MAX, before.length + after.length); edits++) {
    trace.push(new Map(reach));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = isInsertion(reach, diagonal, edits) ? at(reach, diagonal + 1) : at(reach, diagonal - 1) + 1;
      while (x < before.length && x - diagonal < after.length && before[x] === after[x - diagonal]) x++;
      reach.set(diagonal, x);
      if (x >= before.length && x - diagonal >= after.length) return walkBack(trace, before, after);
    }
  }
  return [...before.map((line): Edit => ({ kind: "deleted", line })), ...after.map((line): Edit => ({ kind: "inserted", line }))];
}

function walkBack(trace: Trace, before: readonly string[], after: readonly string[]): readonly Edit[] {
  const reversed: Edit[] = [];
  let x = before.length;
  let y = after.length;
  for (let edits = trace.length - 1; edits > 0; edits--) {
    const reach = trace[edits] ?? new Map<number, number>();
    const diagonal = x - y;
    const inserted = isInsertion(reach, diagonal, edits);
    const formerX = at(reach, inserted ? diagonal + 1 : diagonal - 1);
    const formerY = formerX - (inserted ? diagonal + 1 : diagonal - 1);
    // The step came first, then the lines that are the same: walked backwards, those come off first.
    const steppedX = inserted ? formerX : formerX + 1;
    for (; x > steppedX; x--) reversed.push(sameLine(before[x - 1]));
    reversed.push(inserted ? { kind: "inserted", line: after[formerY] ?? "" } : { kind: "deleted", line: before[formerX] ?? "" });
    x = formerX;
    y = formerY;
  }
  for (; x > 0; x--) reversed.push(sameLine(before[x - 1]));
  return reversed.reverse();
}

function sameLine(line: string | undefined): Edit {
  return { kind: "same", line: line ?? "" };
}

function isInsertion(reach: ReadonlyMap<number, number>, diagonal: number, edits: number): boolean {
  return diagonal === -edits || (diagonal !== edits && at(reach, diagonal - 1) < at(reach, diagonal + 1));
}

function at(reach: ReadonlyMap<number, number>, diagonal: number): number {
  return reach.get(diagonal) ?? 0;
}

function hunksOf(edits: readonly Edit[]): readonly Hunk[] {
  const changed = edits.flatMap(({ kind }, index) => (kind === "same" ? [] : [index]));
  const ranges: { start: number; end: number }[] = [];
  for (const index of changed) {
    const last = ranges.at(-1);
    const start = Math.max(0, index - CONTEXT);
    const end = Math.min(edits.length, index + CONTEXT + 1);
    if (last !== undefined && start <= last.end) last.end = end;
    else ranges.push({ start, end });
  }
  let walked = 0;
  let skippedBefore = 0;
  let skippedAfter = 0;
  return ranges.map(({ start, end }) => {
    for (; walked < start; walked++) {
      if (edits[walked]?.kind !== "inserted") skippedBefore++;
      if (edits[walked]?.kind !== "deleted") skippedAfter++;
    }
    return { skippedBefore, skippedAfter, edits: edits.slice(start, end) };
  });
}

const marks: Readonly<Record<Edit["kind"], string>> = { same: " ", deleted: "-", inserted: "+" };

function showHunk({ skippedBefore, skippedAfter, edits }: Hunk): string {
  const before = edits.filter(({ kind }) => kind !== "inserted").length;
  const after = edits.filter(({ kind }) => kind !== "deleted").length;
  const lines = edits.map(
    ({ kind, line }) => `${marks[kind]}${line.endsWith("\n") ? line : `${line}\n\\ No newline at end of file\n`}`,
  );
  return `@@ -${range(skippedBefore, before)} +${range(skippedAfter, after)} @@\n${lines.join("")}`;
}

/** An empty range is named by the line before it. */
function range(skipped: number, count: number): string {
  return count === 0 ? `${skipped},0` : count === 1 ? `${skipped + 1}` : `${skipped + 1},${count}`;
}
