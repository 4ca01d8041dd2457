/** A process becomes a node once, stays it through restarts and renewals, and says what to do when it cannot. Real sockets and files. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NodeConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { EnrolmentService, type EnrolRequest } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import { X509Certificate } from "node:crypto";
import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { implement, serveGrpc } from "../grpc/server.ts";
import type { GrpcServer } from "../grpc.ts";
import type { NodeIdentity } from "../node-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "../testing.ts";
import { trustToProto } from "../trust.ts";
import { encodeJoinToken } from "./join-token.ts";
import { openNodeIdentity, type OpenIdentityOptions } from "./open.ts";
import { readNodeCertificate } from "./node-certificate.ts";
import { fingerprintOf } from "./verify.ts";

let authority: TestAuthority;
let directory: string;
let lines: string[];
const endings: (() => unknown)[] = [];

interface Enrolling {
  readonly server: GrpcServer;
  readonly requests: EnrolRequest[];
  renewals: number;
  /** Instead of an answer. */
  fault: GatewayError | null;
  nowMs: () => number;
  lifeMs: number;
}

beforeEach(async () => {
  authority = await makeTestAuthority();
  directory = join(mkdtempSync(join(tmpdir(), "sluice-identity-")), "node");
  lines = [];
});

afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end();
});

const log = (): OpenIdentityOptions["log"] => pino({ level: "debug" }, { write: (line: string) => void lines.push(line) });

/** A control plane that enrols whoever asks. */
async function controlPlane(of: TestAuthority = authority): Promise<Enrolling> {
  const identity = await testIdentity("control-plane", "c1", {}, of);
  const issue = async (node: { role: "gateway"; name: string }, request: Uint8Array): Promise<{ certificates: Uint8Array[] }> => {
    const notBeforeMs = state.nowMs() - 1_000;
    return { certificates: [await of.sign({ ...node, notBeforeMs, notAfterMs: notBeforeMs + state.lifeMs }, request)] };
  };
  const common = (): object => ({ trust: trustToProto(of.trust(["ab"])), nowMs: BigInt(state.nowMs()) });
  const service = implement(
    EnrolmentService,
    {
      enrol: async (request) => {
        state.requests.push(request);
        if (state.fault !== null) throw state.fault;
        return { ...(await issue({ role: "gateway", name: request.name }, request.certificateRequest)), ...common() };
      },
      renew: async (request, { peer }) => {
        state.renewals += 1;
        if (state.fault !== null) throw state.fault;
        return { ...(await issue({ role: "gateway", name: peer?.name ?? "nobody" }, request.certificateRequest)), ...common() };
      },
    },
    null,
  );
  const listen = { host: "127.0.0.1", port: 0 };
  const server = await serveGrpc({
    listen,
    services: [service],
    messageBytesMax: 100_000,
    identity,
    log: pino({ level: "silent" }),
  });
  endings.push(() => server.close(100));
  const state: Enrolling = { server, requests: [], renewals: 0, fault: null, nowMs: Date.now, lifeMs: 3_600_000 };
  return state;
}

function token(of: TestAuthority = authority): string {
  return encodeJoinToken({ id: "t1", secret: "very-secret", authority: fingerprintOf(new X509Certificate(of.certificate)) });
}

async function open(
  addresses: readonly string[],
  changes: Partial<OpenIdentityOptions> = {},
  node: Partial<NodeConfig> = {},
): Promise<NodeIdentity> {
  const identity = await openNodeIdentity({
    role: "gateway",
    node: { name: "g1", region: "", controlPlanes: addresses, join: { kind: "tokenEnv", name: "JOIN" }, ...node },
    directory,
    hosts: ["g1.example"],
    clock: systemClock,
    random: systemRandom,
    log: log(),
    readEnvironment: (name) => (name === "JOIN" ? token() : undefined),
    ...changes,
  });
  endings.push(() => identity.close());
  return identity;
}

