/**
 * How a channel's connections are made: TLS 1.3 with the identity of the moment, to a peer that is who was dialled and has not been
 * revoked. Nothing is sent before the peer is known to be the right one. Connections whose peer is revoked later are cut.
 */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { type ConnectionOptions, checkServerIdentity, connect, type DetailedPeerCertificate, type TLSSocket } from "node:tls";
import { CallCredentials, ChannelCredentials, type experimental } from "@grpc/grpc-js";
import { GatewayError } from "@sluice/core/errors.ts";
import { findAuthority, fingerprintOf, verifyNode } from "../identity/verify.ts";
import { readNodeCertificate, splitPem } from "../identity/node-certificate.ts";
import type { PeerAddress } from "../grpc.ts";
import type { NodeIdentity } from "../node-identity.ts";
import { serverNameOf } from "../nodes.ts";

/** What a connection proves itself with, and how it knows the other side. */
export interface ConnectionProof {
  /** For tls.connect: certificate, key, authorities. */
  readonly tls: () => ConnectionOptions;
  /** Looks at the peer before a byte is sent, and says who it is; throws GatewayError. */
  readonly check: (socket: TLSSocket) => X509Certificate;
  /** Whether a peer that was accepted would be so now. */
  readonly accepts: (peer: X509Certificate) => boolean;
}

/** A node among nodes: its own certificate, the authorities that it trusts. */
export function nodeProof(identity: NodeIdentity, peer: PeerAddress, nowMs: () => number): ConnectionProof {
  return {
    tls: () => ({
      cert: identity.material.certificateChain,
      key: identity.material.privateKey,
      ca: splitPem(identity.material.authorities) as string[], // Node's types want it mutable and do not change it
      rejectUnauthorized: true,
    }),
    check: (socket) => {
      const certificate = socket.getPeerX509Certificate();
      if (certificate === undefined) throw wrongPeer(peer, "it has no certificate");
      checkPeer(certificate, peer);
      const node = readNodeCertificate(certificate);
      if (node !== null && identity.isRevoked(node.serial)) throw wrongPeer(peer, "its certificate was revoked");
      return certificate;
    },
    accepts: (certificate) => verifyNode(certificate, identity, nowMs()).kind === "node",
  };
}

/**
 * A process that is not a node yet: no certificate, and of the installation it knows the fingerprint of an authority, or its
 * certificates. TLS itself is let through, since it knows no authority; the check here takes its place.
 */
export function strangerProof(peer: PeerAddress, trust: StrangerTrust, nowMs: () => number): ConnectionProof {
  return {
    tls: () => ({ rejectUnauthorized: false }),
    check: (socket) => {
      const [leaf, ...others] = chainOf(socket);
      if (leaf === undefined) throw wrongPeer(peer, "it has no certificate");
      const trusted =
        trust.kind === "fingerprint"
          ? others.filter((certificate) => fingerprintOf(certificate) === trust.fingerprint)
          : splitPem(trust.pem).map((pem) => new X509Certificate(pem));
      checkPeer(leaf, peer);
      const at = nowMs();
      if (at < leaf.validFromDate.getTime() || at >= leaf.validToDate.getTime()) {
        throw wrongPeer(peer, "its certificate is not valid at this time: compare the clocks");
      }
      if (findAuthority(leaf, others, trusted, at) === null) throw otherInstallation(peer, trust);
      return leaf;
    },
    accepts: () => true,
  };
}

export type StrangerTrust =
  | { readonly kind: "fingerprint"; readonly fingerprint: string }
  | { readonly kind: "authorities"; readonly pem: string };

/** grpc-js asks it for each connection. Remembers why the last one failed, since grpc-js keeps a text of it only. */
export class NodeConnector extends ChannelCredentials {
  readonly #peer: PeerAddress;
  readonly #proof: ConnectionProof;
  readonly #connectTimeoutMs: number;
  /** With the peer's certificate, once it is known: a socket that HTTP/2 has taken over tells it no more. */
  readonly #sockets = new Map<TLSSocket, X509Certificate | null>();
  #lastFault: GatewayError | null = null;

  constructor(peer: PeerAddress, proof: ConnectionProof, connectTimeoutMs: number) {
    super();
    this.#peer = peer;
    this.#proof = proof;
    this.#connectTimeoutMs = connectTimeoutMs;
  }

