/**
 * Accepts connections for one protocol and hands them to its driver, after the load balancer's header where one is due. Knows
 * nothing of what the bytes mean.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { ListenerConfig } from "@sluice/core/config.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Driver } from "../drivers/driver.ts";
import type { GatewayParts } from "../gateway-parts.ts";
import { decodeProxyHeader } from "./proxy-protocol.ts";

/** Connections the kernel holds while the process is busy. */
const BACKLOG = 1_024;

export interface Listener {
  readonly protocol: ListenerConfig["protocol"];
  /** `host:port` as bound. */
  readonly address: string;
  /** Stops accepting; running connections go on. */
  stop(): Promise<void>;
}

/** Binds and accepts. Throws `config_invalid` when the address cannot be bound. */
export async function startListener(config: ListenerConfig, driver: Driver, parts: GatewayParts): Promise<Listener> {
  const server = createServer({ noDelay: true, keepAlive: true, pauseOnConnect: false }, (socket) => {
    socket.on("error", () => socket.destroy());
    serve(socket, config, driver, parts).catch((error: unknown) => {
      parts.log.error({ err: error }, "a connection ended by a fault");
      socket.destroy();
    });
  });
  await listen(server, config);
  // Out of file descriptors, say: this connection is lost, the gateway is not.
  server.on("error", (error) => parts.log.warn({ err: error }, "a connection could not be accepted"));
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new GatewayError("internal", "The listener has no address.");
  return {
    protocol: config.protocol,
    address: `${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}`,
    stop: () => new Promise((resolve) => void server.close(() => resolve())),
  };
}

async function serve(socket: Socket, config: ListenerConfig, driver: Driver, parts: GatewayParts): Promise<void> {
  const peer = normalize(socket.remoteAddress ?? "");
  if (!config.proxyProtocolFrom.includes(peer)) {
    await driver(parts, { socket, clientAddress: peer, early: Buffer.alloc(0) });
    return;
  }
  let header: { address: string | null; early: Buffer } | null;
  try {
    header = await readProxyHeader(socket, parts.limits.authenticationTimeoutMs);
  } catch (error) {
    parts.log.info({ code: toGatewayError(error).code, peer }, "a balancer's connection was refused");
    socket.destroy();
    return;
  }
  if (header !== null) await driver(parts, { socket, clientAddress: header.address ?? peer, early: header.early });
}

function readProxyHeader(socket: Socket, timeoutMs: number): Promise<{ address: string | null; early: Buffer } | null> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      socket.off("data", read);
      socket.off("close", gone);
      socket.pause();
      settle();
    };
    const gone = (): void => finish(() => resolve(null));
    const timer = setTimeout(
      () => finish(() => reject(new GatewayError("login_timeout", "The load balancer sent no header in time."))),
      timeoutMs,
    );
    function read(chunk: Buffer): void {
      received = Buffer.concat([received, chunk]);
      try {
        const header = decodeProxyHeader(received);
        if (header.kind === "complete")
          finish(() => resolve({ address: header.address, early: received.subarray(header.headerBytes) }));
      } catch (error) {
        finish(() => reject(toGatewayError(error)));
      }
    }
    socket.on("data", read);
    socket.on("close", gone);
  });
}

function listen(server: Server, config: ListenerConfig): Promise<void> {
  const { host, port } = config.listen;
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void =>
      reject(
        new GatewayError("config_invalid", `The gateway cannot listen on ${host}:${port}.`, {
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

/** IPv4 addresses that came through an IPv6 socket are written as IPv4. */
function normalize(address: string): string {
  return address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address;
}
