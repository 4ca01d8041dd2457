import { GatewayError } from "@sluice/core/errors.ts";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findCandidates } from "./candidates.ts";
import { builtinDetectorNames, compileDetector, type Detector } from "./detect.ts";
import { plantedText } from "./planted-text.ts";

const builtins: readonly Detector[] = builtinDetectorNames.map((detector) =>
  compileDetector(detector, { kind: "builtin", detector }),
);
const pattern = (text: string, more: { validator?: "luhn"; context?: readonly string[] } = {}): Detector =>
  compileDetector("BADGE", { kind: "pattern", pattern: text, context: [], ...more });

function faultOf(make: () => unknown): GatewayError {
  try {
    make();
  } catch (thrown) {
    if (thrown instanceof GatewayError) return thrown;
  }
  throw new Error("no GatewayError was thrown");
}

describe("built-in detectors", () => {
  it("are known by name", () => expect(builtinDetectorNames).toEqual(["US_SSN", "EMAIL_ADDRESS", "CREDIT_CARD"]));

  it("give spans in order, inside the text, apart from each other", () => {
    fc.assert(
      fc.property(plantedText, (text) => {
        for (const detector of builtins) {
          let floor = 0;
          for (const { start, end } of detector.scan(text)) {
            expect(start).toBeGreaterThanOrEqual(floor);
            expect(end).toBeGreaterThan(start);
            floor = end;
          }
          expect(floor).toBeLessThanOrEqual(text.length);
        }
      }),
    );
  });

  it("never hit where the look at the bytes says no", () => {
    fc.assert(
      fc.property(plantedText, (text) => {
        const bytes = Buffer.from(`\0${text}\0`);
        const bits = findCandidates(bytes, 1, bytes.length - 1);
        for (const detector of builtins) {
          if (detector.scan(text).length > 0) expect(bits & (detector.needs ?? 0)).not.toBe(0);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("declared patterns", () => {
  it("hit with UTF-16 offsets", () => {
    expect(pattern("EMP-\\d{4}").scan("😀 EMP-1234 é EMP-5678")).toEqual([
      { start: 3, end: 11 },
      { start: 14, end: 22 },
    ]);
  });

  it("keep a hit only with a valid check digit when asked", () => {
    expect(pattern("\\d{6}", { validator: "luhn" }).scan("123455 123456")).toEqual([{ start: 0, end: 6 }]);
  });

  it("keep a hit only near a context word, whole and in any case", () => {
    const badge = pattern("\\d{4}", { context: ["badge", "c.d"] });
    expect(badge.scan("Badge no. 1234")).toHaveLength(1);
    expect(badge.scan("1234 (badge)")).toHaveLength(1);
    expect(badge.scan("badge_id 1234")).toHaveLength(1);
    expect(badge.scan("badges 1234")).toEqual([]);
    expect(badge.scan("cxd 1234")).toEqual([]);
    expect(badge.scan(`badge${" ".repeat(60)}1234`)).toEqual([]);
    expect(badge.scan("[BADGE] 1234")).toEqual([]);
  });

  it("run in linear time where a backtracking engine would not", () => {
    const started = performance.now();
    expect(pattern("(a+)+b").scan("a".repeat(50_000))).toEqual([]);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe("what cannot be used", () => {
  it.each([
    ["(a", "cannot be used"],
    ["(?=a)b", "cannot be used"],
    ["(a)\\1", "cannot be used"],
    ["a*", "matches the empty text"],
    ["", "matches the empty text"],
    ["a".repeat(1_001), "too long"],
  ])("pattern %j", (text, sentence) => {
    const fault = faultOf(() => pattern(text));
    expect(fault.code).toBe("config_invalid");
    expect(fault.message).toContain(sentence);
    expect(fault.message).toContain("BADGE");
    expect(fault.hint).toBeTruthy();
  });

  it("a detector nobody built", () => {
    const fault = faultOf(() => compileDetector("X", { kind: "builtin", detector: "US_SNN" }));
    expect(fault.code).toBe("config_invalid");
    expect(fault.message).toContain('"US_SNN"');
    expect(fault.hint).toContain("US_SSN, EMAIL_ADDRESS, CREDIT_CARD");
  });
});
