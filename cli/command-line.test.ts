import { describe, expect, it } from "vitest";
import { parseDurationSeconds } from "./durations.ts";
import { conninfo, listenerOf } from "./commands/psql.ts";
import { stopTimeoutMs, stopWithin } from "./commands/up.ts";

describe("durations", () => {
  it.each([
    ["30s", 30],
    ["15m", 900],
    ["1h", 3_600],
    ["7d", 604_800],
    ["0s", undefined],
    ["-1s", undefined],
    ["1.5h", undefined],
    ["1w", undefined],
    ["h", undefined],
    ["400d", undefined],
    ["", undefined],
  ])("%s", (text, seconds) => {
    expect(parseDurationSeconds(text)).toBe(seconds);
  });
});

describe("connection strings", () => {
  it("quotes whatever libpq would read otherwise", () => {
    expect(conninfo({ user: "a b", password: "", dbname: "x'y\\z", host: "::1" })).toBe(
      "user='a b' password='' dbname='x\\'y\\\\z' host=::1",
    );
  });

  it.each([
    ["127.0.0.1:5", { host: "127.0.0.1", port: 5 }],
    ["[::1]:5", { host: "::1", port: 5 }],
    ["0.0.0.0:5", { host: "127.0.0.1", port: 5 }],
  ])("finds the listener %s", (address, expected) => {
    const ready = { admin: "", adminToken: "", caFile: "", pid: 1, listeners: [{ protocol: "postgres" as const, address }] };
    expect(listenerOf(ready)).toEqual(expected);
  });
});

describe("stopping", () => {
  it("does not wait for ever", async () => {
    await expect(stopWithin(() => new Promise(() => undefined), 20)).rejects.toMatchObject({ code: "internal" });
    await expect(stopWithin(() => Promise.resolve(), 20)).resolves.toBeUndefined();
  });

  it("gives a long drain its time, and an ordinary one fifteen seconds", () => {
    expect(stopTimeoutMs({ limits: {} })).toBe(14_000);
    expect(stopTimeoutMs({ limits: { drainTimeoutMs: 1 } })).toBe(14_000);
    expect(stopTimeoutMs({ limits: { drainTimeoutMs: 60_000 } })).toBe(64_000);
  });
});
