/** For tests alone: a gateway's links with an authority of their own, and agents on them, all freed together. */
import type { Limits } from "@sluice/core/limits.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { OpenTargetRequest, TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { type Logger, pino } from "pino";
import { FakeAgent, type FakeAgentOptions } from "./fake-agent.ts";
import { type AgentLinks, type AgentLinksOptions, openAgentLinks } from "./open.ts";

export const silent: Logger = pino({ level: "silent" });
const anyPort = { host: "127.0.0.1", port: 0 };

export class LinksHarness {
  readonly authority: TestAuthority;
  readonly identity: LiveIdentity;
  readonly links: AgentLinks;
  /** Resources for which the control plane was told that an agent is wanted. */
  readonly wanted: string[];
  readonly #ends: (() => unknown)[] = [];

  static async start(
    limits: Partial<Limits> = {},
    options: Partial<AgentLinksOptions> & { readonly authority?: TestAuthority } = {},
  ): Promise<LinksHarness> {
    const authority = options.authority ?? (await makeTestAuthority());
    const identity = await testIdentity("gateway", "g1", {}, authority);
    const wanted: string[] = [];
    const links = await openAgentLinks({
      config: { control: anyPort, sessions: anyPort, advertise: { control: null, sessions: null } },
      identity,
      control: { agentWanted: (resource) => void wanted.push(resource), statusChanged: () => undefined },
      limits: { ...defaultLimits, ...limits },
      clock: systemClock,
      random: systemRandom,
      log: silent,
      ...options,
    });
    return new LinksHarness(authority, identity, links, wanted);
  }

  private constructor(authority: TestAuthority, identity: LiveIdentity, links: AgentLinks, wanted: string[]) {
    this.authority = authority;
    this.identity = identity;
    this.links = links;
    this.wanted = wanted;
  }

  get target(): FakeAgentOptions["gateway"] {
    return { name: "g1", control: this.links.addresses.control };
  }

  /** An agent with these labels in its certificate, linked. */
  async agent(
    name: string,
    options: Partial<FakeAgentOptions> & { readonly labels?: Readonly<Record<string, string>> } = {},
  ): Promise<FakeAgent> {
    const identity = options.identity ?? (await testIdentity("agent", name, options.labels ?? {}, this.authority));
    const agent = await FakeAgent.link({ identity, gateway: this.target, log: silent, ...options });
    this.#ends.push(() => agent.kill());
    return agent;
  }

  async open(request: Partial<OpenTargetRequest> = {}): Promise<TargetConnection> {
    const target = await this.links.agentLink.openTarget({
      resource: resource(),
      database: "orders",
      sessionId: "s-1" as SessionId, // branded; any text will do for a test
      account: "readWrite",
      startup: { application_name: "test" },
      signal: AbortSignal.timeout(10_000),
      ...request,
    });
    target.stream.on("error", () => undefined);
    this.#ends.push(() => target.stream.destroy());
    return target;
  }

  async close(): Promise<void> {
    for (const end of this.#ends.splice(0).toReversed()) await end();
    await this.links.close();
  }
}

export function resource(agents?: Readonly<Record<string, string>>, pool = false): ResourceSpec {
  return {
    name: "orders",
    labels: {},
    protocol: "postgres",
    target: {
      host: "127.0.0.1",
      port: 5432,
      database: "orders",
      databases: [],
      tls: { mode: "disable" },
      ...(pool ? { pool: { connectionsMax: 4, idleMs: 1_000 } } : {}),
    },
    credential: { username: { kind: "value", value: "app" } },
    ...(agents === undefined ? {} : { agents }),
    inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
  };
}

/** Looks again until it is so. Throws after two seconds. */
export async function until(holds: () => boolean): Promise<void> {
  const endMs = Date.now() + 2_000;
  while (!holds()) {
    if (Date.now() > endMs) throw new Error("it did not come to be so within two seconds");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** `ok`, or the code of what it throws. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => "ok",
    (error: unknown) => (error instanceof GatewayError ? error.code : String(error)),
  );
}

/** Writes and resolves with as many bytes of what comes back. */
export async function echoed(stream: TargetConnection["stream"], text: string): Promise<string> {
  let received = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const take = (chunk: Buffer): void => {
    received += chunk.toString();
    if (received.length >= text.length) resolve();
  };
  const closed = (): void => reject(new Error("closed"));
  stream.on("data", take).once("close", closed);
  stream.resume();
  stream.write(text);
  try {
    await promise;
    return received;
  } finally {
    stream.pause();
    stream.off("data", take).off("close", closed);
  }
}
