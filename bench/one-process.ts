/** Everything in one process, `sluice up`: one hop, the agent beside the gateway. */
import { type Sluice, startSluice } from "../test/support/sluice.ts";
import { APP_PASSWORD } from "../test/support/targets.ts";
import { benchManifests, type Ground, type Side } from "./ground.ts";
import { bulk, type Load, type Pace, select } from "./measure.ts";

export interface OneProcess {
  /** Plain text on loopback, records made durable within a second. */
  readonly relaxed: Side;
  /** The same with records durable before release. */
  readonly strict: Side;
  /** TLS to the caller, relaxed. */
  readonly tls: Side;
  /** Two columns masked by origin, detectors on the rest. */
  readonly masked: Side;
  stop(): Promise<void>;
}

const VARIABLE = "BENCH_PASSWORD";

export async function startOneProcess({ target }: Ground): Promise<OneProcess> {
  const started: Sluice[] = [];
  const start = async (tls: string): Promise<Sluice> => {
    const sluice = await startSluice({
      config: config(tls),
      manifests: { "bench.yaml": benchManifests(target.port, VARIABLE) },
      environment: { [VARIABLE]: APP_PASSWORD },
    });
    started.push(sluice);
    return sluice;
  };
  const stop = async (): Promise<void> => {
    for (const one of started.splice(0)) await one.remove();
  };
  try {
    const plain = await start("{ mode: plaintext-loopback }");
    const secured = await start("{ mode: self-signed }");
    const side = async (name: string, sluice: Sluice, resource: string, group: string): Promise<Side> => ({
      name,
      connection: `host=127.0.0.1 port=${sluice.port} dbname=${resource} user=bench ${sluice === secured ? `sslmode=verify-full sslrootcert=${sluice.ready.caFile}` : "sslmode=disable"}`,
      password: await sluice.token("bench", [group]),
      processes: [{ name: "sluice", pid: sluice.ready.pid }],
    });
    return {
      relaxed: await side("sluice", plain, "bench-relaxed", "open"),
      strict: await side("sluice, strict", plain, "bench-strict", "open"),
      tls: await side("sluice, TLS", secured, "bench-relaxed", "open"),
      masked: await side("sluice, masked", plain, "bench-relaxed", "masked"),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

export function oneProcessLoads({ direct, bouncer, bouncerTls }: Ground, sides: OneProcess, pace: Pace): readonly Load[] {
  const { relaxed, strict, tls, masked } = sides;
  const plain = (mode: string, clients: number): Load =>
    select(pace, `${mode}, ${clients} client${clients === 1 ? "" : "s"}, no TLS, recording relaxed`, mode, clients, {
      sides: [direct, bouncer, relaxed],
      judged: [
        { of: relaxed, to: bouncer, ...(mode === "prepared" && clients === 8 ? { first: 0.65, later: 1 } : {}) },
        { of: relaxed, to: direct },
      ],
    });
  return [
    ...["simple", "extended", "prepared"].flatMap((mode) => [plain(mode, 1), plain(mode, 8)]),
    select(pace, "prepared, 8 clients, TLS to the caller on both, recording relaxed", "prepared", 8, {
      sides: [bouncerTls, tls],
      judged: [{ of: tls, to: bouncerTls }],
    }),
    select(pace, "prepared, 32 clients, no TLS, recording strict against relaxed", "prepared", 32, {
      sides: [relaxed, strict],
      judged: [{ of: strict, to: relaxed, first: 0.75, later: 0.9 }],
    }),
    select(pace, "prepared, 1 client, no TLS, recording strict against relaxed", "prepared", 1, {
      sides: [relaxed, strict],
      judged: [{ of: strict, to: relaxed }],
    }),
    bulk(pace, "not masked, no TLS, recording relaxed", {
      sides: [direct, bouncer, relaxed],
      judged: [
        { of: relaxed, to: bouncer },
        { of: relaxed, to: direct },
      ],
    }),
    bulk(pace, "two columns masked, eight searched, no TLS, recording relaxed", {
      sides: [direct, bouncer, masked],
      judged: [
        { of: masked, to: bouncer },
        { of: masked, to: direct },
      ],
    }),
  ];
}

function config(tls: string): string {
  return `apiVersion: sluice/v1
kind: Config
controlPlane: { store: embedded, listen: 127.0.0.1:0 }
dataPlane:
  listeners: [ { protocol: postgres, listen: 127.0.0.1:0 } ]
  tls: ${tls}
agent:
  secrets: [ { env: ${VARIABLE}, targets: [ "127.0.0.1:*" ] } ]
events: { bus: embedded }
recorder: { store: "file:recordings" }
manifests: [ ./manifests ]
`;
}
