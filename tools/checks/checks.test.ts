/** The checks can fail: each is given what it must find. */
import { describe, expect, it } from "vitest";
import { anchorsOf, findDocumentationFaults } from "./documentation.ts";
import { findLongFiles, isSourceFile, LINES_MAX } from "./file-length.ts";
import { judgeReport, type VitestReport } from "./vitest.ts";

describe("documentation", () => {
  const faults = (text: string): readonly string[] =>
    findDocumentationFaults(
      new Map([
        ["docs/a.md", text],
        ["docs/b.md", "# A title, with *marks*\n## Twice\n## Twice\n"],
      ]),
      new Set(["docs/a.md", "docs/b.md", "core/ids.ts"]),
    );

  it("follows links to files, folders and headings", () => {
    expect(
      faults(
        "[b](b.md) [t](b.md#a-title-with-marks) [2](b.md#twice-1) [c](../core) [i](../core/ids.ts) [w](https://x.example/y)",
      ),
    ).toEqual([]);
    expect(faults("# Here\n[here](#here)")).toEqual([]);
  });

  it("finds links that lead nowhere", () => {
    expect(faults("\n[x](c.md)")).toEqual(["docs/a.md:2: the link c.md leads nowhere"]);
    expect(faults("[x](b.md#nowhere)")).toEqual(["docs/a.md:1: docs/b.md has no heading for #nowhere"]);
    expect(faults("[x](../../etc/passwd)")).toEqual(["docs/a.md:1: the link ../../etc/passwd leaves the project"]);
    expect(faults("[x]: c.md")).toEqual(["docs/a.md:1: the link c.md leads nowhere"]);
  });

  it("leaves code alone, but not what it teaches", () => {
    expect(faults("`[x](c.md)`\n```\n[x](c.md)\n```")).toEqual([]);
    const insecure = "sslmode=require";
    expect(faults(`\`\`\`\npsql "${insecure}"\n\`\`\``)).toEqual([
      "docs/a.md:2: shows a connection that does not verify the server; use sslmode=verify-full",
    ]);
  });

  it("makes anchors as GitHub does", () => {
    expect([...anchorsOf("# What's `new` in 1.2?\n### Über_x – y")]).toEqual(["whats--in-12", "über_x--y"]);
  });
});

describe("file length", () => {
  const long = "x\n".repeat(LINES_MAX + 1);

  it("finds a long file unless its first comment has a reason", () => {
    expect(findLongFiles([{ path: "a.ts", text: long }])).toHaveLength(1);
    expect(findLongFiles([{ path: "a.ts", text: `/**\n * Table. Long because it is one table.\n */\n${long}` }])).toEqual([]);
    expect(findLongFiles([{ path: "a.ts", text: `/** Short. */\n${long}/* Long because. */` }])).toHaveLength(1);
    expect(findLongFiles([{ path: "a.ts", text: "x\n".repeat(LINES_MAX) }])).toEqual([]);
  });

  it("counts source files alone", () => {
    expect(["a.ts", "b.mjs", "c.md", "package-lock.json"].map(isSourceFile)).toEqual([true, true, false, false]);
  });
});

describe("counting tests", () => {
  const report = (changes: Partial<VitestReport>): VitestReport => ({
    numTotalTests: 2,
    numPassedTests: 2,
    numFailedTests: 0,
    numPendingTests: 0,
    numTodoTests: 0,
    testResults: [],
    ...changes,
  });

  it("passes what passed", () => {
    expect(judgeReport(report({}), 0)).toEqual({ passed: 2, failed: 0, lines: [] });
  });

  it.each([
    ["a failed test", report({ numPassedTests: 1, numFailedTests: 1 }), 1],
    ["a skipped test", report({ numPassedTests: 1, numPendingTests: 1 }), 0],
    ["a test to do", report({ numTodoTests: 1 }), 0],
    ["no test at all", report({ numTotalTests: 0, numPassedTests: 0 }), 0],
    ["a file that does not load", report({ testResults: [{ name: "a.test.ts", status: "failed", assertionResults: [] }] }), 1],
    ["an error between tests", report({}), 1],
  ])("fails on %s", (_, given, status) => {
    expect(judgeReport(given, status).failed).toBe(1);
  });
});
