/**
 * The stream to one control plane: hello, welcome, then reports and instructions until it ends; then again, after a pause that
 * grows. A stream on which nothing came for three heartbeats is dead. Instructions that only newer control planes know are
 * ignored with a warning.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import {
  type Explain,
  NodeControlService,
  type WatchRequestSchema,
  type WatchResponse,
  type Welcome,
} from "@sluice/proto/sluice/control/v1/control_pb.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { agreeOn } from "../capabilities.ts";
import type { ControlHandlers } from "../control-link.ts";
import { toFault } from "../fault.ts";
import { dialGrpc } from "../grpc/channel.ts";
import type { DuplexCall, GrpcChannel } from "../grpc.ts";
import { checkClock, type IdentityLimits } from "../identity/enrol.ts";
import type { NodeIdentity } from "../node-identity.ts";
import type { DirectoryNode } from "../nodes.ts";
import { trustFromProto } from "../trust.ts";
import { directoryFromProto, helloToProto, signedBytes, statusToProto } from "./messages.ts";

export type Report = Exclude<NonNullable<MessageInitShape<typeof WatchRequestSchema>["report"]>, { case: undefined }>;

export interface ReplicaStreamOptions {
  readonly address: string;
  readonly identity: NodeIdentity;
  readonly handlers: ControlHandlers;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly limits: IdentityLimits;
  readonly own: { readonly capability: number; readonly softwareVersion: string; readonly startedAtMs: number };
  readonly directory: (nodes: readonly DirectoryNode[]) => void;
  readonly welcomed: (stream: ReplicaStream) => void;
}

type Watch = typeof NodeControlService.method.watch;
type Instruction = WatchResponse["instruction"];

/** Between attempts, doubled each time until a welcome. Milliseconds. */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;
/** After an answer that another try will hardly change: an upgrade, a new certificate. */
const SLOW_RETRY_MS = 30_000;
/** When the control plane says nothing of its heartbeat. */
const HEARTBEAT_MS = 5_000;
const HEARTBEATS_MISSED_MAX = 3;
/** A stream that lived this long was a good one: the next attempt comes soon. Milliseconds. */
const LIVED_MS = 1_000;
/** How long a control plane may take to end its half of a stream that this node has ended. Milliseconds. */
const GOODBYE_MS = 500;
/** Explanations under way on one stream. They are for people at a terminal. */
const EXPLAINS_MAX = 16;
/** A renewed certificate is taken into use within this time, by chance, so that not all nodes and replicas do it at once. */
const RENEWED_MS_MAX = 5_000;

export class ReplicaStream {
  readonly #options: ReplicaStreamOptions;
  readonly #channel: GrpcChannel;
  readonly #running: Promise<void>;
  readonly #stopFollowing: () => void;
  #certificate: string;
  #closed = false;
  #welcomed = false;
  #call: DuplexCall<Watch> | undefined;
  #attempt = new AbortController();
  #wake: () => void = () => undefined;
  #lastCode = "";
  #explains = 0;
  #renewed: NodeJS.Timeout | undefined;

  constructor(options: ReplicaStreamOptions) {
    this.#options = options;
    const { address, identity, log, limits } = options;
    const peer = { address, role: "control-plane", name: "" } as const;
    this.#channel = dialGrpc(peer, { identity, log, messageBytesMax: limits.nodeMessageBytesMax, limits });
    this.#certificate = identity.material.certificateChain;
    this.#stopFollowing = identity.onChange(() => this.#follow());
    this.#running = this.#run();
  }

  /** Welcomed and heard of. */
  get connected(): boolean {
    return this.#welcomed;
  }

