/**
 * Serves protobuf services to other nodes: TLS 1.3 with the node's own certificate, callers told by theirs. Must never run a
 * handler for a caller whose certificate does not allow it at that moment: role, chain, time and revocation are looked at for
 * each call, and running calls end when one of them changes.
 */
import type { X509Certificate } from "node:crypto";
import type { AddressInfo, Socket } from "node:net";
import { createServer, type Server as TlsServer, type TlsOptions, type TLSSocket } from "node:tls";
import type { DescService } from "@bufbuild/protobuf";
import { type ConnectionInjector, Server, ServerCredentials } from "@grpc/grpc-js";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { systemClock } from "@sluice/core/system.ts";
import type { Logger } from "pino";
import { splitPem } from "../identity/node-certificate.ts";
import { verifyNode } from "../identity/verify.ts";
import type { GrpcServeOptions, GrpcServer, ServedService, ServiceHandlers } from "../grpc.ts";
import type { NodeIdentity } from "../node-identity.ts";
import type { NodeCertificate, NodeRole } from "../nodes.ts";
import { RunningCalls } from "./running-calls.ts";
import { type StrangerLimits, Strangers } from "./strangers.ts";
import { serviceDefinition, serviceImplementation } from "./serve-calls.ts";

export type RpcLimits = Pick<
  Limits,
  | "nodeConnectTimeoutMs"
  | "nodeKeepaliveMs"
  | "nodeKeepaliveTimeoutMs"
  | "nodeConnectionsMax"
  | "nodeCallsMax"
  | "nodeSendQueueMax"
  | "nodeSendQueueBytesMax"
> &
  StrangerLimits;

export interface ServeGrpcOptions extends GrpcServeOptions {
  readonly identity: NodeIdentity;
  readonly log: Logger;
  /** For how long certificates are valid. The machine's own when absent, as TLS takes it. */
  readonly clock?: Clock;
  readonly limits?: Partial<RpcLimits>;
}

/** Handlers with their types checked against the service. `roles` null: anybody, also without a certificate. */
export function implement<Service extends DescService>(
  service: Service,
  handlers: ServiceHandlers<Service>,
  roles: readonly NodeRole[] | null,
): ServedService {
  return { service, handlers, roles };
}

/** Listens. Throws `config_invalid` when the address cannot be taken. Certificate and authorities follow the identity by themselves. */
export async function serveGrpc(options: ServeGrpcOptions): Promise<GrpcServer> {
  const listener = new NodeListener(options);
  await listener.listen();
  return listener;
}

/** After a peer was told that it is not accepted any longer, its connection is cut: it may not read what it is told. */
const REFUSED_PEER_GRACE_MS = 1_000;
/** The longest timer there is; what lies beyond is looked at again then. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** What enrols: a token of some KiB and a request of some hundred bytes, one call. */
const STRANGER_MESSAGE_BYTES_MAX = 64 * 1024;
const STRANGER_CALLS_MAX = 4;

/** Of one node: streams share a connection, so it has one, a second while its certificate is renewed, and those that measure. */
const CONNECTIONS_PER_NODE_MAX = 64;
/** Refused connections in the log: a line in this time, with how many there were. Strangers must not fill its disk. Milliseconds. */
const REFUSALS_LOGGED_EVERY_MS = 1_000;

interface GrpcSide {
  readonly server: Server;
  readonly injector: ConnectionInjector;
}

class NodeListener implements GrpcServer {
  readonly #options: ServeGrpcOptions;
  readonly #clock: Clock;
  readonly #calls: RunningCalls;
  readonly #strangers: Strangers;
  /** Two servers behind one port: strangers get little memory, so that only nodes may send what is large. */
  readonly #forNodes: GrpcSide;
  readonly #forStrangers: GrpcSide;
  readonly #tls: TlsServer;
  /** With the peer's certificate: a socket that HTTP/2 has taken over tells it no more. */
  readonly #connections = new Map<TLSSocket, X509Certificate | undefined>();
  readonly #perNode = new Map<string, number>();
  readonly #stopFollowing: () => void;
  #refusals = 0;
  #refusalLoggedMs = Number.NEGATIVE_INFINITY;
  #address = "";
  #closing: Promise<void> | undefined;

