/**
 * An installation of many processes does what one process does, and does it everywhere: whatever is said to one control plane holds on
 * every gateway within a second. Real processes, real mTLS, one store, one bus; tests run in order and leave the policies as they were.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Fleet, portOf, startFleet } from "./support/fleet.ts";
import type { FleetNode } from "./support/fleet-node.ts";
import { contractManifests } from "./support/orders.ts";
import { markersOf, planted } from "./support/orders-schema.ts";
import { openTcp, RawClient } from "./support/raw-client.ts";
import { APP_PASSWORD, APP_USER } from "./support/targets.ts";
import { cancelRequest, codeOf, errorFields, errorsOf, query, rowsOf, type WireMessage } from "./support/wire-messages.ts";

/**
 * What an instruction may take to be in force on every gateway that is connected. One second is promised; here eleven processes and their
 * clients share two cores, so that another is given. Polling at any interval that we have would take longer than both.
 */
const EVERYWHERE_MS = 2_000;
const READER = "orders_reader";
/** Enough for the contract's manifests and little more, so that a larger policy is one that this gateway refuses. */
const SMALL_SNAPSHOT_BYTES = 24_000;

/** A second way to the same database, with an account for those who may only read. */
const accounts = (port: number): string => `
---
apiVersion: sluice/v1
kind: Resource
metadata: { name: ledger, labels: { accounts: two } }
spec:
  protocol: postgres
  target: { address: "127.0.0.1:${port}", database: orders, tls: { mode: disable } }
  credentials:
    readOnly: { username: { value: ${READER} }, password: { env: ORDERS_PASSWORD } }
    readWrite: { username: { value: ${APP_USER} }, password: { env: ORDERS_PASSWORD } }
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: ledger-readers }
spec:
  principals: { groups: [readers] }
  resources: { labels: { accounts: two } }
  rules: [{ name: read, effect: allow, when: "statement.class in ['read', 'session', 'transaction']" }]
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: ledger-writers }
spec:
  principals: { groups: [dba] }
  resources: { labels: { accounts: two } }
  rules: [{ name: everything, effect: allow }]
`;

interface Opened {
  readonly client: RawClient;
  readonly id: string;
  readonly cancelKey: { readonly processId: number; readonly secret: Buffer };
}

interface ListedSession {
  readonly id: string;
  readonly state: string;
  readonly statements: number;
  readonly principal: { readonly subject: string };
}

interface ListedNode {
  readonly role: string;
  readonly name: string;
  readonly region: string;
  readonly state: string;
  readonly links: readonly { readonly name: string }[];
  readonly snapshot: { readonly sequence: number; readonly version: string } | null;
  readonly rejected: { readonly code: string; readonly message: string } | null;
}

