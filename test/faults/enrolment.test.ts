/**
 * Enrolment when things go wrong: tokens that are not good enough, processes killed at every step, answers that never arrive. A node
 * that starts again either works or is told exactly what to do, and no token makes two nodes. Real store, sockets, TLS and files.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { addressOf, type Replica, startReplica, until } from "@sluice/control-plane/nodes/testing.ts";
import { startTestCluster, type TestCluster } from "@sluice/control-plane/store/testing.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { openNodeIdentity, type OpenIdentityOptions } from "@sluice/rpc/identity/open.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { Client } from "pg";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type DelayProxy, startDelayProxy } from "../support/delay-proxy.ts";

/** More than an enrolment has, by far. */
const STEPS_MAX = 60;
/** Processes at a time. */
const TOGETHER = 4;
const fixture = join(import.meta.dirname, "enrolling-process.test-fixture.ts");

let cluster: TestCluster;
let url: string;
let replica: Replica;
let proxy: DelayProxy;
let directory: string;
const identities: NodeIdentity[] = [];

beforeAll(async () => {
  cluster = await startTestCluster();
  url = await cluster.freshDatabase();
  replica = await startReplica({ url });
});
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "sluice-enrolling-"));
  proxy = await startDelayProxy(Number(addressOf(replica).split(":").at(-1)));
});
afterEach(async () => {
  for (const identity of identities.splice(0)) identity.close();
  await proxy.stop();
  rmSync(directory, { recursive: true, force: true });
});
afterAll(async () => {
  await replica?.close();
  await cluster?.close();
});

interface TokenWish {
  readonly role?: string;
  readonly name?: string | null;
  readonly ttlSeconds?: number;
}

async function newToken({ role = "agent", name = null, ttlSeconds = 600 }: TokenWish): Promise<{ token: string; id: string }> {
  const made = await replica.call("NodeService/CreateJoinToken", { role, name, labels: {}, hosts: [], ttlSeconds });
  return made as { token: string; id: string }; // the contract's shape
}

async function enrol(
  token: string,
  name: string,
  changes: Partial<OpenIdentityOptions> & { readonly place?: string } = {},
): Promise<NodeIdentity> {
  const identity = await openNodeIdentity({
    role: "agent",
    node: {
      name,
      region: "",
      controlPlanes: [`127.0.0.1:${proxy.port}`],
      join: { kind: "tokenEnv", name: "TOKEN" },
    },
    directory: changes.place ?? join(directory, name),
    hosts: [],
    clock: systemClock,
    random: systemRandom,
    log: pino({ level: "silent" }),
    readEnvironment: () => token,
    ...changes,
  });
  identities.push(identity);
  return identity;
}

async function nodesCalled(name: string): Promise<readonly unknown[]> {
  const { nodes } = (await replica.call("NodeService/List", {})) as { readonly nodes: readonly { readonly name: string }[] };
  return nodes.filter((node) => node.name === name);
}

async function stateOf(id: string): Promise<string | undefined> {
  const { tokens } = (await replica.call("NodeService/ListJoinTokens", {})) as {
    readonly tokens: readonly { readonly id: string; readonly state: string }[];
  };
  return tokens.find((token) => token.id === id)?.state;
}

describe("a join token that is not good enough is refused with the reason and what to do, and leaves no node", () => {
  it("used twice", async () => {
    const { token } = await newToken({});
    await enrol(token, "twice-1");
    await expect(enrol(token, "twice-2")).rejects.toMatchObject({
      code: "enrolment_refused",
      message: expect.stringMatching(/was used already, by the agent twice-1 at .*: each enrols one node/),
      hint: expect.stringContaining("sluice nodes join-token create"),
    });
    expect(await nodesCalled("twice-2")).toEqual([]);
    // Nothing of the failed try is left to confuse the next one.
    expect(readdirSync(join(directory, "twice-2"))).toEqual([]);
    const { token: next } = await newToken({});
    expect((await enrol(next, "twice-2")).self.name).toBe("twice-2");
  });

  it("expired", async () => {
    const { token } = await newToken({ ttlSeconds: 1 });
    await delay(1_100);
    await expect(enrol(token, "late")).rejects.toMatchObject({
      code: "enrolment_refused",
      message: expect.stringMatching(/expired at/),
      hint: expect.stringContaining("sluice nodes join-token create"),
    });
    expect(await nodesCalled("late")).toEqual([]);
  });

  it("for another role", async () => {
    const { token, id } = await newToken({ role: "gateway" });
    await expect(enrol(token, "crossed")).rejects.toMatchObject({
      code: "enrolment_refused",
      message: "This join token is for a node of the role gateway, not agent.",
    });
    expect(await stateOf(id)).toBe("open");
  });

  it("revoked", async () => {
    const { token, id } = await newToken({});
    await replica.call("NodeService/RevokeJoinToken", { id });
    await expect(enrol(token, "revoked")).rejects.toMatchObject({
      code: "enrolment_refused",
      message: "This join token was revoked.",
      hint: expect.stringContaining("sluice nodes join-token create"),
    });
    expect(await nodesCalled("revoked")).toEqual([]);
  });

  it("for a name that somebody has: the living node keeps it, and the token stays good for another", async () => {
    const { token: first } = await newToken({});
    const living = await enrol(first, "taken");
    const { token: second, id } = await newToken({});
    await expect(enrol(second, "taken", { place: join(directory, "elsewhere") })).rejects.toMatchObject({
      code: "enrolment_refused",
      message: "There is an agent called taken already.",
      hint: expect.stringContaining("Choose another name"),
    });
    expect(await stateOf(id)).toBe("open");
    expect((await enrol(second, "free")).self.name).toBe("free");
    expect(await nodesCalled("taken")).toHaveLength(1);
    expect(living.isRevoked(living.self.serial)).toBe(false);
  });
});

