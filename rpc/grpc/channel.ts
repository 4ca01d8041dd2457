/**
 * Calls other nodes. A channel keeps one connection to one peer and makes it again by itself; new calls use the newest certificate,
 * calls under way stay where they are. Must never send anything to a peer that is not who was dialled, and never repeat a call
 * that is not idempotent.
 */
import type { EventEmitter } from "node:events";
import type { DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import {
  type CallOptions,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientWritableStream,
  connectivityState,
  getClientChannel,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { Logger } from "pino";
import type { DuplexCall, GrpcChannel, PeerAddress } from "../grpc.ts";
import type { IdentityMaterial, NodeIdentity } from "../node-identity.ts";
import { type ConnectionProof, NodeConnector, nodeProof, type StrangerTrust, strangerProof } from "./connector.ts";
import { BoundedDuplex } from "./duplex.ts";
import { methodDefinition } from "./methods.ts";
import type { RpcLimits } from "./server.ts";
import { peersFault, toError, unreachable } from "./status.ts";

export interface DialOptions {
  readonly identity: NodeIdentity;
  readonly log: Logger;
  /** Bytes. */
  readonly messageBytesMax: number;
  readonly limits?: Partial<RpcLimits>;
}

/** Dials at the first call, not before. Close it when done. */
export function dialGrpc(peer: PeerAddress, options: DialOptions): GrpcChannel {
  const { identity } = options;
  return new NodeChannel(peer, options, {
    proof: nodeProof(identity, peer, Date.now),
    material: () => identity.material,
    onChange: (listener) => identity.onChange(listener),
  });
}

export interface EnrolmentDialOptions extends Omit<DialOptions, "identity"> {
  /** What is known of the installation: the fingerprint in the join token, or a file of authorities. */
  readonly trust: StrangerTrust;
  readonly nowMs: () => number;
}

/** Without a certificate of one's own, to a control plane: for enrolment alone. */
export function dialForEnrolment(address: string, options: EnrolmentDialOptions): GrpcChannel {
  const peer: PeerAddress = { address, role: "control-plane", name: "" };
  return new NodeChannel(peer, options, {
    proof: strangerProof(peer, options.trust, options.nowMs),
    material: () => null,
    onChange: () => () => undefined,
  });
}

/** Tries of an idempotent call, and what lies between them: doubled each time, half of it by chance. Milliseconds. */
const TRIES_MAX = 3;
const RETRY_MS = 100;
/** Between attempts to connect. */
const RECONNECT_MS_MIN = 100;
const RECONNECT_MS_MAX = 5_000;
/** What an HTTP/2 stream may have on its way; more than the protocol's 64 KiB, so that a snapshot is not one round trip each 64 KiB. */
const FLOW_WINDOW_BYTES = 1024 * 1024;

/** What proves this side; null material: it never changes. */
interface Credential {
  readonly proof: ConnectionProof;
  readonly material: () => IdentityMaterial | null;
  readonly onChange: (listener: () => void) => () => void;
}

/** One grpc-js client with the certificate that it was made for. */
interface Line {
  readonly client: Client;
  readonly connector: NodeConnector;
  readonly material: IdentityMaterial | null;
  calls: number;
  retired: boolean;
}

class NodeChannel implements GrpcChannel {
  readonly #peer: PeerAddress;
  readonly #options: Omit<DialOptions, "identity">;
  readonly #credential: Credential;
  readonly #limits: RpcLimits;
  readonly #lines = new Set<Line>();
  readonly #stopFollowing: () => void;
  #current: Line | undefined;
  #closed = false;

  constructor(peer: PeerAddress, options: Omit<DialOptions, "identity">, credential: Credential) {
    this.#peer = peer;
    this.#options = options;
    this.#credential = credential;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#stopFollowing = credential.onChange(() => this.#follow());
  }

  async unary<Method extends DescMethod>(
    method: Method,
    request: MessageInitShape<Method["input"]>,
    options: { readonly deadlineMs: number; readonly idempotent?: boolean; readonly signal?: AbortSignal },
  ): Promise<MessageShape<Method["output"]>> {
    const deadline = Date.now() + options.deadlineMs;
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#tryUnary(method, request, deadline, options.signal);
      if (outcome.kind === "answer") return outcome.answer;
      const pauseMs = RETRY_MS * 2 ** (attempt - 1) * (0.5 + Math.random() / 2);
      const again = options.idempotent === true && outcome.transient && attempt < TRIES_MAX && Date.now() + pauseMs < deadline;
      if (!again || options.signal?.aborted === true || this.#closed) throw outcome.error;
      await pause(pauseMs, options.signal);
    }
  }

  async *serverStream<Method extends DescMethod>(
    method: Method,
    request: MessageInitShape<Method["input"]>,
    options: { readonly signal: AbortSignal },
  ): AsyncGenerator<MessageShape<Method["output"]>, void, undefined> {
    const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
    const started = this.#start(options.signal, null, (line, callOptions) =>
      line.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, new Metadata(), callOptions),
    );
    yield* this.#receive<Method>(started, options.signal);
  }

  async clientStream<Method extends DescMethod>(
    method: Method,
    requests: AsyncIterable<MessageInitShape<Method["input"]>>,
    options: { readonly deadlineMs: number; readonly signal?: AbortSignal },
  ): Promise<MessageShape<Method["output"]>> {
    const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
    const signal = options.signal ?? new AbortController().signal;
    let answered: (error: ServiceError | null, value?: unknown) => void = () => undefined;
    const answer = new Promise<unknown>((resolve, reject) => {
      answered = (error, value) => (error === null ? resolve(value) : reject(error));
    });
    const started = this.#start(signal, Date.now() + options.deadlineMs, (line, callOptions) =>
      line.client.makeClientStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        new Metadata(),
        callOptions,
        (error, value) => answered(error, value),
      ),
    );
    try {
      const sent = sendAll(started.call, requests, answer);
      // The method's own output: responseDeserialize made it.
      const value = (await answer) as MessageShape<Method["output"]>;
      await sent;
      return value;
    } catch (error) {
      throw this.#explain(error, started.line, signal);
    } finally {
      started.finish();
    }
  }

  duplex<Method extends DescMethod>(method: Method, options: { readonly signal: AbortSignal }): DuplexCall<Method> {
    const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
    const started = this.#start(options.signal, null, (line, callOptions) =>
      line.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata(), callOptions),
    );
    return new BoundedDuplex<Method>(started.call, method, this.#limits, this.#receive<Method>(started, options.signal));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopFollowing();
    for (const line of this.#lines) {
      line.client.close();
      line.connector.destroyAll();
    }
    this.#lines.clear();
  }

  #tryUnary<Method extends DescMethod>(
    method: Method,
    request: MessageInitShape<Method["input"]>,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<
    | { readonly kind: "answer"; readonly answer: MessageShape<Method["output"]> }
    | { readonly kind: "failed"; readonly error: GatewayError; readonly transient: boolean }
  > {
    const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
    return new Promise((resolve) => {
      const line = this.#line();
      line.calls += 1;
      const call = line.client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        new Metadata(),
        { deadline },
        (error, value) => {
          signal?.removeEventListener("abort", cancel);
          this.#release(line);
          if (error === null) {
            // The method's own output: responseDeserialize made it.
            resolve({ kind: "answer", answer: value as MessageShape<Method["output"]> });
            return;
          }
          // Only what no handler answered: a peer's own word is final.
          const transient = error.code === status.UNAVAILABLE && peersFault(error) === null && line.connector.lastFault === null;
          resolve({ kind: "failed", error: this.#explain(error, line, signal), transient });
        },
      );
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
      if (signal?.aborted === true) cancel();
    });
  }

  /** Begins a stream: it is given up when its signal says so, and when there is no connection within the time for that. */
  #start<Call extends ClientReadableStream<unknown> | ClientWritableStream<unknown> | ClientDuplexStream<unknown, unknown>>(
    signal: AbortSignal,
    deadline: number | null,
    make: (line: Line, options: CallOptions) => Call,
  ): StartedCall<Call> {
    const line = this.#line();
    line.calls += 1;
    const call = make(line, deadline === null ? {} : { deadline });
    const cancel = (): void => call.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    if (signal.aborted) cancel();
    const timer = setTimeout(() => {
      if (getClientChannel(line.client).getConnectivityState(false) === connectivityState.READY) return;
      line.connector.destroyAll();
      call.cancel();
    }, this.#limits.nodeConnectTimeoutMs);
    timer.unref();
    let finished = false;
    const finish = (): void => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", cancel);
      this.#release(line);
    };
    const started: StartedCall<Call> = { call, line, finish, error: null };
    // Kept: whoever begins to read after the end would see a stream that ended well.
    (call as EventEmitter).on("error", (error: unknown) => {
      started.error = error;
    });
    (call as EventEmitter).on("status", finish);
    return started;
  }

  async *#receive<Method extends DescMethod>(
    started: StartedCall<ClientReadableStream<unknown> | ClientDuplexStream<unknown, unknown>>,
    signal: AbortSignal,
  ): AsyncGenerator<MessageShape<Method["output"]>, void, undefined> {
    const { call, line, finish } = started;
    let ended = false;
    try {
      for await (const message of call.iterator({ destroyOnReturn: false })) {
        // The method's own output: responseDeserialize made it.
        yield message as MessageShape<Method["output"]>;
      }
      ended = true;
      if (started.error !== null) throw started.error;
    } catch (error) {
      ended = true;
      throw this.#explain(error, line, signal);
    } finally {
      // Whoever stops reading does not want the rest.
      if (!ended) call.cancel();
      finish();
    }
  }

  #explain(error: unknown, line: Line, signal: AbortSignal | undefined): GatewayError {
    const whom = describe(this.#peer);
    if (signal?.aborted === true)
      return new GatewayError("node_unreachable", `The call to ${whom} was given up.`, { cause: error });
    if (!isServiceError(error)) return error instanceof GatewayError ? error : unreachable(whom, error);
    // Why there is no connection is known better here than to grpc-js.
    const fault = line.connector.lastFault;
    return error.code === status.UNAVAILABLE && fault !== null && peersFault(error) === null ? fault : toError(error, whom);
  }

  #line(): Line {
    if (this.#closed) throw new GatewayError("node_unreachable", `The channel to ${describe(this.#peer)} is closed.`);
    if (this.#current !== undefined) return this.#current;
    const connector = new NodeConnector(this.#peer, this.#credential.proof, this.#limits.nodeConnectTimeoutMs);
    const client = new Client(targetOf(this.#peer.address), connector, this.#channelOptions());
    this.#current = { client, connector, material: this.#credential.material(), calls: 0, retired: false };
    this.#lines.add(this.#current);
    return this.#current;
  }

  #channelOptions(): ChannelOptions {
    const { messageBytesMax } = this.#options;
    return {
      "grpc.max_receive_message_length": messageBytesMax,
      "grpc.max_send_message_length": messageBytesMax,
      "grpc.keepalive_time_ms": this.#limits.nodeKeepaliveMs,
      "grpc.keepalive_timeout_ms": this.#limits.nodeKeepaliveTimeoutMs,
      "grpc.keepalive_permit_without_calls": 1,
      "grpc.initial_reconnect_backoff_ms": RECONNECT_MS_MIN,
      "grpc.max_reconnect_backoff_ms": RECONNECT_MS_MAX,
      "grpc-node.flow_control_window": FLOW_WINDOW_BYTES,
      "grpc.enable_retries": 0,
      "grpc.enable_channelz": 0,
      // Nodes are reached directly or not at all, whatever the environment says of proxies.
      "grpc.enable_http_proxy": 0,
      "grpc.service_config_disable_resolution": 1,
      "grpc.dns_min_time_between_resolutions_ms": RECONNECT_MS_MAX,
      "grpc.use_local_subchannel_pool": 1,
    };
  }

  /** New material: new calls go over a new connection, the former one goes when its calls have. New trust: peers are looked at again. */
  #follow(): void {
    for (const line of this.#lines) line.connector.recheck();
    const line = this.#current;
    if (line === undefined) return;
    const material = this.#credential.material();
    const { certificateChain, privateKey } = line.material ?? {};
    if (material?.certificateChain === certificateChain && material?.privateKey === privateKey) return;
    this.#current = undefined;
    line.retired = true;
    this.#closeIfDone(line);
  }

  #release(line: Line): void {
    line.calls -= 1;
    this.#closeIfDone(line);
  }

  #closeIfDone(line: Line): void {
    if (!line.retired || line.calls > 0 || !this.#lines.delete(line)) return;
    line.client.close();
  }
}

interface StartedCall<Call> {
  readonly call: Call;
  readonly line: Line;
  /** Call when nothing more comes; any number of times. */
  readonly finish: () => void;
  error: unknown;
}

/** Writes at the pace of the peer; stops when the answer is there before everything was sent. */
async function sendAll(
  call: { write(message: unknown): boolean; end(): void; cancel(): void; once(event: "drain", listener: () => void): unknown },
  requests: AsyncIterable<unknown>,
  answer: Promise<unknown>,
): Promise<void> {
  let answered = false;
  let wake = (): void => undefined;
  const settled = (): void => {
    answered = true;
    wake();
  };
  answer.then(settled, settled);
  try {
    for await (const request of requests) {
      if (answered) return;
      if (call.write(request)) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
        call.once("drain", resolve);
        if (answered) resolve();
      });
    }
    if (!answered) call.end();
  } catch (error) {
    call.cancel();
    throw error;
  }
}

/** grpc-js takes several addresses in a target; ours is one, and never looked up as anything but a host. */
function targetOf(address: string): string {
  return `dns:${address}`;
}

function describe({ address, role, name }: PeerAddress): string {
  return role === "control-plane" ? `the control plane at ${address}` : `the ${role} ${name} at ${address}`;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