  constructor(options: ServeGrpcOptions) {
    const { identity, services, messageBytesMax } = options;
    const limits = { ...defaultLimits, ...options.limits };
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#calls = new RunningCalls(identity, this.#clock);
    this.#strangers = new Strangers(limits);
    this.#forNodes = this.#makeSide(limits, messageBytesMax, limits.nodeCallsMax);
    this.#forStrangers = this.#makeSide(limits, Math.min(messageBytesMax, STRANGER_MESSAGE_BYTES_MAX), STRANGER_CALLS_MAX);
    // The TLS listener is our own, so that what it offers and accepts is stated here; grpc-js gets connections that stand.
    this.#tls = createServer({
      ...contextOptions(identity),
      requestCert: true,
      // Without a client certificate only where every service is for nodes; the check of each call does not rely on it.
      rejectUnauthorized: services.every(({ roles }) => roles !== null),
      ALPNProtocols: ["h2"],
      handshakeTimeout: limits.nodeConnectTimeoutMs,
      noDelay: true,
    });
    this.#tls.maxConnections = limits.nodeConnectionsMax + limits.unauthenticatedMax;
    this.#tls.on("connection", (socket: Socket) => {
      if (!this.#strangers.enter(socket)) this.#logRefusal(socket.remoteAddress, "too many unknown connections");
    });
    this.#tls.on("secureConnection", (socket) => this.#accept(socket));
    this.#tls.on("tlsClientError", (error, socket) => {
      this.#logRefusal(socket.remoteAddress, error.message);
    });
    this.#tls.on("drop", (data) => this.#logRefusal(data?.remoteAddress, "too many connections"));
    this.#stopFollowing = identity.onChange(() => this.#follow());
  }

  /** As bound; stays what it was after the end. */
  get address(): string {
    return this.#address;
  }

  async listen(): Promise<void> {
    const { host, port } = this.#options.listen;
    await new Promise<void>((resolve, reject) => {
      this.#tls.once("error", (cause) => {
        this.#stopFollowing();
        reject(
          new GatewayError("config_invalid", `The address ${host}:${port} for other nodes cannot be listened on.`, {
            hint: "Choose another port, or end the process that has this one.",
            cause,
          }),
        );
      });
      this.#tls.listen({ host, port }, () => {
        this.#tls.removeAllListeners("error");
        const bound = this.#tls.address() as AddressInfo; // TCP and listening, so neither a path nor null
        this.#address = bound.family === "IPv6" ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`;
        this.#tls.on("error", (error) => this.#options.log.error({ err: error }, "listener for nodes failed"));
        resolve();
      });
    });
  }

  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    this.#stopFollowing();
    const closed = new Promise<void>((resolve) => this.#tls.close(() => resolve()));
    // GOAWAY: callers go elsewhere with new calls. Streams would never end by themselves; unary calls may finish.
    for (const { injector } of [this.#forNodes, this.#forStrangers]) injector.destroy();
    this.#calls.endStreams(new GatewayError("draining", "This node is shutting down.", { hint: "Connect again, or elsewhere." }));
    const cut = setTimeout(() => this.#cutAll(), graceMs);
    // Connections close by themselves once their last answer is out.
    await closed;
    clearTimeout(cut);
    this.#calls.endAll(new GatewayError("draining", "This node has shut down."));
    for (const { server } of [this.#forNodes, this.#forStrangers]) server.forceShutdown();
  }

  #makeSide(limits: RpcLimits, messageBytesMax: number, callsMax: number): GrpcSide {
    const server = new Server({
      "grpc.max_receive_message_length": messageBytesMax,
      "grpc.max_send_message_length": messageBytesMax,
      "grpc.max_concurrent_streams": callsMax,
      "grpc.keepalive_time_ms": limits.nodeKeepaliveMs,
      "grpc.keepalive_timeout_ms": limits.nodeKeepaliveTimeoutMs,
      "grpc.enable_channelz": 0,
    });
    for (const served of this.#options.services) {
      server.addService(serviceDefinition(served.service), serviceImplementation(served, this.#calls, this.#options.log));
    }
    return { server, injector: server.createConnectionInjector(ServerCredentials.createInsecure()) };
  }

  #cutAll(): void {
    for (const socket of this.#connections.keys()) socket.destroy();
  }

  #accept(socket: TLSSocket): void {
    socket.on("error", () => socket.destroy());
    const certificate = socket.getPeerX509Certificate();
    if (certificate !== undefined) {
      const verdict = verifyNode(certificate, this.#options.identity, this.#clock.nowMs());
      if (!socket.authorized || verdict.kind === "refused") {
        const reason = verdict.kind === "refused" ? verdict.reason : String(socket.authorizationError);
        this.#logRefusal(socket.remoteAddress, reason);
        socket.destroy();
        return;
      }
      if (!this.#hasRoomFor(verdict.node, socket)) return;
      this.#endWithCertificate(socket, verdict.node.notAfterMs);
    }
    if (socket.alpnProtocol !== "h2") {
      socket.destroy();
      return;
    }
    this.#connections.set(socket, certificate);
    socket.once("close", () => this.#connections.delete(socket));
    if (certificate !== undefined) this.#strangers.known(socket);
    const { injector } = certificate === undefined ? this.#forStrangers : this.#forNodes;
    injector.injectConnection(socket);
  }

  /** No node takes the room of all others, whatever it was given its certificate for. */
  #hasRoomFor({ role, name }: NodeCertificate, socket: TLSSocket): boolean {
    const key = `${role}/${name}`;
    const open = this.#perNode.get(key) ?? 0;
    if (open >= CONNECTIONS_PER_NODE_MAX) {
      this.#logRefusal(socket.remoteAddress, `too many connections of the ${role} ${name}`);
      socket.destroy();
      return false;
    }
    this.#perNode.set(key, open + 1);
    socket.once("close", () => {
      const left = (this.#perNode.get(key) ?? 1) - 1;
      if (left === 0) this.#perNode.delete(key);
      else this.#perNode.set(key, left);
    });
    return true;
  }

  #logRefusal(peer: string | undefined, reason: string): void {
    this.#refusals += 1;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#refusalLoggedMs < REFUSALS_LOGGED_EVERY_MS) return;
    this.#refusalLoggedMs = nowMs;
    this.#options.log.warn({ peer, reason, refused: this.#refusals }, "connection to the port for nodes refused");
    this.#refusals = 0;
  }

  /** A connection ends with the certificate that it was made with: whoever renewed connects again long before. */
  #endWithCertificate(socket: TLSSocket, notAfterMs: number): void {
    const remainingMs = notAfterMs - this.#clock.nowMs();
    const timer = setTimeout(
      () => {
        if (remainingMs > TIMER_MS_MAX) this.#endWithCertificate(socket, notAfterMs);
        else this.#refuseAgain();
      },
      Math.min(Math.max(remainingMs, 0) + 1, TIMER_MS_MAX),
    );
    timer.unref();
    socket.once("close", () => clearTimeout(timer));
  }

  #follow(): void {
    try {
      this.#tls.setSecureContext(contextOptions(this.#options.identity));
    } catch (error) {
      this.#options.log.error({ err: error }, "the new certificate cannot be used: the former one stays");
    }
    this.#refuseAgain();
  }

  /** Looks at every peer anew: calls of those that are no longer accepted end with a reason, then their connections. */
  #refuseAgain(): void {
    this.#calls.recheck();
    for (const [socket, certificate] of this.#connections) {
      if (certificate === undefined) continue;
      const verdict = verifyNode(certificate, this.#options.identity, this.#clock.nowMs());
      if (verdict.kind === "node") continue;
      this.#options.log.warn({ peer: socket.remoteAddress, reason: verdict.reason }, "connection of a node ended");
      setTimeout(() => socket.destroy(), REFUSED_PEER_GRACE_MS).unref();
    }
  }
}

/** The authority goes along in the chain: who enrols knows it by its fingerprint alone. */
function contextOptions(identity: NodeIdentity): TlsOptions {
  const { certificateChain, privateKey, authorities } = identity.material;
  return {
    cert: [certificateChain, ...splitPem(authorities).filter((pem) => !certificateChain.includes(pem))].join("\n"),
    key: privateKey,
    ca: splitPem(authorities) as string[], // Node's types want it mutable and do not change it
    minVersion: "TLSv1.3",
  };
}