  /** A replica that does not take what it is sent is as good as gone: the stream ends and is made again. */
  send(report: Report): void {
    if (this.#call === undefined || this.#call.send({ report })) return;
    this.#attempt.abort(new GatewayError("node_unreachable", "The control plane does not take what it is sent."));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stopFollowing();
    clearTimeout(this.#renewed);
    // An orderly end first: the control plane sees that the node left, rather than that it vanished.
    this.#call?.end();
    this.#wake();
    const cut = setTimeout(() => this.#attempt.abort(new GatewayError("draining", "This node is shutting down.")), GOODBYE_MS);
    if (!this.#welcomed) this.#attempt.abort();
    await this.#running;
    this.#welcomed = false;
    clearTimeout(cut);
    this.#channel.close();
  }

  async #run(): Promise<void> {
    let retryMs = RETRY_MS_MIN;
    while (!this.#closed) {
      const startedMs = this.#options.clock.monotonicMs();
      const fault = await this.#watch();
      if (this.#closed) return;
      if (this.#welcomed && this.#options.clock.monotonicMs() - startedMs >= LIVED_MS) retryMs = RETRY_MS_MIN;
      this.#welcomed = false;
      this.#note(fault);
      const slow = fault.code === "incompatible" || fault.code === "unauthorized";
      await this.#pause((slow ? SLOW_RETRY_MS : retryMs) * (0.5 + this.#chance() / 2));
      retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
    }
  }

  /** One stream from hello to its end; resolves with why it ended. */
  async #watch(): Promise<GatewayError> {
    const { handlers, own, limits } = this.#options;
    const attempt = new AbortController();
    this.#attempt = attempt;
    // Before the welcome as long as a connection may take, afterwards as the control plane says.
    const silence = new Silence(limits.nodeConnectTimeoutMs + limits.nodeKeepaliveTimeoutMs, () =>
      attempt.abort(new GatewayError("node_unreachable", "The control plane was not heard of for too long.")),
    );
    let beat: NodeJS.Timeout | undefined;
    try {
      const call = this.#channel.duplex(NodeControlService.method.watch, { signal: attempt.signal });
      this.#call = call;
      call.send({ report: { case: "hello", value: helloToProto(handlers.hello(), own) } });
      for await (const { instruction } of call.received) {
        silence.heard();
        if (instruction.case !== "welcome") {
          this.#take(instruction);
          continue;
        }
        const heartbeatMs = Number(instruction.value.heartbeatMs) || HEARTBEAT_MS;
        this.#welcome(instruction.value);
        silence.allow(heartbeatMs * HEARTBEATS_MISSED_MAX);
        clearInterval(beat);
        beat = setInterval(() => this.#sendStatus(), heartbeatMs);
      }
      return new GatewayError("node_unreachable", "The control plane ended the stream.");
    } catch (error) {
      return attempt.signal.aborted ? toGatewayError(attempt.signal.reason) : toGatewayError(error);
    } finally {
      silence.stop();
      clearInterval(beat);
      this.#call = undefined;
      attempt.abort();
    }
  }

  #welcome(welcome: Welcome): void {
    const { address, own, handlers, clock, limits, log } = this.#options;
    agreeOn(welcome, own.capability);
    const nowMs = Number(welcome.nowMs);
    try {
      checkClock(clock.nowMs() - nowMs, limits.nodeClockToleranceMs);
    } catch (error) {
      log.error({ err: error, controlPlane: address }, "the clocks differ");
    }
    this.#welcomed = true;
    this.#lastCode = "";
    log.info({ controlPlane: address, capability: welcome.capability }, "connected to the control plane");
    this.#guarded("welcome", () => handlers.welcomed?.({ slot: welcome.slot, nowMs }));
    this.#sendStatus();
    this.#options.welcomed(this);
  }

  #take(instruction: Instruction): void {
    const { handlers, identity, log, address } = this.#options;
    if (!this.#welcomed) throw new GatewayError("protocol_violation", "The control plane sent instructions before its welcome.");
    this.#guarded(instruction.case ?? "an instruction", () => {
      switch (instruction.case) {
        case "snapshot":
          handlers.snapshot?.(signedBytes(instruction.value));
          return;
        case "heartbeat":
          handlers.heartbeat?.(instruction.value.snapshotSequence);
          return;
        case "trust":
          identity.trust(trustFromProto(instruction.value));
          return;
        case "directory":
          this.#options.directory(directoryFromProto(instruction.value));
          return;
        case "endSessions": {
          const { commandId, sessionId, reason } = instruction.value;
          handlers.endSessions?.({ commandId, sessionId, reason });
          return;
        }
        case "explain":
          void this.#explain(instruction.value);
          return;
        case "dialGateway":
          handlers.dialGateway?.(instruction.value.gateway);
          return;
        default:
          // Not assertNever: a newer control plane may say what this node does not know, and goes on without it.
          log.warn({ controlPlane: address }, "the control plane gave an instruction that this version does not know: ignored");
      }
    });
  }

  async #explain({ requestId, request }: Explain): Promise<void> {
    const { handlers } = this.#options;
    const call = this.#call;
    let outcome: NonNullable<MessageInitShape<typeof WatchRequestSchema>["report"]>;
    const busy = this.#explains >= EXPLAINS_MAX;
    this.#explains += 1;
    try {
      if (busy)
        throw new GatewayError("analysis_unavailable", "Too many explanations are under way.", {
          hint: "Try again in a moment.",
        });
      if (handlers.explain === undefined) throw new GatewayError("unsupported", "This node explains no decisions: gateways do.");
      const decision = await handlers.explain(request);
      outcome = { case: "explainAnswer", value: { requestId, outcome: { case: "decision", value: decision } } };
    } catch (error) {
      outcome = { case: "explainAnswer", value: { requestId, outcome: { case: "fault", value: toFault(error) } } };
    } finally {
      this.#explains -= 1;
    }
    // To whoever asked; when that stream has ended, nobody waits.
    call?.send({ report: outcome });
  }

  #sendStatus(): void {
    const { handlers, identity } = this.#options;
    this.#guarded("status", () => this.send({ case: "status", value: statusToProto(handlers.status(), identity.self) }));
  }

  #guarded(what: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#options.log.error({ err: error, instruction: what }, "an instruction of the control plane could not be followed");
    }
  }

  /** Each reason once, until there was a welcome or another reason: a control plane that is away must not fill the log. */
  #note(fault: GatewayError): void {
    const { address, log } = this.#options;
    if (fault.code === this.#lastCode) return;
    this.#lastCode = fault.code;
    log.warn(
      { controlPlane: address, code: fault.code, reason: fault.message, hint: fault.hint },
      "not connected to the control plane",
    );
  }

  /** A renewed certificate is used for a new stream; one that was not accepted may be now. */
  #follow(): void {
    const { certificateChain } = this.#options.identity.material;
    if (certificateChain === this.#certificate) return;
    this.#certificate = certificateChain;
    if (!this.#welcomed) {
      this.#wake();
      return;
    }
    clearTimeout(this.#renewed);
    this.#renewed = setTimeout(() => {
      this.#attempt.abort(new GatewayError("draining", "The certificate was renewed: the stream is made again."));
    }, RENEWED_MS_MAX * this.#chance());
    this.#renewed.unref();
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#closed) this.#wake();
    });
    this.#wake = () => undefined;
  }

  /** 0 to 1. */
  #chance(): number {
    return (this.#options.random.bytes(1)[0] ?? 0) / 256;
  }
}

/** Calls back once when nothing was heard for a time. */
class Silence {
  #timer: NodeJS.Timeout;
  readonly #over: () => void;

  constructor(ms: number, over: () => void) {
    this.#over = over;
    this.#timer = setTimeout(over, ms);
  }

  heard(): void {
    this.#timer.refresh();
  }

  allow(ms: number): void {
    this.stop();
    this.#timer = setTimeout(this.#over, ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
