/**
 * Dials session connections: TLS 1.3 with the agent's certificate of the moment to one gateway, which proves to be the one that
 * was dialled before anything else happens. Never sends a byte of its own.
 */
import type { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect, createSecureContext, type SecureContext, type TLSSocket } from "node:tls";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { verifyNode } from "@sluice/rpc/identity/verify.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { type NodeCertificate, serverNameOf } from "@sluice/rpc/nodes.ts";
import { EXPORTER_BYTES, EXPORTER_LABEL, SESSION_ALPN } from "@sluice/rpc/ticket.ts";

export interface DialedGateway {
  /** Not read from yet; with a listener for `error` that does nothing. */
  readonly socket: TLSSocket;
  /** As the certificate of this very connection says. */
  readonly gateway: NodeCertificate;
  /** Itself: a connection that has carried bytes does not tell it any more. */
  readonly certificate: X509Certificate;
}

/** Shorter than the idle timeouts of common firewalls; finds a peer that vanished without a word. */
const KEEP_ALIVE_MS = 30_000;

export class GatewayDialer {
  readonly #identity: NodeIdentity;
  readonly #clock: Clock;
  #context: SecureContext | undefined;
  readonly #stopFollowing: () => void;
  /** By gateway, the newest that it has shown. */
  readonly #newest = new Map<string, NodeCertificate>();

  constructor(identity: NodeIdentity, clock: Clock) {
    this.#identity = identity;
    this.#clock = clock;
    this.#stopFollowing = identity.onChange(() => {
      this.#context = undefined;
    });
  }

  /** For sessions. Throws GatewayError `node_unreachable` or `unauthorized` (it is not that gateway). */
  async dial(address: string, gateway: string, signal: AbortSignal): Promise<DialedGateway> {
    return (await this.#dial(address, gateway, SESSION_ALPN, signal)).dialed;
  }

  /** How long one TLS handshake with it takes, from the moment that TCP stands; the connection is closed again. */
  async measure(address: string, gateway: string, signal: AbortSignal): Promise<number> {
    const { dialed, handshakeMs } = await this.#dial(address, gateway, "h2", signal);
    dialed.socket.destroy();
    return handshakeMs;
  }

  /** The newest certificate that the gateway has shown here; undefined when it was never dialled, or was forgotten. */
  newestOf(gateway: string): NodeCertificate | undefined {
    return this.#newest.get(gateway);
  }

  /** Keeps what is known of these gateways alone. */
  forgetOthers(gateways: ReadonlySet<string>): void {
    for (const name of this.#newest.keys()) if (!gateways.has(name)) this.#newest.delete(name);
  }

  close(): void {
    this.#stopFollowing();
  }

  async #dial(
    address: string,
    gateway: string,
    protocol: string,
    signal: AbortSignal,
  ): Promise<{ readonly dialed: DialedGateway; readonly handshakeMs: number }> {
    const { host, port } = splitAddress(address);
    let connectedMs = this.#clock.monotonicMs();
    let socket: TLSSocket | undefined;
    try {
      signal.throwIfAborted();
      socket = connect({
        host,
        port,
        secureContext: this.#secureContext(),
        servername: serverNameOf("gateway", gateway),
        ALPNProtocols: [protocol],
        minVersion: "TLSv1.3",
      });
      socket.on("error", ignore);
      socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
      socket.once("connect", () => {
        connectedMs = this.#clock.monotonicMs();
      });
      await connected(socket, signal);
      const handshakeMs = this.#clock.monotonicMs() - connectedMs;
      return { dialed: { socket, ...this.#check(socket, gateway, protocol) }, handshakeMs };
    } catch (cause) {
      socket?.destroy();
      if (cause instanceof GatewayError) throw cause;
      throw new GatewayError("node_unreachable", `The gateway ${gateway} at ${address} did not answer.`, { cause });
    }
  }

  #check(socket: TLSSocket, name: string, protocol: string): Pick<DialedGateway, "gateway" | "certificate"> {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) throw notThatGateway(name, "no certificate");
    const verdict = verifyNode(certificate, this.#identity, this.#clock.nowMs());
    if (verdict.kind !== "node") throw notThatGateway(name, verdict.reason);
    const { node } = verdict;
    if (node.role !== "gateway" || node.name !== name) throw notThatGateway(name, `it is the ${node.role} ${node.name}`);
    if (socket.alpnProtocol !== protocol) throw notThatGateway(name, "it speaks another protocol there");
    if (node.notBeforeMs >= (this.#newest.get(name)?.notBeforeMs ?? 0)) this.#newest.set(name, node);
    return { gateway: node, certificate };
  }

  #secureContext(): SecureContext {
    const { certificateChain, privateKey, authorities } = this.#identity.material;
    this.#context ??= createSecureContext({ cert: certificateChain, key: privateKey, ca: authorities, minVersion: "TLSv1.3" });
    return this.#context;
  }
}

/** Keying material of this very connection, as the gateway computes it on its side. */
export function exporterOf(socket: TLSSocket): Buffer {
  // TLS 1.3 knows no difference between an empty context and none.
  return socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.alloc(0));
}

/** `host:port`, `[v6]:port`. Throws GatewayError `node_unreachable`. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(address);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || port < 1 || port > 65_535) {
    throw new GatewayError("node_unreachable", "The address of a gateway is not host:port.");
  }
  return { host, port };
}

async function connected(socket: TLSSocket, signal: AbortSignal): Promise<void> {
  const closed = new AbortController();
  const onClose = (): void => closed.abort(new Error("the connection was closed in its handshake"));
  socket.once("close", onClose);
  try {
    await once(socket, "secureConnect", { signal: AbortSignal.any([signal, closed.signal]) });
  } catch (error) {
    throw closed.signal.aborted ? closed.signal.reason : error;
  } finally {
    socket.off("close", onClose);
  }
}

function notThatGateway(name: string, why: string): GatewayError {
  return new GatewayError("unauthorized", `What answers for the gateway ${name} is not accepted: ${why}.`, {
    hint: "Check the address that the gateway tells others (dataPlane.links.advertise), and that nothing else listens there.",
  });
}

/** Whoever waits hears of a fault by a listener of its own; this one keeps a late fault from ending the process. */
function ignore(): void {}