describe("a process killed while it enrols", () => {
  interface Ending {
    readonly signal: NodeJS.Signals | null;
    readonly written: string;
  }

  async function enrolInProcess(token: string, name: string, killAt: number): Promise<Ending> {
    const args = [fixture, `127.0.0.1:${proxy.port}`, join(directory, name), name, String(killAt)];
    const child = spawn(process.execPath, args, { env: { ...process.env, TOKEN: token }, stdio: ["ignore", "pipe", "pipe"] });
    let written = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (written += chunk.toString()));
    const [, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null]; // what Node gives
    return { signal, written };
  }

  it("at any step with its files starts again and works, with the same token, as one node", async () => {
    const { token } = await newToken({});
    const whole = await enrolInProcess(token, "whole", 0);
    const steps = Number(/in (\d+) steps/.exec(whole.written)?.[1]);
    expect(steps, whole.written).toBeGreaterThan(10);
    expect(steps).toBeLessThan(STEPS_MAX);
    const atStep = async (killAt: number): Promise<void> => {
      const name = `killed-${killAt}`;
      const made = await newToken({});
      const ending = await enrolInProcess(made.token, name, killAt);
      expect(ending, `step ${killAt}`).toEqual({ signal: "SIGKILL", written: "" });
      const identity = await enrol(made.token, name);
      expect(identity.self, `step ${killAt}`).toMatchObject({ role: "agent", name });
      expect(await nodesCalled(name)).toHaveLength(1);
      // And stays: the next start needs nobody.
      const again = await enrol("", name, { readEnvironment: () => undefined });
      expect(again.self.serial).toBe(identity.self.serial);
      expect(readdirSync(join(directory, name)).filter((file) => file.includes("next"))).toEqual([]);
    };
    const left = Array.from({ length: steps }, (_, at) => at + 1);
    await Promise.all(
      Array.from({ length: TOGETHER }, async () => {
        for (let killAt = left.shift(); killAt !== undefined; killAt = left.shift()) await atStep(killAt);
      }),
    );
  });

  it("after the control plane's commit and before the answer gets the same certificate, and nobody else does", async () => {
    const { token, id } = await newToken({});
    // The token's row is held, so that the answer can be stopped after the request has arrived and before anything is committed.
    const holder = new Client(url);
    await holder.connect();
    await holder.query("begin");
    await holder.query("select from join_tokens where id = $1 for update", [id]);
    const child = spawn(process.execPath, [fixture, `127.0.0.1:${proxy.port}`, join(directory, "unheard"), "unheard", "0"], {
      env: { ...process.env, TOKEN: token },
      stdio: "ignore",
    });
    const gone = once(child, "close");
    const watcher = new Client(url);
    await watcher.connect();
    const waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    await until(
      async () => (await watcher.query(waiting)).rowCount,
      (count) => count === 1,
      20_000,
    );
    proxy.mute = true;
    await holder.query("commit");
    await until(
      () => stateOf(id),
      (state) => state === "used",
    );
    await Promise.all([holder.end(), watcher.end()]);
    child.kill("SIGKILL");
    await gone;
    proxy.mute = false;
    const identity = await enrol(token, "unheard");
    expect(await stateOf(id)).toBe("used");
    await expect(enrol(token, "unheard", { place: join(directory, "thief") })).rejects.toMatchObject({
      code: "enrolment_refused",
    });
    expect(await nodesCalled("unheard")).toHaveLength(1);
    expect(identity.isRevoked(identity.self.serial)).toBe(false);
  });
});
