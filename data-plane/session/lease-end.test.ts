import type { SessionId } from "@sluice/core/ids.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import pino from "pino";
import { afterEach, expect, test } from "vitest";
import { PolicyStore } from "../policy-watch/policy-store.ts";
import { endWithLease } from "./lease-end.ts";
import { LiveSessions } from "./live-sessions.ts";

let stop: () => void = () => {};
afterEach(() => stop());

function bench({ leased = true } = {}): { left: { strict: number; other: number }; ended: string[] } {
  const left = leased ? { strict: 1, other: 1 } : { strict: 0, other: 0 };
  const ended: string[] = [];
  const source: SnapshotSource = {
    current: { version: "1", resources: [], classifiers: [], policies: [], identityProviders: [] },
    subscribe: () => () => {},
    ...(leased ? { lease: { remainingMs: (strict) => (strict ? left.strict : left.other) } } : {}),
  };
  const sessions = new LiveSessions();
  for (const [name, strict] of [
    ["s_strict", true],
    ["s_other", false],
  ] as const) {
    const forget = sessions.add({
      id: name as SessionId, // a test's own
      idle: true,
      strict,
      terminate: ({ code }) => {
        ended.push(`${name} ${code}`);
        forget();
      },
    });
  }
  stop = endWithLease(source, new PolicyStore(source, pino({ level: "silent" })), sessions, 5);
  return { left, ended };
}

test("running sessions end with the lease, those recorded strictly first, each once", async () => {
  const { left, ended } = bench();
  await new Promise((resolve) => setTimeout(resolve, 25));
  expect(ended).toEqual([]);
  left.strict = 0;
  await expect.poll(() => ended).toEqual(["s_strict policy_stale"]);
  left.other = -1;
  await expect.poll(() => ended).toEqual(["s_strict policy_stale", "s_other policy_stale"]);
  await new Promise((resolve) => setTimeout(resolve, 25));
  expect(ended.length).toBe(2);
});

test("nothing ends where the policy has no lease", async () => {
  const { ended } = bench({ leased: false });
  await new Promise((resolve) => setTimeout(resolve, 25));
  expect(ended).toEqual([]);
});
