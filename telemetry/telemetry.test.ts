/** What a scraper, a probe and a collector get: over real HTTP, from real parts. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import pino from "pino";
import { afterEach, describe, expect, it } from "vitest";
import { createGatewayMetrics, type GatewayFacts } from "./gateway-metrics.ts";
import { createMeter, SERIES_MAX } from "./meter.ts";
import { type Operations, serveOperations } from "./operations.ts";
import { noTraces, notTraced } from "./session-trace.ts";
import { createTraces } from "./traces.ts";

const log = pino({ level: "silent" });
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const facts: GatewayFacts = {
  sessions: () => 3,
  spoolBytes: () => 4_096,
  leaseSeconds: (strict) => (strict ? 60 : Number.POSITIVE_INFINITY),
  snapshotSequence: () => 7,
  controlPlanes: () => 2,
  agentSessions: () => [["agent-1", 2]],
  draining: () => false,
  catalogAges: () => [["orders", 2]],
  bindingsPending: () => 3,
  analysesWaiting: () => 0,
};

async function operations(
  readiness: Parameters<typeof serveOperations>[0]["readiness"],
  meter = createMeter(),
): Promise<Operations> {
  const served = await serveOperations({ listen: { host: "127.0.0.1", port: 0 }, meter, readiness, log });
  closers.push(() => served.close());
  return served;
}

describe("metrics", () => {
  it("are what was counted, with facts asked for at the time of reading", async () => {
    const meter = createMeter();
    const metrics = createGatewayMetrics(meter, facts);
    metrics.decided("orders", "mask", "read");
    metrics.decided("orders", "mask", "read");
    metrics.decided("orders", "deny", "write");
    metrics.released(1_000);
    metrics.analysed(3);
    const { address } = await operations(() => ({ ready: true, reasons: [] }), meter);
    const text = await (await fetch(`http://${address}/metrics`)).text();
    for (const line of [
      'sluice_statements_total{resource="orders",effect="mask",class="read"} 2',
      'sluice_statements_total{resource="orders",effect="deny",class="write"} 1',
      "sluice_released_bytes_total 1000",
      "sluice_sessions 3",
      "sluice_policy_lease_seconds +Inf",
      "sluice_policy_strict_lease_seconds 60",
      'sluice_agent_sessions{agent="agent-1"} 2',
      'sluice_analysis_wait_milliseconds_bucket{le="5"} 1',
      'sluice_analysis_wait_milliseconds_bucket{le="2"} 0',
    ])
      expect(text).toContain(`${line}\n`);
    expect(text).toContain("process_resident_memory_bytes");
  });

  it("keeps a bound on what labels can make", async () => {
    const meter = createMeter({ processMetrics: false });
    const count = meter.counter("things_total", "Things.", ["name"]);
    for (let at = 0; at < SERIES_MAX + 100; at++) count(1, `name ${at}`);
    const lines = (await meter.text()).split("\n").filter((line) => line.startsWith("things_total{"));
    expect(lines).toHaveLength(SERIES_MAX + 1);
    expect(lines).toContain('things_total{name="other"} 100');
  });
});

describe("probes", () => {
  it("tell alive from ready, and why not", async () => {
    let ready = false;
    const { address } = await operations(() => ({ ready, reasons: ready ? [] : ["the store does not answer"] }));
    expect((await fetch(`http://${address}/healthz`)).status).toBe(200);
    const not = await fetch(`http://${address}/readyz`);
    expect([not.status, await not.json()]).toEqual([503, { status: "not ready", reasons: ["the store does not answer"] }]);
    ready = true;
    expect((await fetch(`http://${address}/readyz`)).status).toBe(200);
  });

  it("say no when the check hangs, and answer nothing else", async () => {
    const { address } = await operations(() => new Promise(() => {}));
    expect(await (await fetch(`http://${address}/readyz`)).json()).toMatchObject({ reasons: ["the check itself took too long"] });
    expect((await fetch(`http://${address}/debug`)).status).toBe(404);
    expect((await fetch(`http://${address}/metrics`, { method: "POST" })).status).toBe(405);
  });

  it("says which setting to change when the address is taken", async () => {
    const { address } = await operations(() => ({ ready: true, reasons: [] }));
    const listen = { host: "127.0.0.1", port: Number(address.split(":")[1]) };
    await expect(
      serveOperations({ listen, meter: createMeter(), readiness: () => ({ ready: true, reasons: [] }), log }),
    ).rejects.toMatchObject({
      code: "config_invalid",
      hint: expect.stringContaining("operations.listen") as string,
    });
  });
});

describe("traces", () => {
  it("go to a collector as spans of one session", async () => {
    const collector = await startCollector();
    const traces = createTraces({
      endpoint: `${collector.url}/v1/traces`,
      sampleRatio: 1,
      service: "gateway",
      node: "g1",
      version: "0",
    });
    const session = traces.session("orders", "s_1");
    session.openTarget()(null);
    const statement = session.statement("query");
    statement.decided("mask", "agents/mask-pii", "read");
    statement.end(12, true);
    session.end("killed");
    await traces.close();
    expect(collector.bodies).toHaveLength(1);
    const spans = spansOf(collector.bodies[0]!);
    expect(spans.map(({ name }) => name).sort()).toEqual(["open target", "session", "statement"]);
    expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1);
    expect(JSON.stringify(spans)).toContain("agents/mask-pii");
    expect(spans.find(({ name }) => name === "session")!.status.code).toBe(2);
  });

  it("are not made for sessions that were not chosen, and cost no object then", async () => {
    const collector = await startCollector();
    const traces = createTraces({
      endpoint: `${collector.url}/v1/traces`,
      sampleRatio: 0,
      service: "gateway",
      node: "g1",
      version: "0",
    });
    expect(traces.session("orders", "s_1")).toBe(notTraced);
    expect(noTraces.session("orders", "s_1").statement("query")).toBe(notTraced.statement("parse"));
    await traces.close();
    expect(collector.bodies).toEqual([]);
  });

  it("end in bounded time when the collector is gone", async () => {
    const traces = createTraces({
      endpoint: "http://127.0.0.1:9/v1/traces",
      sampleRatio: 1,
      service: "gateway",
      node: "g1",
      version: "0",
    });
    traces.session("orders", "s_1").end("closed");
    const startedMs = performance.now();
    await traces.close();
    expect(performance.now() - startedMs).toBeLessThan(3_000);
  });
});

interface CollectedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly status: { readonly code?: number };
}

function spansOf(body: string): readonly CollectedSpan[] {
  const request = JSON.parse(body) as { resourceSpans: { scopeSpans: { spans: CollectedSpan[] }[] }[] }; // OTLP's JSON
  return request.resourceSpans.flatMap((resource) => resource.scopeSpans.flatMap((scope) => scope.spans));
}

async function startCollector(): Promise<{ readonly url: string; readonly bodies: string[] }> {
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
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => void server.close(() => resolve()));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, bodies }; // TCP
}