describe("a fleet: two control planes, three gateways, two agents, a recorder", () => {
  let fleet: Fleet;
  let agent: string;
  let dba: string;
  beforeAll(async () => {
    fleet = await startFleet({
      prepare: async (target) => {
        await target.admin("postgres", (client) => client.query(`CREATE ROLE ${READER} LOGIN PASSWORD '${APP_PASSWORD}'`));
        await target.admin("orders", (client) => client.query(`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${READER}`));
      },
      manifests: (text) => text + accounts(Number(/address: 127\.0\.0\.1:(\d+)/.exec(text)![1])),
      config: (role, index) =>
        role === "data-plane" && index === 2 ? `limits: { snapshotBytesMax: ${SMALL_SNAPSHOT_BYTES} }\n` : "",
    });
    agent = await fleet.token("ada", ["agents"]);
    dba = await fleet.token("dora", ["dba"]);
  });
  afterAll(async () => {
    await fleet?.stop();
  });

  const open = async (gateway: FleetNode, token: string, database = "orders"): Promise<Opened> => {
    const client = await RawClient.connect({ port: portOf(gateway), caFile: gateway.ready.caFile });
    const answers = await client.login({ token, database });
    expect(errorsOf(answers)).toEqual([]);
    const status = answers.find(({ type, body }) => type === "S" && body.includes("sluice.session_id"))!;
    const key = answers.find(({ type }) => type === "K")!.body;
    return {
      client,
      id: status.body.toString().split("\0")[1]!,
      cancelKey: { processId: key.readInt32BE(0), secret: key.subarray(4) },
    };
  };
  const openEverywhere = (token: string): Promise<readonly Opened[]> =>
    Promise.all(fleet.gateways.map((gateway) => open(gateway, token)));
  const done = async (client: RawClient, sql: string): Promise<readonly WireMessage[]> => {
    const answers = await client.query(sql);
    expect(errorsOf(answers), sql).toEqual([]);
    return answers;
  };
  const listSessions = async (controlPlane: FleetNode): Promise<readonly ListedSession[]> => {
    const { stdout, stderr } = await fleet.cli(["sessions", "list", "--json"], controlPlane);
    expect(stderr).toBe("");
    return JSON.parse(stdout) as ListedSession[]; // by the published shape
  };
  const listNodes = async (controlPlane?: FleetNode): Promise<readonly ListedNode[]> => {
    const { stdout, stderr } = await fleet.cli(["nodes", "list", "--json"], controlPlane);
    expect(stderr).toBe("");
    return JSON.parse(stdout) as ListedNode[]; // by the published shape
  };
  const apply = async (name: string, text: string, controlPlane: FleetNode): Promise<void> => {
    await fleet.admin("ManifestService/Apply", { files: [{ path: name, text }] }, controlPlane);
  };
  /** Works as soon as there is a session; until it is listed, the answer says that nobody knows it yet. */
  const kill = async (id: string, reason: string): Promise<void> => {
    await fleet.admin("SessionService/Kill", { id, reason }, fleet.controlPlanes[1]).catch((error: unknown) => {
      expect(error).toMatchObject({ code: "not_found", message: expect.stringContaining("told to end it all the same") });
    });
  };
  const contract = (): Promise<string> => contractManifests(fleet.target.port);

  it("masks and refuses through each gateway what one process masks and refuses", async () => {
    for (const gateway of fleet.gateways) {
      const { stdout, stderr } = await fleet.psql(
        gateway,
        agent,
        "SELECT id, ssn, card FROM customers WHERE id = 1;\nSELECT * FROM customers;\nDELETE FROM orders;\nSELECT count(*) FROM customers;\n",
        "-At",
      );
      expect(stdout, gateway.name).toBe("1|***-**-9382|************1881\n3\n");
      expect(stderr).toContain("bulk export is not allowed for agents");
      const client = await fleet.connect(gateway, dba);
      const clear = await client.query("SELECT ssn FROM customers WHERE id = $1", [1]);
      expect(clear.rows, gateway.name).toEqual([{ ssn: planted[0]!.ssn }]);
      await client.end();
      const masked = await fleet.connect(gateway, agent);
      const rows = await masked.query("SELECT ssn, upper(email) AS email, notes FROM customers WHERE id = $1", [1]);
      expect(JSON.stringify(rows.rows)).toContain("***-**-9382");
      for (const marker of markersOf(planted)) expect(JSON.stringify(rows.rows)).not.toContain(marker);
      await expect(masked.query("DELETE FROM orders")).rejects.toMatchObject({ code: "42501" });
      await masked.end();
    }
  });

  it("says on both control planes which nodes there are, what they enforce and to whom they are linked", async () => {
    for (const controlPlane of fleet.controlPlanes) {
      const nodes = await listNodes(controlPlane);
      expect(nodes.map(({ role, name, region, state }) => `${role} ${name} ${region} ${state}`)).toEqual([
        "agent agent-1 eu-1 connected",
        "agent agent-2 eu-2 connected",
        "gateway gateway-1 eu-1 connected",
        "gateway gateway-2 eu-2 connected",
        "gateway gateway-3 eu-3 connected",
        "recorder recorder-1 eu-1 connected",
      ]);
      const versions = nodes.filter(({ role }) => role !== "recorder").map(({ snapshot }) => snapshot?.version);
      expect(new Set(versions).size, versions.join(" ")).toBe(1);
      for (const node of nodes.filter(({ role }) => role === "agent")) expect(node.links.length).toBeGreaterThanOrEqual(2);
    }
  });

  it("shows a session on both control planes, and replays and verifies it through either", async () => {
    const opened = await openEverywhere(agent);
    for (const { client } of opened) await done(client, "SELECT id, ssn FROM customers WHERE id = 2");
    for (const controlPlane of fleet.controlPlanes) {
      const shown = async (): Promise<readonly string[]> => {
        const running = (await listSessions(controlPlane)).filter(({ state }) => state === "active");
        return opened.map(({ id }) => id).filter((id) => !running.some((session) => session.id === id));
      };
      await expect.poll(shown, { timeout: 10_000 }).toEqual([]);
    }
    for (const { client } of opened) await client.end();
    for (const controlPlane of fleet.controlPlanes) {
      for (const { id } of opened) {
        const kinds = async (): Promise<unknown> => (await fleet.replay(id, controlPlane)).at(-1)?.kind;
        await expect.poll(kinds, { timeout: 10_000 }).toBe("closed");
        const text = JSON.stringify(await fleet.replay(id, controlPlane));
        expect(text).toContain("***-**-5462");
        expect(text).not.toContain(planted[1]!.ssn);
        expect(await fleet.admin("SessionService/Verify", { id }, controlPlane)).toMatchObject({ ok: true, state: "complete" });
      }
      const { id } = opened[0]!;
      expect((await fleet.cli(["sessions", "replay", id, "--json"], controlPlane)).stdout).toContain("***-**-5462");
      expect(await fleet.cli(["sessions", "verify", id], controlPlane)).toMatchObject({ status: 0 });
    }
  });

  it("explains a decision at a control plane that has no gateway of its own", async () => {
    const as = JSON.stringify({ sub: "ada", groups: ["agents"] });
    for (const controlPlane of fleet.controlPlanes) {
      const sql = "SELECT ssn FROM customers WHERE id = 1";
      const { stdout, stderr } = await fleet.cli(
        ["policy", "explain", "--as", as, "--resource", "orders", "--sql", sql],
        controlPlane,
      );
      expect(stderr).toBe("");
      expect(JSON.parse(stdout)).toMatchObject({
        effect: "mask",
        columns: [{ mask: { entity: "US_SSN", operator: "partial" } }],
      });
    }
  });

  it("ends one session on whichever gateway it is, and no other", async () => {
    const opened = await openEverywhere(agent);
    const [first, second, third] = opened as [Opened, Opened, Opened]; // as many as gateways
    second.client.send(query("SELECT count(*) FROM big a, big b"));
    const beganMs = performance.now();
    for (const { id } of [second, third]) await kill(id, "Enough for today.");
    for (const { client } of [second, third]) {
      const errors = errorsOf(await client.untilClosed());
      expect(errors.at(-1)).toMatchObject({ S: "FATAL", C: "57P01", M: expect.stringContaining("Enough for today.") });
      expect(codeOf(errors.at(-1))).toBe("killed");
    }
    expect(performance.now() - beganMs).toBeLessThan(EVERYWHERE_MS);
    await done(first.client, "SELECT 1");
    await first.client.end();
    await expect(fleet.admin("SessionService/Kill", { id: "s_AAAAAAAAAAAAAAAAAAAAAA", reason: "?" })).rejects.toMatchObject({
      code: "not_found",
    });
  });

  it("shuts a principal out everywhere, at once, until it is let in again", async () => {
    const token = await fleet.token("eve", ["agents"]);
    const opened = await openEverywhere(token);
    const others = await openEverywhere(agent);
    const beganMs = performance.now();
    await fleet.admin("PrincipalService/Disable", { subject: "eve", reason: "Eve has left." }, fleet.controlPlanes[0]);
    for (const { client } of opened)
      expect(errorsOf(await client.untilClosed()).at(-1)).toMatchObject({
        C: "57P01",
        M: expect.stringContaining("Eve has left."),
      });
    expect(performance.now() - beganMs).toBeLessThan(EVERYWHERE_MS);
    for (const gateway of fleet.gateways) await expect(fleet.connect(gateway, token)).rejects.toMatchObject({ code: "28000" });
    for (const { client } of others) {
      await done(client, "SELECT 1");
      await client.end();
    }
    const listed = await fleet.cli(["principals", "list"], fleet.controlPlanes[1]);
    expect(listed.stdout).toContain("Eve has left.");
    await fleet.admin("PrincipalService/Enable", { subject: "eve" }, fleet.controlPlanes[1]);
    for (const gateway of fleet.gateways) {
      const again = async (): Promise<unknown> => {
        const client = await fleet.connect(gateway, token);
        const { rows } = await client.query("SELECT 1 AS one");
        await client.end();
        return rows;
      };
      await expect.poll(() => again().catch(() => "refused"), { timeout: 5_000 }).toEqual([{ one: 1 }]);
    }
  });

  it("enforces on all gateways what was applied to one control plane", async () => {
    const clients = new Map((await openEverywhere(agent)).map((opened, at) => [fleet.gateways[at]!.name, opened]));
    /** Of one statement there; a session that was ended is replaced. */
    const refusal = async (gateway: FleetNode): Promise<Readonly<Record<string, string>> | undefined> => {
      const { client } = clients.get(gateway.name)!;
      client.send(query("SELECT id FROM orders WHERE id = 1"));
      const error = errorsOf(await client.until(({ type, body }) => type === "Z" || (type === "E" && isFatal(body)))).at(-1);
      if (error?.["S"] === "FATAL") clients.set(gateway.name, await open(gateway, agent));
      return error;
    };
    const manifests = await contract();
    const stricter = manifests.replace('when: "statement.bulkExport"', 'when: "true"');
    expect(stricter).not.toBe(manifests);
    for (const [at, controlPlane] of fleet.controlPlanes.entries()) {
      await apply("orders.yaml", stricter, controlPlane);
      const appliedMs = performance.now();
      for (const gateway of fleet.gateways) {
        for (let refused = false; !refused; ) {
          const error = await refusal(gateway);
          refused = error !== undefined;
          // One that ran when the policy came was cut off, since the new one refuses it.
          if (error?.["C"] !== "57P01" && refused)
            expect(error).toMatchObject({ C: "42501", M: "bulk export is not allowed for agents" });
          expect(performance.now() - appliedMs, `${gateway.name} after control plane ${at + 1}`).toBeLessThan(EVERYWHERE_MS);
        }
      }
      await apply("orders.yaml", manifests, controlPlane);
      for (const gateway of fleet.gateways)
        await expect.poll(() => refusal(gateway), { timeout: 5_000, interval: 20 }).toBeUndefined();
    }
    for (const { client } of clients.values()) await client.end();
  });

  it("stops a statement whose cancel request lands on another gateway", async () => {
    for (const [at, gateway] of fleet.gateways.entries()) {
      const { client, cancelKey } = await open(gateway, dba);
      client.send(query("SELECT pg_sleep(30) /* to be cancelled */"));
      const sleepers = async (): Promise<number> =>
        await fleet.target.admin("orders", async (admin) => {
          const text =
            "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()";
          return (await admin.query(text)).rowCount ?? 0;
        });
      await expect.poll(sleepers, { timeout: 10_000, interval: 50 }).toBe(1);
      const other = fleet.gateways[(at + 1) % fleet.gateways.length]!;
      const beganMs = performance.now();
      const socket = await openTcp(portOf(other));
      socket.end(cancelRequest(cancelKey.processId, cancelKey.secret));
      const error = (await client.until(({ type }) => type === "E")).at(-1)!;
      expect(errorFields(error.body)).toMatchObject({ C: "57014" });
      expect(performance.now() - beganMs).toBeLessThan(EVERYWHERE_MS);
      await client.untilReady();
      expect(rowsOf(await done(client, "SELECT 'still here'"))).toEqual([["still here"]]);
      expect(await sleepers()).toBe(0);
      socket.destroy();
      await client.end();
    }
  });

  it("logs in at the target with the account that the policy calls for", async () => {
    const readers = await fleet.token("rita", ["readers"]);
    for (const gateway of fleet.gateways) {
      const reader = await open(gateway, readers, "ledger");
      expect(rowsOf(await done(reader.client, "SELECT current_user"))).toEqual([[READER]]);
      expect(errorsOf(await reader.client.query("UPDATE orders SET total = 0 WHERE id = 1"))[0]).toMatchObject({ C: "42501" });
      const writer = await open(gateway, dba, "ledger");
      expect(rowsOf(await done(writer.client, "SELECT current_user"))).toEqual([[APP_USER]]);
      await done(writer.client, "UPDATE orders SET total = total WHERE id = 1");
      await reader.client.end();
      await writer.client.end();
    }
  });

  it("goes on with the former policy where the new one is refused, and says so", async () => {
    const [first, , third] = fleet.gateways;
    const rules = (count: number): string =>
      Array.from({ length: count }, (_, at) => `    - { name: filler-${at}, effect: deny, when: "false" }\n`).join("");
    const policy = (count: number): string =>
      `apiVersion: sluice/v1\nkind: Policy\nmetadata: { name: filler }\nspec:\n  principals: { groups: [nobody] }\n  resources: { labels: { env: prod } }\n  rules:\n${rules(count)}`;
    await apply("filler.yaml", policy(400), fleet.controlPlanes[0]!);
    const refusals = async (): Promise<readonly string[]> =>
      (await listNodes(fleet.controlPlanes[1])).filter(({ rejected }) => rejected !== null).map(({ name }) => name);
    await expect.poll(refusals, { timeout: 10_000 }).toEqual(["gateway-3"]);
    const nodes = await listNodes();
    const has = (name: string): number => nodes.find((node) => node.name === name)!.snapshot!.sequence;
    expect(has("gateway-1")).toBeGreaterThan(has("gateway-3"));
    const shown = await fleet.cli(["nodes", "list"]);
    expect(shown.stdout).toMatch(/gateway-3.*refused/);
    for (const gateway of [first!, third!]) {
      const { client } = await open(gateway, agent);
      expect(rowsOf(await done(client, "SELECT ssn FROM customers WHERE id = 1"))).toEqual([["***-**-9382"]]);
      await client.end();
    }
    await apply("filler.yaml", policy(1), fleet.controlPlanes[0]!);
    await expect.poll(refusals, { timeout: 10_000 }).toEqual([]);
    const sequences = (await listNodes()).filter(({ role }) => role === "gateway").map(({ snapshot }) => snapshot!.sequence);
    expect(new Set(sequences).size).toBe(1);
  });

  it("keeps secrets, tokens and masked values out of every log", () => {
    for (const node of [...fleet.controlPlanes, ...fleet.gateways, ...fleet.agents, fleet.recorder]) {
      const log = node.output();
      for (const text of [APP_PASSWORD, agent, dba, ...markersOf(planted)])
        expect(log.includes(text), `${node.name} wrote ${text.slice(0, 12)}…`).toBe(false);
    }
  });
});

function isFatal(body: Buffer): boolean {
  return errorFields(body)["S"] === "FATAL";
}
