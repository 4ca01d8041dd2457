/**
 * What platforms see of an installation: probes, metrics, traces, of each process and of all planes in one. Real processes, a collector
 * of our own, a scrape as Prometheus makes it. Nothing that a caller said or saw may be in any of it.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Fleet, startFleet } from "./support/fleet.ts";
import type { FleetNode } from "./support/fleet-node.ts";
import { contractConfig, type Orders, startOrders } from "./support/orders.ts";
import { markersOf, planted } from "./support/orders-schema.ts";

const SUBJECT = "ada-lovelace-42";
const SECRET_TEXT = "plainly-visible-in-the-statement";

interface Collector {
  readonly url: string;
  readonly bodies: string[];
  close(): Promise<void>;
}

interface Span {
  readonly name: string;
  readonly traceId: string;
  readonly parentSpanId?: string;
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, unknown> }[];
}

async function startCollector(): Promise<Collector> {
  const bodies: string[] = [];
  const server: Server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      bodies.push(Buffer.concat(parts).toString("utf8"));
      response.setHeader("content-type", "application/json").end("{}");
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", () => resolve()));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`, // TCP
    bodies,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
}

function spansOf(bodies: readonly string[]): readonly Span[] {
  return bodies.flatMap((body) => {
    const { resourceSpans } = JSON.parse(body) as { resourceSpans: { scopeSpans: { spans: Span[] }[] }[] }; // OTLP's JSON
    return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  });
}

async function metricsOf(address: string): Promise<string> {
  const response = await fetch(`http://${address}/metrics`);
  expect(response.status).toBe(200);
  return await response.text();
}

/** Of a gauge or counter with exactly these labels; NaN when it is not there. */
function valueOf(text: string, series: string): number {
  return Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1) ?? "NaN",
  );
}

async function readiness(address: string): Promise<{ readonly status: number; readonly reasons: readonly string[] }> {
  const response = await fetch(`http://${address}/readyz`);
  const { reasons } = (await response.json()) as { reasons: readonly string[] }; // our own shape, compared below
  return { status: response.status, reasons };
}

/** A session with a masked answer, a refusal, and a text that must not be seen anywhere. */
async function work(client: pg.Client): Promise<void> {
  await client.query(`SELECT ssn, email FROM customers WHERE name <> '${SECRET_TEXT}' LIMIT 3`);
  await client.query({ text: "SELECT count(*) FROM orders WHERE id > $1", values: [7] });
  await expect(client.query("DELETE FROM orders")).rejects.toMatchObject({ code: "42501" });
}

function expectNothingSeen(text: string, token: string): void {
  for (const marker of [...markersOf(planted), SECRET_TEXT, SUBJECT, "count(*)", token, token.slice(0, 60)]) {
    expect(text.includes(marker), marker.slice(0, 12)).toBe(false);
  }
}

