/** For tests alone: a gateway that speaks the protocol over real connections, and breaks it where a test says so. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { create, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import {
  AgentLinkService,
  type LinkRequest,
  type LinkResponseSchema,
  type Open,
  SessionAnswerSchema,
  SessionBindingSchema,
} from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { GrpcServer } from "@sluice/rpc/grpc.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import { encodeSessionFrame, SessionFrameDecoder } from "@sluice/rpc/session-frames.ts";
import { SESSION_ALPN, ticketProof } from "@sluice/rpc/ticket.ts";
import { type Logger, pino } from "pino";
import { exporterOf } from "./session-dialer.ts";

export const silent: Logger = pino({ level: "silent" });
type Instruction = NonNullable<MessageInitShape<typeof LinkResponseSchema>["message"]>;

export interface FakeGatewayOptions {
  readonly identity: NodeIdentity;
  readonly keepWarm?: number;
  readonly capability?: number;
  /** What the certificate on session connections says; the same as on the control port when absent. */
  readonly sessionsIdentity?: NodeIdentity;
}

export interface OpenWish extends Partial<Omit<Open, "$typeName">> {
  /** Where the binding is written; an idle connection when absent. */
  readonly connection?: TLSSocket;
  /** Over whose exporter the proof is made; the connection's own when absent. */
  readonly provenOn?: TLSSocket;
  /** Nothing is announced on the control stream. */
  readonly unannounced?: boolean;
  readonly proof?: Uint8Array;
}

export interface FakeOpen {
  readonly openId: bigint;
  readonly ticket: Uint8Array;
  readonly socket: TLSSocket;
  /** What the agent answered, and the bytes behind it; null when it closed without a word. */
  readonly answer: Promise<{ readonly value: MessageShape<typeof SessionAnswerSchema>; readonly rest: Buffer } | null>;
}

export class FakeGateway {
  /** All that the agent said on its control streams. */
  readonly said: LinkRequest["message"][] = [];
  readonly catalogs: Buffer[] = [];
  readonly idle: TLSSocket[] = [];
  readonly connections: Set<TLSSocket> = new Set<TLSSocket>();
  /** The TCP connection below each, by the agent's port. */
  readonly #below = new Map<number, Socket>();
  agent = "";
  links = 0;
  readonly #options: FakeGatewayOptions;
  readonly #server: GrpcServer;
  readonly #tls: Server;
  readonly #streams = new Set<{ push: (message: Instruction) => void; end: () => void }>();
  #lastId = 0n;

  static async start(options: FakeGatewayOptions): Promise<FakeGateway> {
    const tls = createServer({
      ...contextOf(options.sessionsIdentity ?? options.identity),
      requestCert: true,
      ALPNProtocols: [SESSION_ALPN],
      minVersion: "TLSv1.3",
    });
    tls.listen(0, "127.0.0.1");
    await once(tls, "listening");
    let gateway: FakeGateway | undefined;
    const server = await serveGrpc({
      identity: options.identity,
      listen: { host: "127.0.0.1", port: 0 },
      messageBytesMax: 1024 * 1024,
      log: silent,
      services: [
        implement(
          AgentLinkService,
          {
            link: (requests, context) => gateway!.#link(requests, context.peer?.name ?? "", context.signal),
            sendCatalog: async (requests) => {
              const pieces: Uint8Array[] = [];
              for await (const { piece } of requests) pieces.push(piece);
              gateway!.catalogs.push(Buffer.concat(pieces));
              return {};
            },
          },
          ["agent"],
        ),
      ],
    });
    gateway = new FakeGateway(options, server, tls);
    return gateway;
  }