  get lastFault(): GatewayError | null {
    return this.#lastFault;
  }

  /** Cuts connections to peers that would not be accepted now. */
  recheck(): void {
    for (const [socket, peer] of this.#sockets) if (peer !== null && !this.#proof.accepts(peer)) socket.destroy();
  }

  /** Cuts what hangs: called when the channel is not ready in time, and when it is closed for good. */
  destroyAll(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(): experimental.SecureConnector {
    const callCredentials = CallCredentials.createEmpty();
    return {
      connect: async (socket) => ({ socket: await this.#secure(socket), secure: true }),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials,
      destroy: () => undefined,
    };
  }

  #secure(socket: Socket): Promise<TLSSocket> {
    return new Promise((resolve, reject) => {
      const { role, name } = this.#peer;
      const secure = connect({
        ...this.#proof.tls(),
        socket,
        servername: serverNameOf(role, name),
        // Ours is `check`, which is done for strangers as well.
        checkServerIdentity: () => undefined,
        ALPNProtocols: ["h2"],
        minVersion: "TLSv1.3",
      });
      this.#sockets.set(secure, null);
      const timer = setTimeout(() => fail(new Error("the TLS handshake took too long")), this.#connectTimeoutMs);
      timer.unref();
      const fail = (cause: unknown): void => {
        this.#lastFault = cause instanceof GatewayError ? cause : null;
        clearTimeout(timer);
        secure.destroy();
        reject(cause instanceof Error ? cause : new Error("the connection ended"));
      };
      secure.once("secureConnect", () => {
        try {
          this.#sockets.set(secure, this.#proof.check(secure));
        } catch (error) {
          fail(error);
          return;
        }
        this.#lastFault = null;
        clearTimeout(timer);
        resolve(secure);
      });
      secure.on("error", fail);
      secure.once("close", () => {
        this.#sockets.delete(secure);
        fail(this.#lastFault ?? new Error("the connection was closed in its handshake"));
      });
    });
  }
}

function checkPeer(certificate: X509Certificate, peer: PeerAddress): void {
  const node = readNodeCertificate(certificate);
  if (node === null) throw wrongPeer(peer, "its certificate is not one of a node");
  if (node.role !== peer.role || (peer.role !== "control-plane" && node.name !== peer.name)) {
    throw wrongPeer(peer, `its certificate is of the ${node.role} ${node.name}`);
  }
  // The name that was asked for, as every other TLS client would check it.
  const fault = checkServerIdentity(serverNameOf(peer.role, peer.name), certificate.toLegacyObject());
  if (fault !== undefined) throw wrongPeer(peer, "its certificate lacks the name under which it was dialled");
}

/** As sent, leaf first. */
function chainOf(socket: TLSSocket): readonly X509Certificate[] {
  const chain: X509Certificate[] = [];
  let current: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  // A self-signed certificate is its own issuer; an empty object is no certificate.
  while (current?.raw !== undefined && !chain.some((certificate) => certificate.raw.equals(current?.raw ?? Buffer.alloc(0)))) {
    chain.push(new X509Certificate(current.raw));
    current = current.issuerCertificate;
  }
  return chain;
}

function wrongPeer(peer: PeerAddress, why: string): GatewayError {
  return new GatewayError("unauthorized", `What answers at ${peer.address} is not the ${describe(peer)}: ${why}.`, {
    hint: "Check the address, and that nothing else listens there.",
  });
}

function otherInstallation(peer: PeerAddress, trust: StrangerTrust): GatewayError {
  const known = trust.kind === "fingerprint" ? "the join token names another authority" : "the CA file holds another authority";
  return new GatewayError(
    "unauthorized",
    `What answers at ${peer.address} is not the control plane of this installation: ${known}.`,
    {
      hint:
        trust.kind === "fingerprint"
          ? "Nothing secret was sent. Check the address; if the authority was rotated since, make a new join token."
          : "Nothing secret was sent. Check the address and node.join.caFile.",
    },
  );
}

function describe({ role, name }: PeerAddress): string {
  return role === "control-plane" ? "control plane" : `${role} ${name}`;
}
