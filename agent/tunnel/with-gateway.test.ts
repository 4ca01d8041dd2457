/** Both sides of the link as they are, a real PostgreSQL behind the agent: what a gateway's sessions get through it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newSessionId } from "@sluice/core/ids.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { AgentLink, OpenTargetRequest, TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import { catalogIn, makeTestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Cluster, startCluster } from "../../control-plane/store/embedded-postgres.ts";
import { type AgentLinks, openAgentLinks } from "../../data-plane/links/open.ts";
import { createCoLocatedAgent } from "../link.ts";
import { QueryClient } from "../targets/postgres/query.ts";
import { silent } from "./fake-gateway.ts";
import { TunnelHarness } from "./tunnel-harness.ts";

let directory: string;
let cluster: Cluster;
let links: AgentLinks;
let agent: TunnelHarness;
let agentLink: AgentLink;
let resource: ResourceSpec;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-tunnel-test-"));
  const parameters = { fsync: "off", shared_buffers: "16MB" };
  cluster = await startCluster({ directory, name: "target", parameters, log: silent });
  resource = {
    name: "orders",
    labels: {},
    protocol: "postgres",
    target: {
      host: "127.0.0.1",
      port: cluster.port,
      database: "postgres",
      databases: [],
      tls: { mode: "disable" },
      pool: { connectionsMax: 50, idleMs: 60_000 },
    },
    credential: { username: { kind: "value", value: "postgres" }, password: { kind: "env", name: "PASSWORD" } },
    inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
  };
  const shared = { limits: defaultLimits, clock: systemClock, random: systemRandom, log: silent };
  const authority = await makeTestAuthority();
  const anyPort = { host: "127.0.0.1", port: 0 };
  links = await openAgentLinks({
    ...shared,
    config: { control: anyPort, sessions: anyPort, advertise: { control: null, sessions: null } },
    identity: await testIdentity("gateway", "g1", {}, authority),
    control: null,
  });
  agentLink = createCoLocatedAgent({
    ...shared,
    config: { secrets: [{ source: { kind: "env", name: "PASSWORD" }, targets: ["127.0.0.1:*"] }], vaults: [], kubernetes: null },
    sealingKey: null,
    readEnvironment: () => cluster.password,
  });
  agent = new TunnelHarness(await testIdentity("agent", "a1", {}, authority), { agentLink });
  agent.resources.set("orders", resource);
  const gateway: DirectoryNode = {
    role: "gateway",
    name: "g1",
    region: "",
    addresses: { ...links.addresses, callers: {} },
    labels: {},
    slot: 1,
    capability: 2,
    draining: false,
  };
  agent.directory = [gateway];
  await vi.waitUntil(() => links.links().length === 1, { timeout: 5_000 });
});

afterAll(async () => {
  await agent.close();
  await agentLink.close();
  await links.close();
  await cluster.stop();
  await rm(directory, { recursive: true, force: true });
});

test("statements go through, and the connection is used again after a release", async () => {
  const first = await open();
  const [[pid]] = (await ask(first, "SELECT pg_backend_pid()")) as [[string]];
  await ask(first, "CREATE TEMP TABLE left_over (a int)");
  first.release?.();
  // The last statement of a connection that was reset is the pool's own.
  const wasReset = async (): Promise<boolean> => (await idleBackends()).some((line) => line.startsWith(`${pid} SELECT '`));
  await vi.waitUntil(wasReset, { timeout: 5_000 });
  const second = await open({ startup: { application_name: "second" } });
  expect(await ask(second, "SELECT pg_backend_pid(), current_setting('application_name'), to_regclass('left_over')")).toEqual([
    [pid, "second", null],
  ]);
  second.stream.destroy();
});

test("a session that ends without a release ends at the target", async () => {
  const session = await open();
  const [[pid]] = (await ask(session, "SELECT pg_backend_pid()")) as [[string]];
  session.stream.destroy();
  await vi.waitUntil(async () => !(await idleBackends()).some((line) => line.startsWith(`${pid} `)), { timeout: 5_000 });
});

test("cancel reaches the running statement", async () => {
  const session = await open();
  const outcome = expect(ask(session, "SELECT pg_sleep(30)")).rejects.toMatchObject({ sqlState: "57014" });
  await vi.waitUntil(async () => await isSleeping(), { timeout: 10_000 });
  await session.cancel();
  await outcome;
  session.stream.destroy();
});

test("catalogs come over", async () => {
  const catalog = catalogIn(
    await links.agentLink.readCatalog({ resource, database: "postgres", signal: AbortSignal.timeout(10_000) }),
  );
  expect(catalog.relations.length).toBeGreaterThan(50);
  expect(catalog.epoch).toMatch(/^[0-9a-f]{64}$/);
});

test("megabytes in both directions arrive whole", async () => {
  const session = await open();
  const [[length]] = (await ask(session, `SELECT length('${"x".repeat(8_000_000)}')`)) as [[string]];
  expect(length).toBe("8000000");
  const rows = await ask(session, "SELECT repeat('y', 1000) FROM generate_series(1, 5000)");
  expect(rows).toHaveLength(5_000);
  expect(rows.every(([value]) => value?.length === 1_000)).toBe(true);
  session.stream.destroy();
});

test("forty sessions at once", async () => {
  const sessions = await Promise.all(Array.from({ length: 40 }, () => open()));
  const pids = await Promise.all(sessions.map(async (session) => (await ask(session, "SELECT pg_backend_pid()"))[0]?.[0]));
  expect(new Set(pids).size).toBe(40);
  for (const session of sessions) session.stream.destroy();
  await vi.waitUntil(() => agent.tunnel.status().sessions === 0, { timeout: 5_000 });
});

async function open(request: Partial<OpenTargetRequest> = {}): Promise<TargetConnection> {
  return await links.agentLink.openTarget({
    resource,
    database: "postgres",
    sessionId: newSessionId(systemRandom),
    account: "readWrite",
    startup: { application_name: "test" },
    signal: AbortSignal.timeout(10_000),
    ...request,
  });
}

async function isSleeping(): Promise<boolean> {
  const looking = await open({ startup: { application_name: "looking", search_path: "looking" } });
  try {
    const query = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
    return (await ask(looking, query)).length > 0;
  } finally {
    looking.stream.destroy();
  }
}

/** Process and last statement of every connection that waits at the target. */
async function idleBackends(): Promise<readonly string[]> {
  const session = await open({ startup: { application_name: "looking", search_path: "looking" } });
  try {
    const rows = await ask(session, "SELECT pid, query FROM pg_stat_activity WHERE state = 'idle'");
    return rows.map((row) => row.join(" "));
  } finally {
    session.stream.destroy();
  }
}

async function ask(connection: TargetConnection, sql: string): Promise<readonly (readonly (string | null)[])[]> {
  const bounds = { rowsMax: 10_000, bytesMax: 100_000_000, frameBytesMax: 16_000_000 };
  // A TLS socket is a socket; the interface says Duplex.
  const client = new QueryClient(connection as ConstructorParameters<typeof QueryClient>[0], bounds, AbortSignal.timeout(10_000));
  return await client.query(sql);
}
