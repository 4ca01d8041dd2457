/**
 * The tickets that one gateway has announced on one control stream: each binds one connection once, within ten seconds, and only
 * the connection for which the proof was made. Pure: time is an argument (monotonic). Protocol: rpc/ticket.ts.
 */
import { isTicketProof, TICKET_BYTES, TICKET_LIFETIME_MS } from "@sluice/rpc/ticket.ts";

export interface AnnouncedOpen {
  readonly openId: bigint;
  readonly ticket: Uint8Array;
  readonly sessionId: string;
  readonly resource: string;
  readonly database: string;
  readonly account: string;
  readonly startup: Readonly<Record<string, string>>;
}

export type Redemption =
  | { readonly kind: "open"; readonly open: AnnouncedOpen }
  /** Not announced (yet), or forgotten by now. */
  | { readonly kind: "unknown" }
  | { readonly kind: "refused"; readonly reason: "late" | "used" | "wrong proof" };

interface Entry {
  readonly open: AnnouncedOpen;
  readonly atMs: number;
  used: boolean;
}

export class Tickets {
  readonly #agent: string;
  readonly #gateway: string;
  readonly #max: number;
  /** In the order of their announcement. Used ones stay until they would be late, so that they are not taken twice. */
  readonly #entries = new Map<bigint, Entry>();
  readonly #seen = new Set<string>();
  #unused = 0;

  /** `max`: announced and neither used nor late. */
  constructor(agent: string, gateway: string, max: number) {
    this.#agent = agent;
    this.#gateway = gateway;
    this.#max = max;
  }

  announce(open: AnnouncedOpen, nowMs: number): "announced" | "malformed" | "repeated" | "too many" {
    this.#forget(nowMs);
    if (open.ticket.length !== TICKET_BYTES) return "malformed";
    if (this.#entries.has(open.openId) || this.#seen.has(textOf(open.ticket))) return "repeated";
    if (this.#unused >= this.#max) return "too many";
    this.#entries.set(open.openId, { open, atMs: nowMs, used: false });
    this.#seen.add(textOf(open.ticket));
    this.#unused += 1;
    return "announced";
  }

  /** Uses the ticket up, also when the proof is wrong: there is no second try. */
  redeem(openId: bigint, proof: Uint8Array, exporter: Uint8Array, nowMs: number): Redemption {
    const entry = this.#entries.get(openId);
    if (entry === undefined) return { kind: "unknown" };
    const { open } = entry;
    if (entry.used) return { kind: "refused", reason: "used" };
    entry.used = true;
    this.#unused -= 1;
    if (nowMs - entry.atMs > TICKET_LIFETIME_MS) return { kind: "refused", reason: "late" };
    const claims = { ...open, agent: this.#agent, gateway: this.#gateway };
    return isTicketProof(proof, open.ticket, exporter, claims)
      ? { kind: "open", open }
      : { kind: "refused", reason: "wrong proof" };
  }

  /** What is long late. */
  #forget(nowMs: number): void {
    for (const [openId, { open, atMs, used }] of this.#entries) {
      if (nowMs - atMs <= 2 * TICKET_LIFETIME_MS) break;
      if (!used) this.#unused -= 1;
      this.#entries.delete(openId);
      this.#seen.delete(textOf(open.ticket));
    }
  }
}

function textOf(ticket: Uint8Array): string {
  return Buffer.from(ticket).toString("base64");
}
