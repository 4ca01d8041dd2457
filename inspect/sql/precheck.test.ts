/** What is refused or set apart before any parser sees it. */
import { defaultLimits } from "@sluice/core/limits.ts";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { precheck } from "./precheck.ts";

const limits = { ...defaultLimits, statementBytesMax: 100_000, trustedStatementBytesMax: 10_000, statementDepthMax: 20 };

describe("precheck", () => {
  it.each([
    "",
    "SELECT 1",
    `SELECT ${"(".repeat(20)}1${")".repeat(20)}`,
    "/* a /* b */ c */ SELECT 1",
    `SELECT '${"(".repeat(500)}'`,
    `SELECT "${"(".repeat(500)}"`,
    `SELECT E'\\'${"(".repeat(500)}'`,
    `SELECT $$${"(".repeat(500)}$$`,
    `SELECT $tag$ $$ ${"(".repeat(500)} $tag$`,
    `SELECT 1 -- ${"(".repeat(500)}`,
    `SELECT $1, a$b$c FROM t`,
    `INSERT INTO t VALUES ${"(1),".repeat(1_000)}(1)`,
  ])("trusts %#", (text) => {
    expect(precheck(text, limits)).toBe("trusted");
  });

  it.each([
    [`SELECT 1${"::int".repeat(1_001)}`],
    [`SELECT '${"x".repeat(10_000)}'`],
    [`SELECT ${"/* */ ".repeat(21)}1`],
    [`${"/*".repeat(9)}${"*/".repeat(9)} SELECT 1`],
    [`SELECT ${"() ".repeat(2_500)}${"é".repeat(2_000)}`],
  ])("sets apart %#", (text) => {
    expect(precheck(text, limits)).toBe("abnormal");
  });

  it.each([
    ["SELECT 1\0", "statement_invalid"],
    ["\0", "statement_invalid"],
    ["x".repeat(100_001), "statement_too_long"],
    ["é".repeat(50_001), "statement_too_long"],
    [`SELECT ${"(".repeat(21)}`, "statement_too_long"],
    [`SELECT ${"[".repeat(21)}`, "statement_too_long"],
    ["/*".repeat(16_000), "statement_too_long"],
    [`SELECT 'a' ${"/*".repeat(21)}`, "statement_too_long"],
    [`SELECT '\\' ${"(".repeat(21)} --'`, "statement_too_long"],
  ])("refuses %#", (text, code) => {
    expect(() => precheck(text, limits)).toThrow(expect.objectContaining({ code }));
  });

  it("answers for any text in bounded time", () => {
    const pieces = fc.constantFrom("'", '"', "$", "$a$", "/*", "*/", "--", "\n", "(", ")", "E'", "\\", "x", "::", "é");
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 300 }), (parts) => {
        try {
          expect(["trusted", "abnormal"]).toContain(precheck(parts.join(""), limits));
        } catch (error) {
          expect(error).toMatchObject({ code: "statement_too_long" });
        }
      }),
    );
  });

  it("reads a megabyte of openings in linear time", () => {
    const large = { ...limits, statementBytesMax: 4_000_000, statementDepthMax: 4_000_000 };
    const started = performance.now();
    for (const piece of ["$a", "'", "/*", "-", "$$", "E'\\"]) precheck(piece.repeat(1_000_000 / piece.length), large);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});
