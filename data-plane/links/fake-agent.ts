/**
 * For tests and benchmarks alone: an agent that speaks the protocol over real connections and reaches no database. What it answers
 * to an open is up to the test; unless told otherwise the target is an echo.
 */
import { connect, type TLSSocket } from "node:tls";
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { zstdCompressSync } from "node:zlib";
import type { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import {
  AgentLinkService,
  type LinkHealthSchema,
  type LinkRequestSchema,
  type LinkResponse,
  type LinkWelcome,
  type Open,
  type ReadCatalog,
  SessionAnswerSchema,
  SessionBindingSchema,
} from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import type { DuplexCall, GrpcChannel } from "@sluice/rpc/grpc.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { serverNameOf } from "@sluice/rpc/nodes.ts";
import { encodeSessionFrame, SessionFrameDecoder } from "@sluice/rpc/session-frames.ts";
import { EXPORTER_BYTES, EXPORTER_LABEL, isTicketProof, SESSION_ALPN } from "@sluice/rpc/ticket.ts";
import type { Logger } from "pino";

export type OpenOutcome = { readonly parameters: readonly (readonly [string, string])[] } | "silent" | "close" | Fault;
type Fault = MessageInitShape<typeof FaultSchema> & { readonly code: string };

export interface FakeAgentOptions {
  readonly identity: NodeIdentity;
  readonly gateway: { readonly name: string; readonly control: string };
  readonly capability?: number;
  readonly sequence?: bigint;
  readonly log: Logger;
  /** What becomes of an open whose ticket was good. */
  readonly onOpen?: (open: Open, agent: FakeAgent) => OpenOutcome | Promise<OpenOutcome>;
  /** Gets the connection once it was answered; echoes when absent. */
  readonly serve?: (socket: TLSSocket, open: Open) => void;
  /** JSON to send for a catalog, or a fault; nothing is sent for null. */
  readonly onReadCatalog?: (request: ReadCatalog) => string | Fault | null;
  readonly onCancel?: (openId: bigint) => Fault | "silent" | undefined;
  /** Warm connections whatever the gateway wishes. */
  readonly warm?: number;
}

/** How long a binding waits for its announcement. */
const ANNOUNCEMENT_MS = 2_000;

export class FakeAgent {
  readonly opens: Open[] = [];
  readonly released: bigint[] = [];
  readonly cancelled: bigint[] = [];
  /** What was refused, and why. */
  readonly refused: string[] = [];
  readonly keepWarm: number[] = [];
  /** All connections that stand. */
  readonly connections: Set<TLSSocket> = new Set();
  /** Of the session with this open id, once bound. */
  readonly sessions: Map<bigint, TLSSocket> = new Map();
  /** Resolves when the link has ended. */
  readonly ended: Promise<void>;
  readonly #options: FakeAgentOptions;
  readonly #channel: GrpcChannel;
  readonly #call: DuplexCall<typeof AgentLinkService.method.link>;
  readonly #stop = new AbortController();
  readonly #announced = new Map<bigint, PromiseWithResolvers<Open>>();
  readonly #idle = new Set<TLSSocket>();
  #dialing = 0;
  #wanted = 0;
  #welcome: LinkWelcome | undefined;

  /** Resolves when it is welcomed and its connections stand. */
  static async link(options: FakeAgentOptions): Promise<FakeAgent> {
    const agent = new FakeAgent(options);
    await agent.#welcomed;
    await Promise.all(Array.from({ length: agent.#wanted - agent.#idle.size - agent.#dialing }, () => agent.dial()));
    return agent;
  }

  readonly #welcomed: Promise<void>;

  private constructor(options: FakeAgentOptions) {
    const { identity, gateway, log, capability = 2, sequence = 1n } = options;
    this.#options = options;
    const peer = { address: gateway.control, role: "gateway", name: gateway.name } as const;
    this.#channel = dialGrpc(peer, { identity, log, messageBytesMax: 1024 * 1024 });
    this.#call = this.#channel.duplex(AgentLinkService.method.link, { signal: this.#stop.signal });
    this.#send({ case: "hello", value: { capability, capabilityMin: 1, region: "here", snapshotSequence: sequence } });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#welcomed = promise;
    this.ended = this.#listen(resolve).then(() => reject(new Error("the link ended before the welcome")), reject);
    promise.catch(() => undefined);
  }

  get welcome(): LinkWelcome | undefined {
    return this.#welcome;
  }

  get idle(): ReadonlySet<TLSSocket> {
    return this.#idle;
  }

  health(health: MessageInitShape<typeof LinkHealthSchema>): void {
    this.#send({ case: "health", value: health });
  }

  /** One more connection, idle. Rejects when the gateway does not take it. */
  async dial(): Promise<TLSSocket> {
    this.#dialing += 1;
    try {
      const socket = await dialSession(this.#options.identity, this.#options.gateway.name, this.#welcome?.sessionsAddress ?? "");
      this.#idle.add(socket);
      this.connections.add(socket);
      socket.once("close", () => {
        this.#idle.delete(socket);
        this.connections.delete(socket);
        this.#refill();
      });
      this.#await(socket);
      return socket;
    } finally {
      this.#dialing -= 1;
    }
  }

  /** As a process that dies: everything breaks at once. */
  kill(): void {
    this.#stop.abort();
    for (const socket of this.connections) socket.destroy();
    this.#channel.close();
  }

  /** Ends the control stream; sessions go on. */
  unlink(): void {
    this.#wanted = 0;
    this.#stop.abort();
    this.#channel.close();
  }

  #send(message: NonNullable<MessageInitShape<typeof LinkRequestSchema>["message"]>): void {
    this.#call.send({ message });
  }

  async #listen(welcomed: () => void): Promise<void> {
    for await (const { message } of this.#call.received) {
      if (message.case === "welcome") {
        this.#welcome = message.value;
        this.#wanted = this.#options.warm ?? message.value.keepWarm;
        welcomed();
      } else this.#obey(message);
    }
  }

  #obey(message: LinkResponse["message"]): void {
    switch (message.case) {
      case "open":
        this.opens.push(message.value);
        this.#announcement(message.value.openId).resolve(message.value);
        break;
      case "cancel": {
        const { openId, cancelId } = message.value;
        this.cancelled.push(openId);
        const fault = this.#options.onCancel?.(openId);
        if (fault === "silent") break;
        this.#send({ case: "cancelDone", value: fault === undefined ? { cancelId } : { cancelId, fault } });
        break;
      }
      case "release":
        this.released.push(message.value.openId);
        break;
      case "readCatalog":
        void this.#sendCatalog(message.value);
        break;
      case "keepWarm":
        this.keepWarm.push(message.value.connections);
        this.#wanted = this.#options.warm ?? message.value.connections;
        this.#refill();
        break;
      default:
        break;
    }
  }

  async #sendCatalog(request: ReadCatalog): Promise<void> {
    const answer = this.#options.onReadCatalog?.(request) ?? null;
    if (answer === null) return;
    const { requestId } = request;
    if (typeof answer !== "string") {
      this.#send({ case: "catalogFailed", value: { requestId, fault: answer } });
      return;
    }
    const bytes = zstdCompressSync(answer);
    const half = Math.ceil(bytes.length / 2);
    const pieces = [bytes.subarray(0, half), bytes.subarray(half)];
    await this.#channel
      .clientStream(
        AgentLinkService.method.sendCatalog,
        (async function* () {
          for (const [at, piece] of pieces.entries()) yield { requestId, piece, last: at === pieces.length - 1 };
        })(),
        { deadlineMs: 5_000 },
      )
      .catch((error: unknown) => void this.refused.push(String(error)));
  }

  #refill(): void {
    if (this.#stop.signal.aborted) return;
    for (let missing = this.#wanted - this.#idle.size - this.#dialing; missing > 0; missing -= 1)
      this.dial().catch((error: unknown) => void this.refused.push(String(error)));
  }

  #announcement(openId: bigint): PromiseWithResolvers<Open> {
    const known = this.#announced.get(openId) ?? Promise.withResolvers<Open>();
    this.#announced.set(openId, known);
    return known;
  }

  #await(socket: TLSSocket): void {
    const decoder = new SessionFrameDecoder(SessionBindingSchema);
    const receive = (chunk: Buffer): void => {
      const decoded = decoder.push(chunk);
      if (decoded === undefined) return;
      socket.pause();
      socket.off("data", receive);
      if (decoded.rest.length > 0) socket.unshift(decoded.rest);
      this.#idle.delete(socket);
      this.#refill();
      this.#bound(socket, decoded.value).catch((error: unknown) => {
        this.refused.push(String(error));
        socket.destroy();
      });
    };
    socket.on("data", receive);
  }

  async #bound(socket: TLSSocket, { openId, proof }: MessageShape<typeof SessionBindingSchema>): Promise<void> {
    const timer = setTimeout(
      () => this.#announcement(openId).reject(new Error("a binding without an announcement")),
      ANNOUNCEMENT_MS,
    );
    const open = await this.#announcement(openId).promise.finally(() => clearTimeout(timer));
    const { sessionId, resource, database, account } = open;
    const { identity, gateway } = this.#options;
    const claims = { agent: identity.self.name, gateway: gateway.name, sessionId, resource, database, account, openId };
    if (!isTicketProof(proof, open.ticket, exporterOf(socket), claims)) throw new Error("the proof is not one");
    const outcome = (await this.#options.onOpen?.(open, this)) ?? { parameters: [["server_version", "17.0"]] as const };
    if (outcome === "silent") return;
    if (outcome === "close") {
      socket.destroy();
      return;
    }
    if ("code" in outcome) {
      socket.end(encodeSessionFrame(SessionAnswerSchema, { outcome: { case: "fault", value: outcome } }));
      return;
    }
    this.sessions.set(openId, socket);
    const parameters = outcome.parameters.map(([name, value]) => ({ name, value }));
    socket.write(encodeSessionFrame(SessionAnswerSchema, { outcome: { case: "opened", value: { parameters } } }));
    if (this.#options.serve === undefined) socket.pipe(socket);
    else this.#options.serve(socket, open);
  }
}

/** A session connection as an agent dials it; resolves when TLS stands and the gateway has not closed it at once. */
export function dialSession(
  { material }: Pick<NodeIdentity, "material">,
  gateway: string,
  address: string,
  alpn: string = SESSION_ALPN,
): Promise<TLSSocket> {
  const at = address.lastIndexOf(":");
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const socket = connect({
    host: address.slice(0, at),
    port: Number(address.slice(at + 1)),
    servername: serverNameOf("gateway", gateway),
    cert: material.certificateChain,
    key: material.privateKey,
    ca: material.authorities,
    minVersion: "TLSv1.3",
    ALPNProtocols: [alpn],
  });
  socket.setNoDelay(true);
  socket.once("secureConnect", () => resolve(socket));
  socket.on("error", reject);
  return promise;
}

export function exporterOf(socket: TLSSocket): Buffer {
  return socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.alloc(0));
}
