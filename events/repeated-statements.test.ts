import { describe, expect, test } from "vitest";
import { RepeatedStatements, STATEMENT_REPEAT_DISTANCE_MAX } from "./repeated-statements.ts";
import type { StatementRecorded } from "./session-events.ts";

const whole = (number: number, text: string): StatementRecorded => ({
  number,
  phase: "query",
  text,
  parameters: [],
  decision: { id: `d_${number}`, effect: "allow", rule: "p/r", reason: "because" },
});
const repeat = (number: number, sameAs: number): StatementRecorded => ({
  number,
  phase: "execute",
  sameAs,
  text: "",
  parameters: ["7"],
  decision: { id: `d_${number}`, effect: "allow" },
});

describe("repeated statements", () => {
  test("a repeat gets text and decision of its original, with its own id, parameters and phase", () => {
    const statements = new RepeatedStatements();
    expect(statements.resolve(whole(1, "SELECT $1"))).toEqual(whole(1, "SELECT $1"));
    expect(statements.resolve(repeat(2, 1))).toEqual({
      number: 2,
      phase: "execute",
      text: "SELECT $1",
      parameters: ["7"],
      decision: { id: "d_2", effect: "allow", rule: "p/r", reason: "because" },
    });
  });

  test("says so when the original is missing, and shows nothing else in its place", () => {
    const statements = new RepeatedStatements();
    statements.resolve(whole(1, "SELECT 1"));
    const resolved = statements.resolve(repeat(5, 3));
    expect(resolved.text).toBe("[the text of statement 3, which is missing here]");
    expect(resolved.decision).toEqual({ id: "d_5", effect: "allow" });
  });

  test("remembers as far back as a repeat may refer, and not all there ever was", () => {
    const statements = new RepeatedStatements();
    for (let number = 1; number <= 3 * STATEMENT_REPEAT_DISTANCE_MAX; number++)
      statements.resolve(whole(number, `SELECT ${number}`));
    const next = 3 * STATEMENT_REPEAT_DISTANCE_MAX + 1;
    expect(statements.resolve(repeat(next, next - STATEMENT_REPEAT_DISTANCE_MAX)).text).toMatch(/^SELECT/);
    expect(statements.resolve(repeat(next, next - STATEMENT_REPEAT_DISTANCE_MAX - 1)).text).toMatch(/missing/);
  });
});