  private constructor(options: FakeGatewayOptions, server: GrpcServer, tls: Server) {
    this.#options = options;
    this.#server = server;
    this.#tls = tls;
    tls.on("connection", (socket: Socket) => void this.#below.set(socket.remotePort ?? 0, socket));
    tls.on("secureConnection", (socket: TLSSocket) => {
      socket.on("error", () => undefined);
      this.idle.push(socket);
      this.connections.add(socket);
      socket.once("close", () => {
        this.connections.delete(socket);
        if (this.idle.includes(socket)) this.idle.splice(this.idle.indexOf(socket), 1);
      });
    });
  }

  get name(): string {
    return this.#options.identity.self.name;
  }

  /** As the control plane would tell of it. */
  node(changes: Partial<DirectoryNode> = {}): DirectoryNode {
    const { name, labels } = this.#options.identity.self;
    const { port } = this.#tls.address() as { port: number }; // a TCP server has one
    const addresses = { control: this.#server.address, sessions: `127.0.0.1:${port}`, callers: {} };
    return { role: "gateway", name, region: "", addresses, labels, slot: 1, capability: 2, draining: false, ...changes };
  }

  send(message: Instruction): void {
    for (const stream of this.#streams) stream.push(message);
  }

  /** Announces and binds, right or wrong. */
  open(wish: OpenWish = {}): FakeOpen {
    const { connection, provenOn, unannounced, proof, ...changes } = wish;
    const socket = connection ?? this.idle[0];
    if (socket === undefined) throw new Error("the agent keeps no idle connection");
    if (this.idle.includes(socket)) this.idle.splice(this.idle.indexOf(socket), 1);
    this.#lastId += 1n;
    const open = {
      openId: this.#lastId,
      ticket: new Uint8Array(randomBytes(32)),
      sessionId: "s_AAAAAAAAAAAAAAAAAAAAAA",
      resource: "orders",
      database: "shop",
      account: "readWrite",
      startup: {},
      ...changes,
    };
    if (unannounced !== true) this.send({ case: "open", value: open });
    const claims = { ...open, agent: this.agent, gateway: this.name };
    const answer = answerOn(socket);
    socket.write(
      encodeSessionFrame(
        SessionBindingSchema,
        create(SessionBindingSchema, {
          openId: open.openId,
          proof: proof ?? ticketProof(open.ticket, exporterOf(provenOn ?? socket), claims),
        }),
      ),
    );
    return { openId: open.openId, ticket: open.ticket, socket, answer };
  }

  /** Breaks a session connection in the middle of everything. */
  reset(socket: TLSSocket): void {
    this.#below.get(socket.remotePort ?? 0)?.resetAndDestroy();
  }

  /** Ends the control streams alone. */
  unlink(): void {
    for (const stream of this.#streams) stream.end();
  }

  /** As a process that dies. */
  async kill(): Promise<void> {
    for (const socket of this.connections) socket.destroy();
    this.unlink();
    this.#tls.close();
    await this.#server.close(0);
  }

  async *#link(
    requests: AsyncIterable<LinkRequest>,
    agent: string,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof LinkResponseSchema>> {
    this.agent = agent;
    this.links += 1;
    const queue: (Instruction | null)[] = [];
    let wake = Promise.withResolvers<void>();
    const push = (message: Instruction | null): void => {
      queue.push(message);
      wake.resolve();
    };
    const stream = { push, end: () => push(null) };
    this.#streams.add(stream);
    signal.addEventListener("abort", stream.end, { once: true });
    void this.#listen(requests);
    const { capability = 2, keepWarm = 2 } = this.#options;
    push({ case: "welcome", value: { capability, capabilityMin: 1, sessionsAddress: "", keepWarm } });
    try {
      for (;;) {
        for (let message = queue.shift(); message !== undefined; message = queue.shift()) {
          if (message === null) return;
          yield { message };
        }
        await wake.promise;
        wake = Promise.withResolvers<void>();
      }
    } finally {
      this.#streams.delete(stream);
    }
  }

  async #listen(requests: AsyncIterable<LinkRequest>): Promise<void> {
    try {
      for await (const { message } of requests) this.said.push(message);
    } catch {
      // The agent has gone.
    }
  }
}

function answerOn(socket: TLSSocket): FakeOpen["answer"] {
  const decoder = new SessionFrameDecoder(SessionAnswerSchema);
  const { promise, resolve, reject } = Promise.withResolvers<Awaited<FakeOpen["answer"]>>();
  const onClose = (): void => resolve(null);
  const onData = (chunk: Buffer): void => {
    try {
      const decoded = decoder.push(chunk);
      if (decoded === undefined) return;
      socket.pause();
      socket.off("data", onData).off("close", onClose);
      resolve(decoded);
    } catch (error) {
      reject(error);
    }
  };
  socket.on("data", onData).once("close", onClose);
  return promise;
}

function contextOf({ material }: NodeIdentity): { cert: string; key: string; ca: string } {
  return { cert: material.certificateChain, key: material.privateKey, ca: material.authorities };
}
