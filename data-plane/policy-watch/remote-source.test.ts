/** Snapshots that are signed for real and kept on a real disk; clocks are set by the test. */
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { SnapshotContent_Audience } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { CAPABILITY } from "@sluice/rpc/capabilities.ts";
import type { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { readNodeCertificate } from "@sluice/rpc/identity/node-certificate.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import pino from "pino";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openRemoteSnapshots, type RemoteSnapshots } from "./remote-source.ts";
import {
  LEASE_MS,
  signSnapshot,
  snapshotOf,
  type SnapshotParts,
  snapshotSigner,
  type SnapshotSigner,
  STRICT_LEASE_MS,
} from "./signed-snapshot.test-fixture.ts";

let authority: TestAuthority;
let signer: SnapshotSigner;
let identity: LiveIdentity;
let directory: string;
let clock: { wallMs: number; monotonicMs: number };
let boot: { id: string; ms: number } | null;
let verdicts: [bigint, string, string | null][];
let logged: string[];
let opened: RemoteSnapshots[];

beforeAll(async () => {
  authority = await makeTestAuthority();
  signer = await snapshotSigner(authority, "snapshot-signer-1");
});

beforeEach(async () => {
  identity = await testIdentity("gateway", "g1", {}, authority);
  directory = await mkdtemp(join(tmpdir(), "sluice-snapshots-"));
  clock = { wallMs: Date.now(), monotonicMs: 1_000 };
  boot = { id: "boot-1", ms: 5_000 };
  verdicts = [];
  logged = [];
  opened = [];
});

afterEach(async () => {
  for (const source of opened) await source.close();
  await rm(directory, { recursive: true });
});

function signed(content: Omit<SnapshotParts, "by"> & { readonly by?: SnapshotSigner }): Uint8Array {
  return signSnapshot(authority, { by: signer, ...content });
}

async function open(): Promise<RemoteSnapshots> {
  const log = pino({ level: "info" }, { write: (line: string) => void logged.push(line) });
  const source = await openRemoteSnapshots({
    identity,
    directory,
    clock: { nowMs: () => clock.wallMs, monotonicMs: () => clock.monotonicMs },
    limits: defaultLimits,
    log,
    verdict: (sequence, version, fault: GatewayError | null) => verdicts.push([sequence, version, fault?.code ?? null]),
    readBoot: () => boot,
  });
  opened.push(source);
  return source;
}

function pass(ms: number): void {
  clock.wallMs += ms;
  clock.monotonicMs += ms;
  if (boot !== null) boot = { ...boot, ms: boot.ms + ms };
}

/** Another process on the same machine, `ms` later: its monotonic time begins anew. */
async function restart(source: RemoteSnapshots, ms: number): Promise<RemoteSnapshots> {
  await source.close();
  pass(ms);
  clock.monotonicMs = 3;
  return await open();
}

function leaseOf(source: RemoteSnapshots): [number, number] {
  return [source.lease.remainingMs(false), source.lease.remainingMs(true)];
}

describe("a snapshot from elsewhere", () => {
  test("is in force when it comes, and its successors after it", async () => {
    const source = await open();
    expect(() => source.current).toThrow("No policy has reached this gateway");
    const ready = source.ready();
    const seen: string[] = [];
    source.subscribe(({ version }) => seen.push(version));
    source.receive(signed({ sequence: 4n, snapshot: snapshotOf("a") }));
    await ready;
    source.receive(signed({ sequence: 7n, snapshot: snapshotOf("b") }));
    expect([source.current.version, source.sequence, seen]).toEqual(["b", 7n, ["a", "b"]]);
    expect(verdicts).toEqual([
      [4n, "a", null],
      [7n, "b", null],
    ]);
  });

  test("is waited for only as long as somebody waits", async () => {
    const source = await open();
    const waiting = new AbortController();
    const ready = source.ready(waiting.signal);
    waiting.abort(new Error("stop"));
    await expect(ready).rejects.toThrow("stop");
  });

  test.each<[string, string, () => Uint8Array | Promise<Uint8Array>]>([
    ["older", "unauthorized", () => signed({ sequence: 4n, snapshot: snapshotOf("old") })],
    ["another under the same number", "unauthorized", () => signed({ sequence: 5n, snapshot: snapshotOf("other") })],
    [
      "for agents",
      "incompatible",
      () => signed({ sequence: 6n, snapshot: snapshotOf("x"), audience: SnapshotContent_Audience.AGENT }),
    ],
    ["for newer nodes", "incompatible", () => signed({ sequence: 6n, snapshot: snapshotOf("x"), capabilityMin: CAPABILITY + 1 })],
    ["said to be another version", "incompatible", () => signed({ sequence: 6n, snapshot: snapshotOf("x"), version: "y" })],
    [
      "signed by another installation",
      "unauthorized",
      async () =>
        signed({
          sequence: 6n,
          snapshot: snapshotOf("x"),
          by: await snapshotSigner(await makeTestAuthority(), "snapshot-signer-1"),
        }),
    ],
    [
      "signed by a gateway",
      "unauthorized",
      async () =>
        signed({ sequence: 6n, snapshot: snapshotOf("x"), by: await snapshotSigner(authority, "snapshot-signer-1", "gateway") }),
    ],
    [
      "of a policy that does not compile",
      "config_invalid",
      () =>
        signed({
          sequence: 6n,
          snapshot: snapshotOf("x", {
            policies: [{ name: "p", principals: {}, resources: {}, rules: [{ name: "r", effect: "allow", when: "nonsense" }] }],
          }),
        }),
    ],
    [
      "with a rule of a kind that is not known here",
      "incompatible",
      () =>
        signed({
          sequence: 6n,
          snapshot: {
            ...snapshotOf("x"),
            policies: [{ name: "p", principals: {}, resources: {}, rules: [{ name: "r", effect: "throttle" }] }],
          },
        }),
    ],
    ["without policies", "incompatible", () => signed({ sequence: 6n, snapshot: { ...snapshotOf("x"), policies: undefined } })],
    [
      "that disables nobody",
      "incompatible",
      () => signed({ sequence: 6n, snapshot: { ...snapshotOf("x"), disabled: [{ reason: "r" }] } }),
    ],
    ["cut off", "protocol_violation", () => signed({ sequence: 6n, snapshot: snapshotOf("x") }).subarray(0, -20)],
    [
      "changed on the way",
      "unauthorized",
      () => {
        const bytes = Buffer.from(signed({ sequence: 6n, snapshot: snapshotOf("x") }));
        bytes[10] = bytes[10]! ^ 1;
        return bytes;
      },
    ],
  ])("%s is refused, and the former one stays", async (what, code, make) => {
    const source = await open();
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    const seen: string[] = [];
    source.subscribe(({ version }) => seen.push(version));
    verdicts = [];
    source.receive(await make());
    expect([source.current.version, source.sequence, seen]).toEqual(["a", 5n, []]);
    expect(logged.join("")).toContain("a snapshot was not taken");
    // What is older, or has no number that can be read, says nothing of the newest: nobody is told.
    if (what === "older" || what === "cut off") expect(verdicts).toEqual([]);
    else if (what !== "changed on the way") expect(verdicts.map(([, , fault]) => fault)).toEqual([code]);
  });

  test("of a revoked signer is refused", async () => {
    const source = await open();
    const serial = readNodeCertificate(Buffer.from(signer.certificate))!.serial;
    identity.trust(authority.trust([serial]));
    source.receive(signed({ sequence: 6n, snapshot: snapshotOf("x") }));
    expect([source.sequence, verdicts]).toEqual([0n, [[6n, "x", "unauthorized"]]]);
  });

  test("that unpacks to more than the bound is refused", async () => {
    const source = await openRemoteSnapshots({
      identity,
      directory,
      clock: { nowMs: () => clock.wallMs, monotonicMs: () => clock.monotonicMs },
      limits: { snapshotBytesMax: 1_000 },
      log: pino({ level: "silent" }),
      verdict: (sequence, version, fault) => verdicts.push([sequence, version, fault?.code ?? null]),
    });
    opened.push(source);
    source.receive(signed({ sequence: 6n, snapshot: snapshotOf("x".repeat(2_000)) }));
    expect(verdicts.map(([, , fault]) => fault)).toEqual(["protocol_violation"]);
  });

  test("may hold fields that this version does not know", async () => {
    const source = await open();
    source.receive(signed({ sequence: 6n, snapshot: { ...snapshotOf("x"), quotas: [{ name: "q" }] } }));
    expect([source.sequence, verdicts]).toEqual([6n, [[6n, "x", null]]]);
  });

  test("that a part of the gateway cannot take is taken by none", async () => {
    const source = await open();
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    const seen: string[] = [];
    source.subscribe(({ version }) => seen.push(version));
    source.subscribe(({ version }) => {
      if (version === "b") throw new Error("no");
    });
    source.receive(signed({ sequence: 6n, snapshot: snapshotOf("b") }));
    expect([source.current.version, seen]).toEqual(["a", ["b", "a"]]);
    source.receive(signed({ sequence: 7n, snapshot: snapshotOf("c") }));
    expect([source.current.version, seen]).toEqual(["c", ["b", "a", "c"]]);
  });

  test("brings who is trusted and who was revoked", async () => {
    const source = await open();
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a"), revoked: ["0a1b"], issuedAtMs: 10 }));
    expect(identity.isRevoked("0a1b")).toBe(true);
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a"), revoked: [], issuedAtMs: 9 }));
    expect(identity.isRevoked("0a1b")).toBe(true);
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a"), revoked: ["0a1b", "0c"], issuedAtMs: 11 }));
    expect(identity.isRevoked("0c")).toBe(true);
  });
});

describe("a lease", () => {
  test("runs while nothing is heard, and begins anew with each word of the snapshot in force", async () => {
    const source = await open();
    expect(leaseOf(source)).toEqual([0, 0]);
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    pass(4_000);
    expect(leaseOf(source)).toEqual([LEASE_MS - 4_000, STRICT_LEASE_MS - 4_000]);
    source.heartbeat(5n);
    expect(leaseOf(source)).toEqual([LEASE_MS, STRICT_LEASE_MS]);
    pass(4_000);
    source.heartbeat(6n); // the newest is another one than ours
    source.heartbeat(4n);
    expect(leaseOf(source)).toEqual([LEASE_MS - 4_000, STRICT_LEASE_MS - 4_000]);
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    expect(leaseOf(source)).toEqual([LEASE_MS, STRICT_LEASE_MS]);
    pass(STRICT_LEASE_MS);
    expect(leaseOf(source)).toEqual([LEASE_MS - STRICT_LEASE_MS, 0]);
  });

  test("does not follow a wall clock that is set, and counts a machine's sleep", async () => {
    const source = await open();
    source.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    clock.wallMs -= 3_600_000;
    pass(1_000);
    expect(leaseOf(source)).toEqual([LEASE_MS - 1_000, STRICT_LEASE_MS - 1_000]);
    boot = { id: "boot-1", ms: boot!.ms + 20_000 };
    expect(leaseOf(source)).toEqual([LEASE_MS - 21_000, STRICT_LEASE_MS - 21_000]);
  });

  test("goes on where it was after a restart of the process", async () => {
    const first = await open();
    first.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    clock.wallMs += 7_200_000; // set forward: on one boot that does not count
    const second = await restart(first, 4_000);
    await second.ready();
    expect([second.current.version, second.sequence]).toEqual(["a", 5n]);
    expect(leaseOf(second)).toEqual([LEASE_MS - 4_000, STRICT_LEASE_MS - 4_000]);
    pass(1_000);
    expect(leaseOf(second)[0]).toBe(LEASE_MS - 5_000);
    second.heartbeat(5n);
    expect(leaseOf(second)[0]).toBe(LEASE_MS);
  });

  test("counts the wall clock after a reboot, and is over when that went backwards", async () => {
    const first = await open();
    first.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    boot = { id: "boot-2", ms: 100 };
    const second = await restart(first, 4_000);
    expect(leaseOf(second)[0]).toBe(LEASE_MS - 4_000);
    boot = { id: "boot-3", ms: 100 };
    clock.wallMs -= 10_000;
    const third = await restart(second, 0);
    expect([third.sequence, ...leaseOf(third)]).toEqual([5n, 0, 0]);
    boot = null;
    const fourth = await restart(third, 0);
    expect(leaseOf(fourth)[0]).toBeLessThanOrEqual(0);
  });
});

describe("what is kept on disk", () => {
  test("does not let an older snapshot in, even when the newer one is damaged", async () => {
    const first = await open();
    first.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    await first.close();
    await truncate(join(directory, "snapshot.bin"), 40);
    const second = await open();
    expect(second.sequence).toBe(0n);
    expect(logged.join("")).toContain("kept on disk is not taken");
    second.receive(signed({ sequence: 4n, snapshot: snapshotOf("old") }));
    second.receive(signed({ sequence: 5n, snapshot: snapshotOf("forged") }));
    expect(second.sequence).toBe(0n);
    second.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    expect(second.sequence).toBe(5n);
  });

  test("is refused when somebody changed it, or put an older one in its place", async () => {
    const first = await open();
    const old = signed({ sequence: 4n, snapshot: snapshotOf("old") });
    first.receive(old);
    first.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    await first.close();
    await writeFile(join(directory, "snapshot.bin"), old);
    const second = await open();
    expect(second.sequence).toBe(0n);
    await second.close();
    const file = join(directory, "snapshot.bin");
    const bytes = await readFile(file);
    bytes[bytes.length - 5] = bytes[bytes.length - 5]! ^ 1;
    await writeFile(file, bytes);
    expect((await open()).sequence).toBe(0n);
  });

  test("has no lease left when its times cannot be read", async () => {
    const first = await open();
    first.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    await first.close();
    await writeFile(join(directory, "state.json"), '{"floor":');
    const second = await open();
    expect([second.sequence, ...leaseOf(second)]).toEqual([5n, 0, 0]);
    expect(logged.join("")).toContain("cannot be read");
  });

  test("is the renewed one, so that a restart is not held to a signer of long ago", async () => {
    const first = await open();
    first.receive(signed({ sequence: 5n, snapshot: snapshotOf("a") }));
    const later = await snapshotSigner(authority, "snapshot-signer-2");
    first.receive(signed({ sequence: 5n, snapshot: snapshotOf("a"), by: later, issuedAtMs: 2 }));
    identity.trust(authority.trust([readNodeCertificate(Buffer.from(signer.certificate))!.serial]));
    const second = await restart(first, 10);
    expect(second.sequence).toBe(5n);
  });
});
