import { describe, expect, it } from "vitest";
import { didYouMean } from "./did-you-mean.ts";

describe("didYouMean", () => {
  it.each([
    ["clas", ["class", "effects"], "class"],
    ["entites", ["entities", "effect"], "entities"],
    ["Kind", ["kind", "name"], "kind"],
    ["naem", ["name", "text"], "name"],
    ["colour", ["class", "effects"], undefined],
    ["x", [], undefined],
    ["ab", ["ac", "aa"], "aa"],
    ["y".repeat(100), ["y".repeat(99)], undefined],
  ])("%s among %j is %s", (word, candidates, expected) => {
    expect(didYouMean(word, candidates)).toBe(expected);
  });
});
