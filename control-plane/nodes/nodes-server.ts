/**
 * Everything that this control plane is for other processes: where they enrol and hold their control streams, and what it asks of
 * them. All of it over mTLS (but enrolling), served by one listener.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Config, NodesListenConfig } from "@sluice/core/config.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { allOrNothing, type Started } from "@sluice/core/started.ts";
import { NodeControlService } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import type { DecisionExplainer } from "@sluice/rpc/explain.ts";
import type { ServedService } from "@sluice/rpc/grpc.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { RecordingReader } from "@sluice/rpc/recordings.ts";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Authority } from "../ca/authority.ts";
import type { Bindings } from "../publish/bindings.ts";
import type { Publisher } from "../publish/publisher.ts";
import { openSnapshotSigning } from "../publish/sign.ts";
import { hostsOf } from "../server-certificates.ts";
import type { Changes } from "../store/changes.ts";
import type { Tables } from "../store/tables.ts";
import { createAgentCalls } from "./agent-calls.ts";
import type { ConnectedNode } from "./connected-node.ts";
import { createControlService } from "./control-service.ts";
import { openNodeHub } from "./node-hub.ts";
import { openOwnIdentity } from "./own-identity.ts";
import { createRemoteExplainer } from "./remote-explainer.ts";
import { createRemoteRecordings } from "./remote-recordings.ts";
import type { SessionCommands } from "./session-commands.ts";

export interface NodesServerOptions {
  readonly listen: NodesListenConfig;
  readonly lease: Config["controlPlane"]["lease"];
  /** This control plane's own name. */
  readonly replica: string;
  readonly db: Kysely<Tables>;
  readonly changes: Changes;
  readonly authority: Authority;
  readonly publisher: Publisher;
  readonly commands: SessionCommands;
  readonly bindings: Pick<Bindings, "take">;
  /** Served by the same listener to whoever has no certificate yet. */
  readonly enrolment: ServedService;
  /** Filled with the nodes that are connected here. */
  readonly connected: Map<string, ConnectedNode>;
  /** A node did not take a snapshot; for whoever counts. */
  readonly onRejected: () => void;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

export interface NodesServer {
  /** `host:port` as bound. */
  readonly address: string;
  /** What this control plane proves itself with, and whom it trusts. */
  readonly identity: NodeIdentity;
  readonly explainer: DecisionExplainer;
  readonly recordings: RecordingReader;
  close(): Promise<void>;
}

/** Calls under way may finish; control streams are ended at once and made again elsewhere. */
const CLOSE_GRACE_MS = 2_000;

export async function startNodesServer(options: NodesServerOptions): Promise<NodesServer> {
  const { stop, ...server } = await allOrNothing(options.log, (started) => start(options, started));
  return { ...server, close: stop };
}

async function start(options: NodesServerOptions, started: Started): Promise<Omit<NodesServer, "close">> {
  const { authority, publisher, commands, limits, replica, db, changes, clock, random, log, connected } = options;
  const hosts = hostsOf([options.listen.listen.host, ...options.listen.hosts]);
  const identity = await openOwnIdentity({ authority, name: replica, hosts, clock, log });
  started.add("identity", () => identity.close());
  const signing = await openSnapshotSigning({
    signer: () => authority.issueSigner(),
    trust: () => authority.trust(),
    lease: options.lease,
    clock,
  });
  const { feed } = publisher;
  const hub = await openNodeHub({
    db,
    changes,
    clock,
    log,
    replica,
    feed,
    signing,
    connected,
    reload: () => publisher.reload(),
    trust: () => authority.trust(),
    onTrustChange: (listener) => authority.onChange(listener),
    times: {
      heartbeatMs: limits.nodeHeartbeatMs,
      reportMs: limits.nodeReportMs,
      goneMs: limits.nodeGoneMs,
      stuckMs: limits.nodeStuckMs,
    },
  });
  started.add("hub", () => hub.close());
  const explainer = createRemoteExplainer(() => connected.values(), random);
  const agents = createAgentCalls({ db, changes, feed, hub, log });
  started.add("agents", () => agents.close());
  const recordings = createRemoteRecordings({ identity, nodes: () => hub.directory.nodes, limits, log });
  started.add("recordings", () => recordings.close());
  const heartbeatMs = limits.nodeHeartbeatMs;
  const outgrow = (sequence: bigint): Promise<void> => publisher.outgrow(sequence);
  const control = createControlService({
    db,
    clock,
    log,
    replica,
    heartbeatMs,
    hub,
    commands,
    explainer,
    agents,
    bindings: options.bindings,
    outgrow,
    onRejected: options.onRejected,
  });
  const server = await serveGrpc({
    listen: options.listen.listen,
    services: [options.enrolment, implement(NodeControlService, control, ["gateway", "agent", "recorder"])],
    messageBytesMax: limits.nodeMessageBytesMax,
    identity,
    log,
    clock,
    limits,
  });
  started.add("server", () => server.close(CLOSE_GRACE_MS));
  log.info({ address: server.address, name: replica }, "nodes may connect");
  return { address: server.address, identity, explainer, recordings };
}
