/**
 * Tickets bind one session to one TLS connection between an agent and a gateway. The gateway announces a ticket on the agent's
 * control stream and proves on the session connection that it is the same gateway, on that very connection: the proof covers the
 * TLS exporter (RFC 8446, section 7.5), so a ticket or proof that leaks is of no use on any other connection.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

/** 256 bits. */
export const TICKET_BYTES = 32;
/** From the announcement to the binding: a connection that is there needs milliseconds. */
export const TICKET_LIFETIME_MS = 10_000;
/** Label and length for `exportKeyingMaterial` of both sides. */
export const EXPORTER_LABEL = "EXPORTER-sluice-session-v1";
export const EXPORTER_BYTES = 32;
/** ALPN of session connections. */
export const SESSION_ALPN = "sluice-session/1";

export interface TicketClaims {
  readonly agent: string;
  readonly gateway: string;
  readonly sessionId: string;
  readonly resource: string;
  readonly database: string;
  readonly account: string;
  readonly openId: bigint;
}

/** HMAC-SHA-256 with the ticket as key over exporter and claims, each with its length before it. */
export function ticketProof(ticket: Uint8Array, exporter: Uint8Array, claims: TicketClaims): Buffer {
  const mac = createHmac("sha256", ticket);
  const { agent, gateway, sessionId, resource, database, account, openId } = claims;
  for (const part of [
    exporter,
    ...[agent, gateway, sessionId, resource, database, account, String(openId)].map((text) => Buffer.from(text)),
  ]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    mac.update(length).update(part);
  }
  return mac.digest();
}

/** In constant time. */
export function isTicketProof(proof: Uint8Array, ticket: Uint8Array, exporter: Uint8Array, claims: TicketClaims): boolean {
  const expected = ticketProof(ticket, exporter, claims);
  return proof.length === expected.length && timingSafeEqual(proof, expected);
}