it("enrols once, keeps the key to itself, and needs nobody at the next start", async () => {
  const plane = await controlPlane();
  const identity = await open([plane.server.address]);
  expect(identity.self).toMatchObject({ role: "gateway", name: "g1" });
  expect(identity.isRevoked("AB")).toBe(true);
  expect(plane.requests[0]).toMatchObject({
    name: "g1",
    hosts: ["g1.example"],
    credential: { case: "joinToken", value: token() },
  });
  expect(readdirSync(directory).toSorted()).toEqual(["authorities.pem", "node-key.pem", "node.pem", "trust.json"]);
  expect(statSync(join(directory, "node-key.pem")).mode & 0o777).toBe(0o600);
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  await plane.server.close(0);
  const again = await open([plane.server.address], { readEnvironment: () => undefined });
  expect(again.material).toEqual(identity.material);
  expect(again.isRevoked("ab")).toBe(true);
  expect(lines.join("")).not.toContain("very-secret");
  expect(lines.join("")).not.toContain("PRIVATE KEY");
});

it("sends no token to a control plane of another installation", async () => {
  const foreign = await controlPlane(await makeTestAuthority());
  const refused = open([foreign.server.address]);
  await expect(refused).rejects.toMatchObject({ code: "unauthorized", hint: expect.stringContaining("Nothing secret was sent") });
  expect(foreign.requests).toEqual([]);
  const own = await controlPlane();
  expect((await open([foreign.server.address, own.server.address])).self.name).toBe("g1");
  expect(foreign.requests).toEqual([]);
});

it("says what to do when the token may have been used up by a try that was cut", async () => {
  const plane = await controlPlane();
  plane.fault = new GatewayError("enrolment_refused", "The join token was used already.");
  // The process ended after it had asked: its key is there, its certificate is not.
  await expect(open([plane.server.address])).rejects.toMatchObject({ code: "enrolment_refused", hint: undefined });
  expect(readdirSync(directory)).toEqual([]);
  const stop = new AbortController();
  const silent = await controlPlane();
  await silent.server.close(0);
  const waiting = open([silent.server.address], { signal: stop.signal });
  await vi.waitFor(() => expect(lines.join("")).toContain("waiting for a control plane"));
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ code: "node_unreachable" });
  const key = readFileSync(join(directory, "node-key.next.pem"), "utf8");
  await expect(open([plane.server.address])).rejects.toMatchObject({
    code: "enrolment_refused",
    message: "The join token was used already.",
    hint: expect.stringContaining("may be used up"),
  });
  // A control plane that remembers the key may give the certificate again.
  writeFileSync(join(directory, "node-key.next.pem"), key, { mode: 0o600 });
  plane.fault = null;
  expect((await open([plane.server.address])).material.privateKey).toBe(key);
});

it("waits for a control plane, then enrols at the one that answers", async () => {
  const plane = await controlPlane();
  const gone = await controlPlane();
  await gone.server.close(0);
  expect((await open([gone.server.address, plane.server.address])).self.name).toBe("g1");
});

it("says how far off the clock is, and keeps what the token gave", async () => {
  const plane = await controlPlane();
  plane.nowMs = () => Date.now() + 10 * 60_000;
  await expect(open([plane.server.address])).rejects.toMatchObject({
    code: "config_invalid",
    message: "This machine's clock is 10.0 minutes behind the control plane's.",
  });
  expect((await open([], { readEnvironment: () => undefined })).self.name).toBe("g1");
  rmSync(directory, { recursive: true });
  plane.nowMs = () => Date.now() - 7 * 60_000;
  await expect(open([plane.server.address])).rejects.toThrow(/clock is [67]\.\d minutes ahead of/);
});

it("renews at half of its life, with a new key, and tells whoever listens", async () => {
  const plane = await controlPlane();
  plane.lifeMs = 3_000;
  const identity = await open([plane.server.address]);
  const first = identity.material;
  plane.lifeMs = 3_600_000;
  const serials: string[] = [];
  identity.onChange(() => serials.push(identity.self.serial));
  await vi.waitFor(() => expect(plane.renewals).toBe(1), 3_000);
  await vi.waitFor(() => expect(serials.length).toBeGreaterThan(0));
  expect(identity.material.privateKey).not.toBe(first.privateKey);
  expect(identity.self.notAfterMs - identity.self.notBeforeMs).toBe(3_600_000);
  const stored = await open([], { readEnvironment: () => undefined });
  expect(stored.self.serial).toBe(identity.self.serial);
});

