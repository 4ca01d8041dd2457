import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { builtinDetectorNames, compileDetector, type Detector } from "./detect.ts";
import { plantedText } from "./planted-text.ts";
import { redactText } from "./redact-text.ts";

const builtins: readonly Detector[] = builtinDetectorNames.map((detector) =>
  compileDetector(detector, { kind: "builtin", detector }),
);
const fixed = (entity: string, start: number, end: number): Detector => ({
  entity,
  scan: (text) => (text.startsWith("[") ? [] : [{ start, end }]),
});

describe("redacting statement texts", () => {
  it("names what stood there and keeps the rest", () => {
    const text = "INSERT INTO t VALUES ('219-05-1123', 'Zoë', 'jürgen@müller.example', 4111111111111111) -- 😀";
    expect(redactText(text, builtins)).toBe("INSERT INTO t VALUES ('[US_SSN]', 'Zoë', '[EMAIL_ADDRESS]', [CREDIT_CARD]) -- 😀");
    expect(redactText("SELECT 1", builtins)).toBe("SELECT 1");
    expect(redactText("219-05-1123", [])).toBe("219-05-1123");
  });

  it("joins hits that overlap under the name of the first, the longer of two", () => {
    expect(redactText("abcdefgh", [fixed("LATE", 3, 7), fixed("EARLY", 0, 4)])).toBe("[EARLY]h");
    expect(redactText("abcdefgh", [fixed("SHORT", 0, 4), fixed("LONG", 0, 6)])).toBe("[LONG]gh");
    expect(redactText("abcdefgh", [fixed("ONE", 0, 4), fixed("TWO", 4, 8)])).toBe("[ONE][TWO]");
  });

  it("leaves nothing to find in its result", () => {
    fc.assert(
      fc.property(plantedText, (text) => {
        const once = redactText(text, builtins);
        expect(redactText(once, builtins)).toBe(once);
        for (const detector of builtins) expect(detector.scan(once)).toEqual([]);
      }),
      { numRuns: 1_000 },
    );
  });

  it("does not redact its own placeholders", () => {
    const capitals = compileDetector("WORD", { kind: "pattern", pattern: "[A-Z]+", context: [] });
    expect(redactText("a BC 219-05-1123", [capitals, ...builtins])).toBe("a [WORD] [US_SSN]");
  });
});
