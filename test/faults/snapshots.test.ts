/**
 * Control planes that are none, and control planes that send what the installation's signer did not sign: over the wire, as gateways
 * and agents receive it. What is in force stays in force, the sender is told why, and the next good one is taken.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { type Declarations, openDeclarations } from "@sluice/agent/declarations.ts";
import { makeContentSigner } from "@sluice/agent/testing-content.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { openRemoteSnapshots, type RemoteSnapshots } from "@sluice/data-plane/policy-watch/remote-source.ts";
import {
  signSnapshot,
  snapshotOf,
  snapshotSigner,
  type SnapshotSigner,
} from "@sluice/data-plane/policy-watch/signed-snapshot.test-fixture.ts";
import { SignedContentSchema, SnapshotContent_Audience } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { NodeControlService, type WatchRequest, type WatchResponseSchema } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import { CAPABILITY } from "@sluice/rpc/capabilities.ts";
import { openControlLink } from "@sluice/rpc/control/link.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { readNodeCertificate } from "@sluice/rpc/identity/node-certificate.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { pino } from "pino";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

type Instruction = NonNullable<MessageInitShape<typeof WatchResponseSchema>["instruction"]>;

/** What is told to people, and kept for the tests that look for it. */
let written: string[] = [];
const log = pino({ level: "info" }, { write: (line: string) => void written.push(line) });
const endings: (() => unknown)[] = [];
let authority: TestAuthority;
let signer: SnapshotSigner;
let directory: string;

beforeAll(async () => {
  authority = await makeTestAuthority();
  signer = await snapshotSigner(authority, "snapshot-signer-1");
});
beforeEach(() => {
  written = [];
  directory = mkdtempSync(join(tmpdir(), "sluice-wire-"));
});
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end();
  rmSync(directory, { recursive: true, force: true });
});

/** Sends what it is told to, to every node that comes; keeps what it hears. */
class Plane {
  readonly heard: WatchRequest["report"][] = [];
  readonly address: string;
  #waiting: Instruction[] = [];
  #wake: () => void = () => undefined;

  static async start(identity: NodeIdentity): Promise<Plane> {
    let plane: Plane | undefined;
    const service = implement(NodeControlService, { watch: (requests, { signal }) => plane!.#watch(requests, signal) }, [
      "gateway",
      "agent",
      "recorder",
    ]);
    const listen = { host: "127.0.0.1", port: 0 };
    const server = await serveGrpc({ listen, services: [service], identity, messageBytesMax: 10_000_000, log });
    endings.push(() => server.close(0));
    plane = new Plane(server.address);
    return plane;
  }

  private constructor(address: string) {
    this.address = address;
  }

  send(signed: Uint8Array): void {
    const value = fromBinary(SignedContentSchema, signed);
    this.#waiting.push({ case: "snapshot", value: create(SignedContentSchema, value) });
    this.#wake();
  }

  /** Codes of what was refused; `ok` for what was taken. */
  get verdicts(): readonly string[] {
    return this.heard.flatMap((report) =>
      report.case === "snapshotVerdict" ? [`${report.value.sequence} ${report.value.fault?.code ?? "ok"}`] : [],
    );
  }

  async *#watch(
    requests: AsyncIterable<WatchRequest>,
    signal: AbortSignal,
  ): AsyncGenerator<{ instruction: Instruction }, void, undefined> {
    void (async () => {
      for await (const { report } of requests) this.heard.push(report);
    })().catch(() => undefined); // the node has left
    const hello = { capability: CAPABILITY, capabilityMin: 1, slot: 1, nowMs: BigInt(Date.now()), heartbeatMs: 200n };
    yield { instruction: { case: "welcome", value: hello } };
    signal.addEventListener("abort", () => this.#wake());
    while (!signal.aborted) {
      const instruction = this.#waiting.shift();
      if (instruction !== undefined) yield { instruction };
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          setTimeout(resolve, 100);
        });
        yield { instruction: { case: "heartbeat", value: { snapshotSequence: 0n } } };
      }
    }
  }
}

function link(identity: NodeIdentity, addresses: readonly string[], receive: (signed: Uint8Array) => void): ControlLink {
  const opened = openControlLink({
    identity,
    addresses,
    handlers: {
      hello: () => ({
        region: "a region nobody else may hear of",
        addresses: { control: null, sessions: null, callers: {} },
        sealingKey: "",
        snapshotSequence: 0n,
      }),
      status: () => ({ sessions: 0, draining: false, links: [], spoolBytes: 0 }),
      snapshot: receive,
    },
    clock: systemClock,
    random: systemRandom,
    log,
  });
  endings.push(() => opened.close());
  return opened;
}

