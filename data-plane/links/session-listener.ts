/**
 * Where agents dial session connections: TLS 1.3 with a client certificate of the role agent, nothing else. Bounded in handshakes
 * under way and in their time. Never reads a byte of the session: what comes next is the business of whoever takes it.
 */
import { constants } from "node:crypto";
import { createServer as createTcpServer, type Socket } from "node:net";
import { createServer as createTlsServer, type SecureContextOptions, type TLSSocket } from "node:tls";
import type { Clock } from "@sluice/core/clock.ts";
import type { ListenAddress } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { verifyNode } from "@sluice/rpc/identity/verify.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { NodeCertificate } from "@sluice/rpc/nodes.ts";
import { SESSION_ALPN } from "@sluice/rpc/ticket.ts";
import type { Logger } from "pino";

/** Notices an agent that is gone without a word: probes begin after this time (and repeat each second, ten times). */
const KEEP_ALIVE_MS = 15_000;
const BACKLOG = 1_024;

export interface SessionListenerOptions {
  readonly listen: ListenAddress;
  readonly identity: NodeIdentity;
  readonly limits: Pick<Limits, "agentHandshakesMax" | "agentHandshakeTimeoutMs">;
  readonly clock: Clock;
  readonly log: Logger;
  /** Owns the socket from then on. */
  readonly accept: (socket: TLSSocket, peer: NodeCertificate) => void;
}

export interface SessionListener {
  /** `host:port` as bound. */
  readonly address: string;
  /** Stops accepting; established connections go on. */
  close(): void;
}

/** Throws `config_invalid` when the address cannot be bound. */
export async function startSessionListener(options: SessionListenerOptions): Promise<SessionListener> {
  const { identity, limits, log } = options;
  const handshakes = new Map<string, () => void>();
  const perAddress = new Map<string, number>();
  // Whoever is at one address must leave room for agents at others.
  const perAddressMax = Math.ceil(limits.agentHandshakesMax / 2);
  const tls = createTlsServer({
    ...contextOf(identity),
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: [SESSION_ALPN],
    handshakeTimeout: limits.agentHandshakeTimeoutMs,
  });
  tls.on("secureConnection", (socket) => {
    handshakes.get(endpointOf(socket))?.();
    const peer = agentOf(socket, identity, options.clock.nowMs());
    if (peer instanceof GatewayError) {
      log.warn({ peer: socket.remoteAddress, reason: peer.message }, "a session connection was refused");
      socket.destroy();
      return;
    }
    options.accept(socket, peer);
  });
  // Strangers can make as many of these as they like: not a line of the log each.
  tls.on("tlsClientError", (error, socket) => {
    log.debug({ err: error }, "a handshake of a session connection failed");
    socket.destroy();
  });
  const server = createTcpServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }, (socket) => {
    socket.on("error", () => socket.destroy());
    const address = socket.remoteAddress ?? "";
    const fromThere = perAddress.get(address) ?? 0;
    if (handshakes.size >= limits.agentHandshakesMax || fromThere >= perAddressMax) {
      socket.destroy();
      return;
    }
    perAddress.set(address, fromThere + 1);
    const endpoint = endpointOf(socket);
    const done = (): void => {
      if (handshakes.get(endpoint) !== done) return;
      handshakes.delete(endpoint);
      const others = (perAddress.get(address) ?? 1) - 1;
      if (others === 0) perAddress.delete(address);
      else perAddress.set(address, others);
    };
    handshakes.set(endpoint, done);
    socket.once("close", done);
    tls.emit("connection", socket);
  });
  const stopWatching = identity.onChange(() => tls.setSecureContext(contextOf(identity)));
  try {
    await listen(server, options.listen);
  } catch (error) {
    stopWatching();
    throw error;
  }
  server.on("error", (error) => log.warn({ err: error }, "a session connection could not be accepted"));
  return {
    address: addressOf(server),
    close: () => {
      stopWatching();
      server.close();
    },
  };
}

/** No tickets: a resumed session would not show its certificate, and must not outlive it. */
function contextOf({ material }: NodeIdentity): SecureContextOptions {
  return {
    cert: material.certificateChain,
    key: material.privateKey,
    ca: material.authorities,
    minVersion: "TLSv1.3",
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

function agentOf(socket: TLSSocket, identity: NodeIdentity, nowMs: number): NodeCertificate | GatewayError {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return unauthorized("it has no certificate");
  const verdict = verifyNode(certificate, identity, nowMs);
  if (verdict.kind === "refused") return unauthorized(`its certificate is ${verdict.reason}`);
  const peer = verdict.node;
  if (peer.role !== "agent") return unauthorized(`its certificate is one of the role ${peer.role}`);
  if (socket.alpnProtocol !== SESSION_ALPN) return unauthorized("it does not speak this protocol");
  return peer;
}

function unauthorized(why: string): GatewayError {
  return new GatewayError("unauthorized", `Only agents may open session connections: ${why}.`);
}

/** Unique among connections that are open. */
function endpointOf(socket: Socket): string {
  return `${socket.remoteAddress}/${socket.remotePort}`;
}

function addressOf(server: ReturnType<typeof createTcpServer>): string {
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new GatewayError("internal", "The listener has no address.");
  return `${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

function listen(server: ReturnType<typeof createTcpServer>, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void =>
      reject(
        new GatewayError("config_invalid", `The gateway cannot listen for agents on ${host}:${port}.`, {
          cause,
          hint: "Another process may use this port, or the address is not one of this machine's.",
        }),
      );
    server.once("error", failed);
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off("error", failed);
      resolve();
    });
  });
}
