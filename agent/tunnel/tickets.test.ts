import { randomBytes } from "node:crypto";
import { TICKET_LIFETIME_MS, ticketProof } from "@sluice/rpc/ticket.ts";
import { describe, expect, test } from "vitest";
import { type AnnouncedOpen, Tickets } from "./tickets.ts";

const exporter = randomBytes(32);
const open: AnnouncedOpen = {
  openId: 7n,
  ticket: randomBytes(32),
  sessionId: "s_1",
  resource: "orders",
  database: "shop",
  account: "readOnly",
  startup: {},
};
const proofFor = (
  changes: Partial<AnnouncedOpen> = {},
  gateway = "gateway",
  agent = "agent",
  over: Uint8Array = exporter,
): Buffer => ticketProof(open.ticket, over, { ...open, ...changes, gateway, agent });

describe("a ticket", () => {
  test("opens once", () => {
    const tickets = new Tickets("agent", "gateway", 10);
    expect(tickets.announce(open, 0)).toBe("announced");
    expect(tickets.redeem(7n, proofFor(), exporter, TICKET_LIFETIME_MS)).toEqual({ kind: "open", open });
    expect(tickets.redeem(7n, proofFor(), exporter, TICKET_LIFETIME_MS)).toEqual({ kind: "refused", reason: "used" });
  });

  test("is late after ten seconds, and then gone", () => {
    const tickets = new Tickets("agent", "gateway", 10);
    tickets.announce(open, 0);
    expect(tickets.redeem(7n, proofFor(), exporter, TICKET_LIFETIME_MS + 1)).toEqual({ kind: "refused", reason: "late" });
    expect(tickets.redeem(8n, proofFor(), exporter, 0)).toEqual({ kind: "unknown" });
  });

  test.each([
    ["another connection", proofFor({}, "gateway", "agent", randomBytes(32))],
    ["another gateway", proofFor({}, "other")],
    ["another agent", proofFor({}, "gateway", "other")],
    ["another session", proofFor({ sessionId: "s_2" })],
    ["another resource", proofFor({ resource: "payroll" })],
    ["another database", proofFor({ database: "hr" })],
    ["another account", proofFor({ account: "readWrite" })],
    ["another open", proofFor({ openId: 8n })],
    ["nothing", Buffer.alloc(0)],
  ])("is used up by a proof for %s", (_, proof) => {
    const tickets = new Tickets("agent", "gateway", 10);
    tickets.announce(open, 0);
    expect(tickets.redeem(7n, proof, exporter, 1)).toEqual({ kind: "refused", reason: "wrong proof" });
    expect(tickets.redeem(7n, proofFor(), exporter, 2)).toEqual({ kind: "refused", reason: "used" });
  });

  test("is announced once, whole, and among so many", () => {
    const tickets = new Tickets("agent", "gateway", 2);
    expect(tickets.announce({ ...open, ticket: randomBytes(31) }, 0)).toBe("malformed");
    expect(tickets.announce(open, 0)).toBe("announced");
    expect(tickets.announce({ ...open, ticket: randomBytes(32) }, 0)).toBe("repeated");
    expect(tickets.announce({ ...open, openId: 8n }, 0)).toBe("repeated");
    expect(tickets.announce({ ...open, openId: 8n, ticket: randomBytes(32) }, 0)).toBe("announced");
    expect(tickets.announce({ ...open, openId: 9n, ticket: randomBytes(32) }, 0)).toBe("too many");
    expect(tickets.announce({ ...open, openId: 9n, ticket: randomBytes(32) }, 2 * TICKET_LIFETIME_MS + 1)).toBe("announced");
  });

  test("that was used makes room for another", () => {
    const tickets = new Tickets("agent", "gateway", 1);
    for (let openId = 0n; openId < 50n; openId++) {
      const next = { ...open, openId, ticket: randomBytes(32) };
      expect(tickets.announce(next, 0)).toBe("announced");
      const proof = ticketProof(next.ticket, exporter, { ...next, gateway: "gateway", agent: "agent" });
      expect(tickets.redeem(openId, proof, exporter, 0)).toMatchObject({ kind: "open" });
    }
  });
});
