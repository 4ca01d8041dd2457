/**
 * Planes as processes of their own, as in production: control plane, gateways, one agent, the recorder behind NATS. A caller's bytes
 * pass a gateway and the agent. CPU is counted for both and for the recorder, which shares the machine.
 */
import { type DelayProxy, startDelayProxy } from "../test/support/delay-proxy.ts";
import { type Fleet, portOf, startFleet } from "../test/support/fleet.ts";
import type { FleetNode } from "../test/support/fleet-node.ts";
import { benchManifests, type Ground, type Side } from "./ground.ts";
import { bulk, type Load, medianLatency, type Pace, reconnect, select } from "./measure.ts";

export interface TwoHops {
  readonly fleet: Fleet;
  readonly relaxed: Side;
  readonly strict: Side;
  readonly masked: Side;
  readonly maskedStrict: Side;
  readonly tls: Side;
  readonly tlsStrict: Side;
  /** Connections to the target are used again by later sessions. */
  readonly tlsPooled: Side;
  /** 20 ms from the gateway to the agent and back. */
  readonly far: Side;
  stop(): Promise<void>;
}

/** Of the fleet's gateways; an agent links to the nearest two, the far one asks for it. */
const PLAIN = 0;
const TLS = 1;
const FAR = 2;
const FAR_ONE_WAY_MS = 10;
/** What the fleet's agents hold the target's password in. */
const VARIABLE = "ORDERS_PASSWORD";

export async function startTwoHops({ target }: Ground): Promise<TwoHops> {
  const proxies: DelayProxy[] = [];
  const stopProxies = async (): Promise<void> => {
    for (const proxy of proxies) await proxy.stop();
  };
  try {
    const fleet = await startFleet({
      controlPlanes: 1,
      gateways: 3,
      agents: 1,
      target,
      manifests: () => benchManifests(target.port, VARIABLE),
      rewrite: async (role, index, config) =>
        role === "data-plane" && index !== TLS
          ? config.replace("dataPlane:\n", "dataPlane:\n  tls: { mode: plaintext-loopback }\n")
          : config,
      advertise: async (gateway, kind, port) => {
        if (gateway !== FAR || kind === "callers") return port;
        const proxy = await startDelayProxy(port, FAR_ONE_WAY_MS);
        proxies.push(proxy);
        return proxy.port;
      },
    });
    const stop = async (): Promise<void> => {
      await fleet.stop();
      await stopProxies();
    };
    const hour = { exp: Math.floor(Date.now() / 1_000) + 3_600 };
    const open = await fleet.token("bench", ["open"], hour);
    const masked = await fleet.token("bench", ["masked"], hour);
    const side = (name: string, gateway: number, resource: string, password: string): Side =>
      sideOf(fleet, `two hops${name === "" ? "" : `, ${name}`}`, fleet.gateways[gateway]!, resource, password);
    return {
      fleet,
      relaxed: side("", PLAIN, "bench-relaxed", open),
      strict: side("strict", PLAIN, "bench-strict", open),
      masked: side("masked", PLAIN, "bench-relaxed", masked),
      maskedStrict: side("masked, strict", PLAIN, "bench-strict", masked),
      tls: side("TLS", TLS, "bench-relaxed", open),
      tlsStrict: side("TLS, strict", TLS, "bench-strict", open),
      tlsPooled: side("TLS, pooled", TLS, "bench-pooled", open),
      far: side("20 ms apart", FAR, "bench-relaxed", open),
      stop,
    };
  } catch (error) {
    await stopProxies();
    throw error;
  }
}

function sideOf(fleet: Fleet, name: string, gateway: FleetNode, resource: string, password: string): Side {
  const tls = gateway === fleet.gateways[TLS] ? `sslmode=verify-full sslrootcert=${gateway.ready.caFile}` : "sslmode=disable";
  return {
    name,
    connection: `host=127.0.0.1 port=${portOf(gateway)} dbname=${resource} user=bench ${tls}`,
    password,
    processes: [
      { name: "gateway", pid: gateway.ready.pid },
      { name: "agent", pid: fleet.agents[0]!.ready.pid },
      { name: "recorder", pid: fleet.recorder.ready.pid },
    ],
  };
}

export function twoHopsLoads({ direct, bouncer, bouncerTls }: Ground, sides: TwoHops, pace: Pace): readonly Load[] {
  const { relaxed, strict, masked, maskedStrict, tls, tlsStrict, tlsPooled, far } = sides;
  return [
    select(pace, "prepared, 1 client, no TLS to the caller", "prepared", 1, {
      sides: [direct, bouncer, relaxed, strict],
      judged: [
        { of: relaxed, to: bouncer },
        { of: strict, to: relaxed },
      ],
    }),
    select(pace, "prepared, 8 clients, no TLS to the caller", "prepared", 8, {
      sides: [direct, bouncer, relaxed, strict],
      judged: [
        { of: relaxed, to: bouncer, first: 0.4, later: 0.6 },
        { of: strict, to: relaxed },
      ],
    }),
    select(pace, "prepared, 8 clients, TLS to the caller", "prepared", 8, {
      sides: [bouncerTls, tls, tlsStrict],
      judged: [
        { of: tls, to: bouncerTls },
        { of: tlsStrict, to: tls },
      ],
    }),
    medianLatency(pace, "1 client, no TLS to the caller", {
      sides: [direct, bouncer, relaxed, strict],
      judged: [
        { of: bouncer, to: direct, by: "difference", better: "less" },
        { of: relaxed, to: direct, by: "difference", better: "less", first: 150, later: 90 },
        { of: strict, to: direct, by: "difference", better: "less" },
      ],
    }),
    bulk(pace, "not masked, no TLS to the caller", {
      sides: [direct, bouncer, relaxed, strict],
      judged: [
        { of: relaxed, to: bouncer, first: 0.75, later: 0.9 },
        { of: strict, to: bouncer },
      ],
    }),
    bulk(pace, "not masked, TLS to the caller", {
      sides: [bouncerTls, tls],
      judged: [{ of: tls, to: bouncerTls }],
    }),
    bulk(pace, "two columns masked, eight searched, no TLS to the caller", {
      sides: [bouncer, masked, maskedStrict],
      judged: [
        { of: masked, to: bouncer, first: 0.45, later: 0.7 },
        { of: maskedStrict, to: bouncer },
      ],
    }),
    bulk(pace, "not masked, 20 ms between gateway and agent", {
      sides: [far],
      judged: [{ of: far, first: 100, later: 150 }],
    }),
    reconnect(pace, "8 clients, TLS, token cached, connections to the target pooled", 8, {
      sides: [bouncerTls, tlsPooled, tls],
      judged: [
        { of: tlsPooled, to: bouncerTls, first: 0.3, later: 0.6 },
        { of: tls, to: bouncerTls },
      ],
    }),
  ];
}
