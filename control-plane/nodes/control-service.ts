/**
 * The control plane's side of NodeControlService.Watch: hello, agreement on versions, then everything that is in force, and on from
 * there. Who speaks is told by the certificate alone. A node that does not behave loses its stream and nothing else happens.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import {
  type Hello,
  type NodeControlService,
  type SnapshotVerdict,
  type WatchRequest,
  type WatchResponseSchema,
} from "@sluice/proto/sluice/control/v1/control_pb.ts";
import { agreeOn, CAPABILITY, CAPABILITY_MIN } from "@sluice/rpc/capabilities.ts";
import { fromFault } from "@sluice/rpc/fault.ts";
import type { CallContext, ServiceHandlers } from "@sluice/rpc/grpc.ts";
import type { NodeCertificate } from "@sluice/rpc/nodes.ts";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Bindings } from "../publish/bindings.ts";
import type { Tables } from "../store/tables.ts";
import type { AgentCalls } from "./agent-calls.ts";
import { ConnectedNode } from "./connected-node.ts";
import { helloFromProto, reportedCertificate, statusFromProto } from "./messages.ts";
import type { NodeHub } from "./node-hub.ts";
import { registerNode, writeVerdict } from "./node-store.ts";
import type { RemoteExplainer } from "./remote-explainer.ts";
import type { SessionCommands } from "./session-commands.ts";

export interface ControlServiceOptions {
  readonly db: Kysely<Tables>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly replica: string;
  readonly heartbeatMs: number;
  readonly hub: NodeHub;
  readonly commands: SessionCommands;
  readonly explainer: RemoteExplainer;
  readonly agents: AgentCalls;
  readonly bindings: Pick<Bindings, "take">;
  /** A node has seen this snapshot: what is in force must not be older. */
  readonly outgrow: (sequence: bigint) => Promise<void>;
  /** A node did not take a snapshot; for whoever counts. */
  readonly onRejected?: () => void;
}

/** A stream whose first word does not come is not kept open. */
const HELLO_TIMEOUT_MS = 10_000;

type Response = MessageInitShape<typeof WatchResponseSchema>;

export function createControlService(options: ControlServiceOptions): ServiceHandlers<typeof NodeControlService> {
  return { watch: (requests, context) => watch(options, requests, context) };
}

async function* watch(
  options: ControlServiceOptions,
  requests: AsyncIterable<WatchRequest>,
  context: CallContext,
): AsyncGenerator<Response, void, undefined> {
  const { hub, heartbeatMs, clock } = options;
  if (context.peer === null) throw new GatewayError("unauthorized", "Only a node with its certificate may watch.");
  const incoming = requests[Symbol.asyncIterator]();
  const hello = await firstHello(incoming, context.signal);
  const node = await welcome(options, context.peer, hello);
  const welcomeMessage: Response = {
    instruction: {
      case: "welcome",
      value: {
        capability: CAPABILITY,
        capabilityMin: CAPABILITY_MIN,
        slot: node.slot,
        nowMs: BigInt(Math.trunc(clock.nowMs())),
        heartbeatMs: BigInt(heartbeatMs),
      },
    },
  };
  const gone = (): void => node.end(null);
  context.signal.addEventListener("abort", gone, { once: true });
  if (context.signal.aborted) gone();
  hub.add(node);
  const listening = listen(options, node, incoming);
  try {
    yield welcomeMessage;
    await options.commands.tellRecent(node);
    for await (const instruction of node.outbox.instructions()) yield { instruction };
  } finally {
    node.end(null);
    context.signal.removeEventListener("abort", gone);
    options.explainer.lost(node);
    await hub.remove(node);
    void listening; // ends with the call's own stream, and never rejects
  }
}

async function firstHello(incoming: AsyncIterator<WatchRequest>, signal: AbortSignal): Promise<Hello> {
  const late = new Promise<never>((_, reject) => {
    const refuse = (): void => reject(new GatewayError("protocol_violation", "A node says hello first."));
    const timer = setTimeout(refuse, HELLO_TIMEOUT_MS);
    signal.addEventListener("abort", refuse, { once: true });
    timer.unref();
  });
  late.catch(() => undefined); // it loses the race nearly always
  const first = await Promise.race([incoming.next(), late]);
  if (first.done === true || first.value.report.case !== "hello") {
    throw new GatewayError("protocol_violation", "A node says hello first.");
  }
  return first.value.report.value;
}