describe("planes apart", () => {
  let collector: Collector;
  let fleet: Fleet;
  let token: string;

  beforeAll(async () => {
    collector = await startCollector();
    fleet = await startFleet({
      controlPlanes: 1,
      gateways: 1,
      agents: 1,
      config: (role) => (role === "data-plane" ? `telemetry: { traces: "${collector.url}" }\n` : ""),
    });
    token = await fleet.token(SUBJECT, ["agents"]);
    const client = await fleet.connect(fleet.gateways[0]!, token);
    await work(client);
    await client.end();
  }, 120_000);

  afterAll(async () => {
    await fleet?.stop();
    await collector?.close();
  });

  const addressOf = (node: FleetNode): string => {
    expect(node.ready.operations, node.name).toBeDefined();
    return node.ready.operations ?? "";
  };

  it("are ready, each by itself", async () => {
    const nodes = [...fleet.controlPlanes, ...fleet.gateways, ...fleet.agents, fleet.recorder];
    for (const node of nodes) {
      await expect.poll(() => readiness(addressOf(node)), { timeout: 10_000 }).toEqual({ status: 200, reasons: [] });
      expect((await fetch(`http://${addressOf(node)}/healthz`)).status).toBe(200);
    }
  });

  it("count what happened, and nothing of what was said", async () => {
    const gateway = addressOf(fleet.gateways[0]!);
    await expect
      .poll(async () => valueOf(await metricsOf(gateway), 'sluice_sessions_ended_total{resource="orders",code="closed"}'))
      .toBe(1);
    const text = await metricsOf(gateway);
    const seen = (series: string): number => valueOf(text, series);
    expect(seen('sluice_sessions_begun_total{resource="orders"}')).toBe(1);
    expect(seen('sluice_statements_total{resource="orders",effect="mask",class="read"}')).toBeGreaterThanOrEqual(1);
    expect(seen('sluice_statements_total{resource="orders",effect="limit",class="read"}')).toBeGreaterThanOrEqual(1);
    expect(seen('sluice_statements_total{resource="orders",effect="approve",class="write"}')).toBe(1);
    expect(seen("sluice_released_bytes_total")).toBeGreaterThan(100);
    expect(seen("sluice_target_open_milliseconds_count")).toBe(1);
    expect(seen("sluice_analysis_wait_milliseconds_count")).toBeGreaterThan(0);
    expect(seen("sluice_sessions")).toBe(0);
    expect(seen("sluice_control_planes")).toBe(1);
    expect(seen('sluice_agent_sessions{agent="agent-1"}')).toBe(0);
    expect(seen("sluice_policy_lease_seconds")).toBeGreaterThan(3_600);
    expect(seen("sluice_policy_strict_lease_seconds")).toBeLessThanOrEqual(3_600);

    const agent = await metricsOf(addressOf(fleet.agents[0]!));
    expect(valueOf(agent, 'sluice_agent_opens_total{resource="orders",outcome="opened"}')).toBe(1);
    expect(valueOf(agent, 'sluice_agent_catalogs_total{outcome="read"}')).toBeGreaterThan(0);
    expect(valueOf(agent, "sluice_agent_warm_connections")).toBeGreaterThan(0);
    expect(valueOf(agent, 'sluice_agent_round_trip_milliseconds{gateway="gateway-1"}')).toBeGreaterThan(0);

    const controlPlane = await metricsOf(addressOf(fleet.controlPlanes[0]!));
    for (const role of ["gateway", "agent", "recorder"]) {
      expect(valueOf(controlPlane, `sluice_nodes_connected{role="${role}"}`), role).toBe(1);
      expect(valueOf(controlPlane, `sluice_enrolments_total{role="${role}",outcome="granted"}`), role).toBe(1);
    }
    expect(valueOf(controlPlane, 'sluice_applies_total{outcome="taken"}')).toBeGreaterThan(0);
    expect(valueOf(controlPlane, "sluice_policy_newest_sequence")).toBe(seen("sluice_policy_sequence"));

    const recorder = addressOf(fleet.recorder);
    await expect.poll(async () => valueOf(await metricsOf(recorder), "sluice_recorder_records_total")).toBeGreaterThan(3);
    await expect.poll(async () => valueOf(await metricsOf(gateway), "sluice_spool_bytes")).toBe(0);
    expectNothingSeen([text, agent, controlPlane, await metricsOf(recorder)].join("\n"), token);
  });

  it("trace a session as a whole, without a word of it", async () => {
    await expect.poll(() => spansOf(collector.bodies).some(({ name }) => name === "session"), { timeout: 10_000 }).toBe(true);
    const spans = spansOf(collector.bodies);
    expect(spans.map(({ name }) => name)).toEqual(expect.arrayContaining(["session", "open target", "statement"]));
    expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1);
    expect(spans.filter(({ parentSpanId }) => (parentSpanId ?? "") === "").map(({ name }) => name)).toEqual(["session"]);
    const effects = spans.flatMap(({ attributes }) =>
      attributes.filter(({ key }) => key === "sluice.effect").map(({ value }) => value["stringValue"]),
    );
    expect(effects).toEqual(expect.arrayContaining(["mask", "limit", "approve"]));
    expectNothingSeen(collector.bodies.join("\n"), token);
  });

  it("says so when a gateway drains, and waits for the session that runs", async () => {
    const [gateway] = fleet.gateways as [FleetNode];
    const address = addressOf(gateway);
    const client = await fleet.connect(gateway, token);
    await client.query("BEGIN");
    const stopped = gateway.stop();
    await expect.poll(() => readiness(address)).toEqual({ status: 503, reasons: ["draining"] });
    expect(valueOf(await metricsOf(address), "sluice_draining")).toBe(1);
    await client.query("COMMIT");
    await client.end();
    expect(await stopped).toBe(0);
  });

  it("serves by its last policy without a control plane, and shows that it is alone", async () => {
    const [gateway] = fleet.gateways as [FleetNode];
    const [controlPlane] = fleet.controlPlanes as [FleetNode];
    await controlPlane.stop();
    // It has kept a policy, so it serves without anybody.
    await gateway.start();
    const address = addressOf(gateway);
    expect(await readiness(address)).toEqual({ status: 200, reasons: [] });
    expect(valueOf(await metricsOf(address), "sluice_control_planes")).toBe(0);
    await controlPlane.start();
    await expect.poll(async () => valueOf(await metricsOf(address), "sluice_control_planes"), { timeout: 10_000 }).toBe(1);
  });
});

describe("all planes in one process", () => {
  let collector: Collector;
  let orders: Orders;

  beforeAll(async () => {
    collector = await startCollector();
    orders = await startOrders({
      config: (text) =>
        `${text}operations: { listen: "127.0.0.1:0" }\ntelemetry: { traces: "${collector.url}" }\nlimits: { drainTimeoutMs: 2000 }\n`,
    });
  }, 120_000);

  afterAll(async () => {
    await orders?.stop();
    await collector?.close();
  });

  it("show the same", async () => {
    expect(await contractConfig()).not.toContain("operations:");
    const { operations = "" } = orders.sluice.ready as { readonly operations?: string }; // written by the product
    const token = await orders.sluice.token(SUBJECT, ["agents"]);
    const client = await orders.connect(token);
    await work(client);
    await client.end();
    expect(await readiness(operations)).toEqual({ status: 200, reasons: [] });
    await expect
      .poll(async () => valueOf(await metricsOf(operations), 'sluice_sessions_ended_total{resource="orders",code="closed"}'))
      .toBe(1);
    const text = await metricsOf(operations);
    expect(valueOf(text, "sluice_policy_lease_seconds")).toBe(NaN); // +Inf, as Prometheus writes it
    expect(text).toContain("sluice_policy_lease_seconds +Inf\n");
    expect(valueOf(text, 'sluice_applies_total{outcome="taken"}')).toBeGreaterThan(0);
    expect(valueOf(text, "sluice_policy_sequence")).toBe(valueOf(text, "sluice_policy_newest_sequence"));
    for (const deadline = Date.now() + 10_000; collector.bodies.length === 0 && Date.now() < deadline; ) await delay(100);
    expectNothingSeen(`${text}\n${collector.bodies.join("\n")}`, token);
    expect(spansOf(collector.bodies).map(({ name }) => name)).toEqual(expect.arrayContaining(["open target", "statement"]));
  });
});
