import { defaultLimits } from "@sluice/core/limits.ts";
import { describe, expect, it } from "vitest";
import { Admission } from "./admission.ts";

const limits = {
  ...defaultLimits,
  unauthenticatedMax: 3,
  unauthenticatedPerAddressMax: 2,
  sessionsMax: 3,
  sessionsPerAddressMax: 2,
  sessionsPerPrincipalMax: 1,
};

describe("Admission", () => {
  it("caps strangers per address and in all, and forgets those that left", () => {
    const admission = new Admission(limits);
    const first = admission.enter("a");
    admission.enter("a");
    expect(() => admission.enter("a")).toThrow("your address");
    admission.enter("b");
    expect(() => admission.enter("c")).toThrow("this gateway");
    first();
    first();
    expect(() => admission.enter("a")).not.toThrow();
    expect(() => admission.enter("c")).toThrow("this gateway");
  });

  it("caps sessions per principal, address and gateway", () => {
    const admission = new Admission(limits);
    const release = admission.open("a", "ada");
    expect(() => admission.open("b", "ada")).toThrow("you have reached");
    admission.open("a", "bob");
    expect(() => admission.open("a", "eve")).toThrow("your address");
    admission.open("b", "eve");
    expect(() => admission.open("c", "joe")).toThrow("this gateway");
    release();
    expect(admission.sessions).toBe(2);
    expect(() => admission.open("a", "ada")).not.toThrow();
  });
});