function gatewaySnapshots(identity: NodeIdentity, verdict: ControlLink["verdict"] = () => undefined): Promise<RemoteSnapshots> {
  return openRemoteSnapshots({ identity, directory, clock: systemClock, limits: defaultLimits, log, verdict });
}

describe("what comes over the wire to a gateway", () => {
  it("is taken only when the installation's signer signed it for gateways of this version, and is newer", async () => {
    const identity = await testIdentity("gateway", "g1", {}, authority);
    const rogue = await testIdentity("control-plane", "c1", {}, authority);
    const plane = await Plane.start(rogue);
    let opened: ControlLink | undefined;
    const snapshots = await gatewaySnapshots(identity, (...verdict) => opened?.verdict(...verdict));
    endings.push(() => snapshots.close());
    opened = link(identity, [plane.address], (signed) => snapshots.receive(signed));
    const good = (sequence: bigint, version = `v${sequence}`, more: object = {}): Uint8Array =>
      signSnapshot(authority, { by: signer, sequence, snapshot: snapshotOf(version), ...more });
    plane.send(good(5n));
    await expect.poll(() => plane.verdicts).toEqual(["5 ok"]);
    const tampered = Buffer.from(good(6n));
    tampered[12] = tampered[12]! ^ 1;
    const another = await makeTestAuthority("Another installation");
    const bad: readonly (readonly [string, Uint8Array, string])[] = [
      [
        "signed by another installation",
        signSnapshot(another, {
          by: await snapshotSigner(another, "snapshot-signer-1"),
          sequence: 7n,
          snapshot: snapshotOf("x"),
        }),
        "7 unauthorized",
      ],
      [
        "signed by a gateway",
        good(8n, "x", { by: await snapshotSigner(authority, "snapshot-signer-1", "gateway") }),
        "8 unauthorized",
      ],
      [
        "signed by a control plane that is no signer",
        good(9n, "x", { by: await snapshotSigner(authority, "c1") }),
        "9 unauthorized",
      ],
      ["for agents", good(10n, "x", { audience: SnapshotContent_Audience.AGENT }), "10 incompatible"],
      ["for newer nodes", good(11n, "x", { capabilityMin: CAPABILITY + 1 }), "11 incompatible"],
      ["another under the same number", good(5n, "other"), "5 unauthorized"],
    ];
    const told = ["5 ok"];
    for (const [, signed, verdict] of bad) {
      plane.send(signed);
      told.push(verdict);
      await expect.poll(() => plane.verdicts).toEqual(told);
      expect(snapshots.current.version).toBe("v5");
    }
    // Of these nobody is told: what number they have cannot be believed, or is that of a replica which is behind.
    plane.send(tampered);
    plane.send(good(4n));
    plane.send(good(12n, "v12", { snapshot: { ...snapshotOf("v12"), afterThisVersion: { unknown: true } } }));
    await expect.poll(() => plane.verdicts.at(-1)).toBe("12 ok");
    expect(snapshots.current.version).toBe("v12");
    expect(written.filter((line) => line.includes("a snapshot was not taken"))).toHaveLength(bad.length + 2);
    expect(opened.connected).toBe(1);
  });

  it("is not taken when it was in force once, also after a restart, and with a disk that somebody put back", async () => {
    const identity = await testIdentity("gateway", "g1", {}, authority);
    const plane = await Plane.start(await testIdentity("control-plane", "c1", {}, authority));
    const make = (sequence: bigint): Uint8Array =>
      signSnapshot(authority, { by: signer, sequence, snapshot: snapshotOf(`v${sequence}`) });
    const first = await gatewaySnapshots(identity);
    first.receive(make(20n));
    await first.close();
    const former = readFileSync(join(directory, "snapshot.bin"));
    const second = await gatewaySnapshots(identity);
    second.receive(make(21n));
    await second.close();
    // The file alone is put back; the floor beside it stays.
    writeFileSync(join(directory, "snapshot.bin"), former);
    const third = await gatewaySnapshots(identity);
    endings.push(() => third.close());
    expect(third.sequence).toBe(0n);
    link(identity, [plane.address], (signed) => third.receive(signed));
    plane.send(make(20n));
    plane.send(make(21n));
    await expect.poll(() => third.sequence, { timeout: 5_000 }).toBe(21n);
    expect(written.filter((line) => line.includes("older than one that was in force here"))).toHaveLength(2);
  });
});

