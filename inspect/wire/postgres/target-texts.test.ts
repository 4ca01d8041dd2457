/** Settings that a target begins with: the two under which a text means what is judged. */
import { describe, expect, test } from "vitest";
import { requireFixedSettings } from "./target-texts.ts";

describe("settings at the beginning", () => {
  test.each([
    ["standard_conforming_strings", "off"],
    ["client_encoding", "LATIN1"],
  ])("%s = %s ends the session before its first statement", (name, value) => {
    const parameters = [["server_version", "18.0"] as const, [name, value] as const];
    expect(() => requireFixedSettings(parameters)).toThrow(expect.objectContaining({ code: "target_protocol" }) as Error);
  });

  test("the usual ones, and names that objects have by nature, pass", () => {
    requireFixedSettings([
      ["client_encoding", "UTF8"],
      ["standard_conforming_strings", "on"],
      ["constructor", "x"],
      ["__proto__", "y"],
    ]);
    expect(() => requireFixedSettings([])).not.toThrow();
  });
});