it("goes on without a control plane until the certificate ends, and says so in time", async () => {
  const plane = await controlPlane();
  plane.lifeMs = 3_000;
  const identity = await open([plane.server.address]);
  const { serial } = identity.self;
  await plane.server.close(0);
  await vi.waitFor(() => expect(lines.join("")).toContain("could not be renewed"), 4_000);
  expect(identity.self.serial).toBe(serial);
  await vi.waitFor(() => expect(lines.join("")).toContain("enrol it again"), 6_000);
});

it("finishes what a crash left, whichever step it was", async () => {
  const plane = await controlPlane();
  const before = await open([plane.server.address]);
  const old = { chain: before.material.certificateChain, key: before.material.privateKey };
  const next = await authority.issue({ role: "gateway", name: "g1" });
  const quiet = { readEnvironment: () => undefined };
  // Asked for, not answered.
  writeFileSync(join(directory, "node-key.next.pem"), next.privateKey, { mode: 0o600 });
  expect((await open([], quiet)).material.privateKey).toBe(old.key);
  // Answered, the key not yet in its place.
  writeFileSync(join(directory, "node.pem"), next.certificateChain);
  expect((await open([], quiet)).material).toMatchObject({
    privateKey: next.privateKey,
    certificateChain: next.certificateChain,
  });
  expect(readFileSync(join(directory, "node-key.pem"), "utf8")).toBe(next.privateKey);
  // Another's key: said, not papered over.
  writeFileSync(join(directory, "node-key.pem"), old.key);
  await expect(open([], quiet)).rejects.toMatchObject({ code: "config_invalid", message: expect.stringContaining("damaged") });
});

it("keeps the trust that it is told on disk", async () => {
  const plane = await controlPlane();
  const identity = await open([plane.server.address]);
  const second = await makeTestAuthority("Second");
  identity.trust({ authorities: [second.certificate, authority.certificate], revokedSerials: new Set(["CD"]) });
  expect(identity.material.authorities).toBe(second.certificate + authority.certificate);
  await vi.waitFor(() =>
    expect(readFileSync(join(directory, "authorities.pem"), "utf8")).toBe(second.certificate + authority.certificate),
  );
  await vi.waitFor(() =>
    expect(JSON.parse(readFileSync(join(directory, "trust.json"), "utf8"))).toEqual({ version: 1, revokedSerials: ["cd"] }),
  );
});

it("refuses what another node left, a missing token, a token that is none", async () => {
  const plane = await controlPlane();
  await open([plane.server.address]);
  const address = [plane.server.address];
  await expect(open(address, {}, { name: "g2" })).rejects.toMatchObject({
    message: expect.stringContaining("of the gateway g1, not of the gateway g2"),
  });
  rmSync(directory, { recursive: true });
  await expect(open(address, { readEnvironment: () => undefined })).rejects.toMatchObject({ code: "config_invalid" });
  await expect(open(address, {}, { join: null })).rejects.toMatchObject({ code: "config_invalid" });
  const bad: unknown = await open(address, { readEnvironment: () => "sluice-join.v1.c2VjcmV0" }).catch((error: unknown) => error);
  expect(bad).toMatchObject({ code: "config_invalid" });
  expect(String(bad)).not.toContain("c2VjcmV0");
  const missing = { kind: "tokenFile", path: join(directory, "missing") } as const;
  await expect(open(address, {}, { join: missing })).rejects.toMatchObject({
    message: expect.stringContaining("cannot be read"),
  });
});

it("enrols a workload by its platform's token, and again when its certificate has ended", async () => {
  const plane = await controlPlane();
  const files = mkdtempSync(join(tmpdir(), "sluice-workload-"));
  writeFileSync(join(files, "token"), "header.claims.signature\n");
  writeFileSync(join(files, "ca.pem"), authority.certificate);
  const workload = { kind: "workload", path: join(files, "token"), caFile: join(files, "ca.pem") } as const;
  plane.lifeMs = 3_500;
  const first = await open([plane.server.address], {}, { join: workload });
  expect(plane.requests[0]?.credential).toEqual({ case: "workloadToken", value: "header.claims.signature" });
  first.close();
  await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(first.self.notAfterMs), 5_000);
  plane.lifeMs = 3_600_000;
  const again = await open([plane.server.address], {}, { join: workload });
  expect(again.self.serial).not.toBe(first.self.serial);
  expect(readNodeCertificate(readFileSync(join(directory, "node.pem")))?.serial).toBe(again.self.serial);
});