it("an agent takes no resources but those that were signed for agents, and goes on with the former", async () => {
  const identity = await testIdentity("agent", "a1", {}, authority);
  const plane = await Plane.start(await testIdentity("control-plane", "c1", {}, authority));
  const sign = await makeContentSigner(authority);
  const forAgents = (sequence: bigint, name: string, changes: object = {}): Uint8Array =>
    sign(sequence, { resources: [{ ...resourceOf(name) }] }, changes);
  const declarations: Declarations = await openDeclarations({
    identity,
    file: join(directory, "resources.bin"),
    clock: systemClock,
    limits: defaultLimits,
    log,
    verdict: () => undefined,
    changed: () => undefined,
  });
  endings.push(() => declarations.close());
  link(identity, [plane.address], (signed) => declarations.receive(signed));
  plane.send(forAgents(5n, "orders"));
  await expect.poll(() => declarations.sequence, { timeout: 5_000 }).toBe(5n);
  const tampered = Buffer.from(forAgents(6n, "evil"));
  tampered[12] = tampered[12]! ^ 1;
  plane.send(tampered);
  plane.send(forAgents(7n, "evil", { audience: SnapshotContent_Audience.GATEWAY }));
  plane.send(forAgents(8n, "evil", { capabilityMin: CAPABILITY + 1 }));
  plane.send(signSnapshot(authority, { by: signer, sequence: 9n, snapshot: snapshotOf("x") }));
  const elsewhere = await makeContentSigner(await makeTestAuthority("Another installation"));
  plane.send(elsewhere(10n, { resources: [{ ...resourceOf("evil") }] }));
  plane.send(forAgents(4n, "older"));
  plane.send(forAgents(11n, "ledger"));
  await expect.poll(() => declarations.sequence, { timeout: 5_000 }).toBe(11n);
  expect(["orders", "evil", "older", "ledger"].filter((name) => declarations.find(name) !== undefined)).toEqual(["ledger"]);
  expect(written.filter((line) => line.includes("resources not taken"))).toHaveLength(6);
});

describe("a control plane that is none", () => {
  it.each([
    ["of another installation", async () => await testIdentity("control-plane", "c1", {}, await makeTestAuthority("Another"))],
    ["a gateway of this one", async () => await testIdentity("gateway", "c1", {}, authority)],
    ["an agent of this one", async () => await testIdentity("agent", "c1", {}, authority)],
    [
      "one whose certificate has ended",
      async () =>
        new LiveIdentity(
          await authority.issue({
            role: "control-plane",
            name: "c1",
            notBeforeMs: Date.now() - 7_200_000,
            notAfterMs: Date.now() - 1_000,
          }),
          new Set(),
        ),
    ],
    ["one that was revoked", async () => await testIdentity("control-plane", "c1", {}, authority)],
  ] as const)("%s hears nothing from a node, and its word counts for nothing", async (what, makeIdentity) => {
    const impostorIdentity = await makeIdentity();
    // The impostor itself trusts everybody, as it would.
    const impostor = await Plane.start(impostorIdentity);
    const identity = await testIdentity("gateway", "g1", {}, authority);
    if (what === "one that was revoked") {
      const serial = readNodeCertificate(impostorIdentity.material.certificateChain)!.serial;
      identity.trust(authority.trust([serial]));
    }
    const genuine = await Plane.start(await testIdentity("control-plane", "c2", {}, authority));
    const received: Uint8Array[] = [];
    const opened = link(identity, [impostor.address, genuine.address], (signed) => void received.push(signed));
    impostor.send(signSnapshot(authority, { by: signer, sequence: 99n, snapshot: snapshotOf("x") }));
    await expect.poll(() => opened.connected, { timeout: 5_000 }).toBe(1);
    await expect.poll(() => written.some((line) => line.includes(impostor.address)), { timeout: 5_000 }).toBe(true);
    expect(impostor.heard).toEqual([]);
    expect(received).toEqual([]);
    expect(genuine.heard[0]?.case).toBe("hello");
  });
});

function resourceOf(name: string): Readonly<Record<string, unknown>> {
  return {
    name,
    labels: {},
    protocol: "postgres",
    target: { host: "127.0.0.1", port: 5432, database: name, databases: [], tls: { mode: "disable" } },
    credential: { username: { kind: "value", value: "app" } },
    inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
  };
}
