/** What all links of one agent share: who it is, what it may reach, what it counts. */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { Logger } from "pino";
import type { CarriedSession } from "./carried-session.ts";
import type { DialedGateway, GatewayDialer } from "./session-dialer.ts";

/** The agent's own copy of what it may reach, as the control plane signed it. */
export interface AgentResources {
  /** 0 before the first. */
  readonly sequence: bigint;
  find(name: string): ResourceSpec | undefined;
}

export interface TunnelContext {
  readonly identity: NodeIdentity;
  readonly region: string;
  readonly resources: AgentResources;
  /** Does the work: resolves secrets, logs in, reads catalogs. */
  readonly agentLink: AgentLink;
  readonly dialer: GatewayDialer;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** What this agent says that it speaks; for tests. */
  readonly capability?: number;
  /** Carried for all gateways. */
  sessions(): number;
  draining(): boolean;
  started(session: CarriedSession, dialed: DialedGateway): void;
  ended(session: CarriedSession): void;
  /** Counts an open that the agent did not take, by a code. */
  refused(reason: string): void;
}