async function welcome(
  { db, clock, log, replica, hub, outgrow }: ControlServiceOptions,
  certificate: NodeCertificate,
  hello: Hello,
): Promise<ConnectedNode> {
  const { role, name, serial, notAfterMs } = certificate;
  try {
    agreeOn(hello);
  } catch (error) {
    log.warn(
      { role, node: name, capability: hello.capability },
      "a node of a version that is too far from this one was sent away",
    );
    throw error;
  }
  const facts = helloFromProto(hello);
  // What it last reported to another replica stays until it reports here.
  const known = hub.nodes.get(`${role}/${name}`)?.status ?? { sessions: 0, draining: false, links: [], spoolBytes: 0 };
  const slot = await registerNode(db, replica, {
    role,
    name,
    ...facts,
    capability: hello.capability,
    status: { ...known, startedAtMs: facts.startedAtMs, left: false },
    certificateSerial: serial,
    certificateNotAfterMs: notAfterMs,
  }).catch((cause: unknown) => {
    throw new GatewayError("node_unreachable", "The control plane's store does not answer.", { cause, hint: "Connect again." });
  });
  // Recorders are sent none, so they have seen none.
  if (slot !== null && role !== "recorder") await outgrow(hello.snapshotSequence);
  if (slot === null) {
    throw new GatewayError("unauthorized", "The installation does not know this node: it was withdrawn.", {
      hint: "Enrol it again with a join token, in a data directory without its former certificate.",
    });
  }
  return new ConnectedNode({ certificate, hello: facts, slot, capability: hello.capability }, clock);
}

/** Takes what the node says until its stream ends. Never rejects. */
async function listen(options: ControlServiceOptions, node: ConnectedNode, incoming: AsyncIterator<WatchRequest>): Promise<void> {
  try {
    for (;;) {
      const next = await incoming.next();
      if (next.done === true) break;
      node.heard();
      take(options, node, next.value);
    }
    node.end(null);
  } catch (error) {
    if (!node.outbox.ended)
      options.log.info({ node: node.key, reason: toGatewayError(error).code }, "a node's control stream broke");
    node.end(null);
  }
}

function take(options: ControlServiceOptions, node: ConnectedNode, { report }: WatchRequest): void {
  const { hub, explainer, agents, bindings } = options;
  switch (report.case) {
    case "hello":
      throw new GatewayError("protocol_violation", "A node says hello once.");
    case "status": {
      const isNews = node.takeStatus(statusFromProto(report.value), reportedCertificate(report.value));
      if (isNews) later(options, node, () => hub.changed(node));
      storeVerdict(options, node);
      return;
    }
    case "snapshotVerdict":
      takeVerdict(options, node, report.value);
      return;
    case "explainAnswer":
      explainer.answered(node, report.value);
      return;
    case "agentWanted": {
      const elsewhere = agents.wanted(node, report.value.resource);
      if (elsewhere !== null) later(options, node, elsewhere);
      return;
    }
    case "boundColumns":
      // Only gateways label columns; what does not find its way into the store is said again.
      if (node.certificate.role === "gateway") {
        const { value } = report;
        later(options, node, () => bindings.take(node.certificate, value));
      }
      return;
    case undefined:
      return; // a newer node's word: it knows that an older control plane does not understand it
    default:
      assertNever(report);
  }
}

function takeVerdict(options: ControlServiceOptions, node: ConnectedNode, verdict: SnapshotVerdict): void {
  const { sequence, version, accepted, fault } = verdict;
  const noReason = new GatewayError("internal", "The node gave no reason.");
  const rejected = accepted ? null : fault === undefined ? noReason : fromFault(fault);
  if (rejected !== null) {
    options.onRejected?.();
    options.log.warn({ node: node.key, sequence: Number(sequence), code: rejected.code }, "a node did not take a snapshot");
  }
  const stored = { sequence, version: version.replaceAll("\0", "").slice(0, VERSION_CHARS).toWellFormed(), fault: rejected };
  node.verdict = stored;
  storeVerdict(options, node);
}

/** A node says its verdict once on a stream: what could not be stored is tried again whenever the node is heard of. */
function storeVerdict(options: ControlServiceOptions, node: ConnectedNode): void {
  const { verdict } = node;
  if (verdict === undefined || verdict === node.verdictUnderWay) return;
  node.verdictUnderWay = verdict;
  const taken = later(options, node, async () => {
    try {
      await writeVerdict(options.db, node.certificate, verdict);
      if (node.verdict === verdict) node.verdict = undefined;
    } finally {
      if (node.verdictUnderWay === verdict) node.verdictUnderWay = undefined;
    }
  });
  if (!taken) node.verdictUnderWay = undefined;
}

function later({ log }: ControlServiceOptions, node: ConnectedNode, work: () => Promise<void>): boolean {
  const failed = (error: unknown): void => log.warn({ err: error, node: node.key }, "what a node said could not be stored");
  const taken = node.later(work, failed);
  if (!taken) log.warn({ node: node.key }, "a node says more than can be stored: some of it is left out");
  return taken;
}

const VERSION_CHARS = 64;
