/** Diffs are minimal in simple cases, and applying one makes the later text of the former. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { unifiedDiff } from "./line-diff.ts";

const names = { before: "a", after: "b" };

it("says nothing of equal texts, and shows a change with three lines around it", () => {
  expect(unifiedDiff("a\nb\n", "a\nb\n", names)).toBe("");
  const text = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
  expect(unifiedDiff(text, text.replace("5\n", "five\n"), names)).toBe(
    "--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n",
  );
  expect(unifiedDiff("", "x\n", names)).toBe("--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n");
  expect(unifiedDiff("x\ny", "x\n", names)).toBe("--- a\n+++ b\n@@ -1,2 +1 @@\n x\n-y\n\\ No newline at end of file\n");
});

it("bounds its work for texts that have nothing in common", () => {
  const before = Array.from({ length: 50_000 }, (_, n) => `a${n}\n`).join("");
  const after = Array.from({ length: 50_000 }, (_, n) => `b${n}\n`).join("");
  const startedAt = performance.now();
  expect(unifiedDiff(before, after, names).length).toBeGreaterThan(before.length + after.length);
  expect(performance.now() - startedAt).toBeLessThan(10_000);
});

it("turns the one text into the other when it is applied", () => {
  const line = fc.constantFrom("a\n", "b\n", "c\n", "\n", "-\n", "+ x\n");
  const text = fc
    .tuple(fc.array(line, { maxLength: 40 }), fc.constantFrom("", "end"))
    .map(([lines, end]) => lines.join("") + end);
  fc.assert(
    fc.property(text, text, (before, after) => {
      expect(applyDiff(before, unifiedDiff(before, after, names))).toBe(after);
    }),
  );
});

/** As `patch` does, without any tolerance: every line must be where the hunk says. */
function applyDiff(before: string, diff: string): string {
  const former = before.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  const result: string[] = [];
  let taken = 0;
  for (const hunk of diff.split(/^(?=@@ )/m).slice(1)) {
    // A line without an end is followed by a remark; the last line of the text is the only one that can have none.
    const [header = "", ...lines] = hunk.split(/(?<=\n)(?!\\)/).map((line) => line.replace(/\n\\ No newline.*\n$/, ""));
    const [, start = "", count = "1", laterStart = "", laterCount = "1"] =
      /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n$/.exec(header) ?? [];
    const first = Number(start) - (count === "0" ? 0 : 1);
    result.push(...former.slice(taken, first));
    expect(result.length).toBe(Number(laterStart) - (laterCount === "0" ? 0 : 1));
    taken = first;
    for (const marked of lines) {
      if (!marked.startsWith("+")) expect(former[taken++]).toBe(marked.slice(1));
      if (!marked.startsWith("-")) result.push(marked.slice(1));
    }
  }
  return [...result, ...former.slice(taken)].join("");
}
