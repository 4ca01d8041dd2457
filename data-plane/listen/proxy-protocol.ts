/**
 * PROXY protocol version 2 header, as a load balancer sends it before the first byte of a connection. Pure: bytes in, address out.
 * Only version 2 is spoken; anything else from a peer that must send it ends the connection.
 * Spec: "The PROXY protocol", versions 1 & 2, HAProxy Technologies, section 2.2.
 */
import { SocketAddress } from "node:net";
import { GatewayError } from "@sluice/core/errors.ts";

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const HEADER_BYTES = 16;
/** Addresses plus TLVs. The specification asks receivers to take 216 bytes; balancers add some hundred bytes of TLVs. */
const BODY_BYTES_MAX = 4096;

export type ProxyHeader =
  | { readonly kind: "incomplete" }
  /** `address` is null for LOCAL (health checks) and for address families that carry none. */
  | { readonly kind: "complete"; readonly address: string | null; readonly headerBytes: number };

/** Reads the header at the start of `received`. Throws `protocol_violation` when it cannot become a version 2 header. */
export function decodeProxyHeader(received: Buffer): ProxyHeader {
  const known = Math.min(received.length, SIGNATURE.length);
  if (!received.subarray(0, known).equals(SIGNATURE.subarray(0, known))) throw violation();
  if (received.length < HEADER_BYTES) return { kind: "incomplete" };
  const versionAndCommand = received[12]!;
  const familyAndTransport = received[13]!;
  const bodyBytes = received.readUInt16BE(14);
  const command = versionAndCommand & 0x0f;
  if (versionAndCommand >> 4 !== 2 || command > 1 || bodyBytes > BODY_BYTES_MAX) throw violation();
  const headerBytes = HEADER_BYTES + bodyBytes;
  if (received.length < headerBytes) return { kind: "incomplete" };
  const body = received.subarray(HEADER_BYTES, headerBytes);
  return { kind: "complete", address: command === 0 ? null : decodeAddress(familyAndTransport >> 4, body), headerBytes };
}

function decodeAddress(family: number, body: Buffer): string | null {
  if (family === 1) {
    if (body.length < 12) throw violation();
    return [...body.subarray(0, 4)].join(".");
  }
  if (family === 2) {
    if (body.length < 36) throw violation();
    const groups: string[] = [];
    for (let at = 0; at < 16; at += 2) groups.push(body.readUInt16BE(at).toString(16));
    return canonical(groups.join(":"));
  }
  return null;
}

/** One spelling for one address, the same as a socket's own: limits count by it, and conditions compare it. */
function canonical(address: string): string {
  const written = new SocketAddress({ address, family: "ipv6" }).address;
  return written.startsWith("::ffff:") && written.includes(".") ? written.slice("::ffff:".length) : written;
}

function violation(): GatewayError {
  return new GatewayError("protocol_violation", "The load balancer did not send a PROXY protocol version 2 header.", {
    hint: "Switch PROXY protocol v2 on at the balancer, or take its address out of proxyProtocolFrom.",
  });
}
