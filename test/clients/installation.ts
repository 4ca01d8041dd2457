/** The installation that real clients are run against: one target, a caller who may do everything and one who sees masks. */
import { makeCertificate } from "../support/certificates.ts";
import { type Orders, startOrders } from "../support/orders.ts";
import type { TargetVersion } from "../support/targets.ts";

export type Role = "all" | "masked";
export const roles: readonly Role[] = ["all", "masked"];

export interface ClientGround {
  readonly version: TargetVersion;
  readonly orders: Orders;
  readonly token: (role: Role) => string;
  /** A CA that did not sign the gateway's certificate. */
  readonly wrongCaFile: string;
  stop(): Promise<void>;
}

/** Whole values for the first caller. For the second a partial mask, and one class of statements that is refused. */
export const clientPolicies: string = `apiVersion: sluice/v1
kind: Policy
metadata: { name: clients-all }
spec:
  principals: { groups: [clients-all] }
  resources: { labels: { env: prod } }
  rules: [{ name: everything, effect: allow }]
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: clients-masked }
spec:
  principals: { groups: [clients-masked] }
  resources: { labels: { env: prod } }
  rules:
    - { name: everything, effect: allow }
    - { name: mask, effect: mask, entities: [US_SSN, EMAIL_ADDRESS, CREDIT_CARD], operator: { partial: { keepLast: 4 } } }
    - { name: no-rights, effect: deny, when: "statement.class == 'privilege'", reason: "rights are given elsewhere" }
`;

export async function startClientGround(version: TargetVersion): Promise<ClientGround> {
  const wrong = await makeCertificate("other");
  try {
    const orders = await startOrders({
      version,
      extraManifests: { "clients.yaml": clientPolicies },
      // Cancelling needs something to cancel: a function of the server that only waits.
      manifests: (text) => text.replace("credential:", "inspection: { safeFunctions: [pg_catalog.pg_sleep] }\n  credential:"),
      statements: ["CREATE TABLE scratch (n int, note text)"],
    });
    const tokens = {
      all: await orders.sluice.token("alma", ["clients-all"], "--ttl", "2h"),
      masked: await orders.sluice.token("mark", ["clients-masked"], "--ttl", "2h"),
    };
    return {
      version,
      orders,
      token: (role) => tokens[role],
      wrongCaFile: wrong.caFile,
      stop: async () => {
        await orders.stop();
        await wrong.remove();
      },
    };
  } catch (error) {
    await wrong.remove();
    throw error;
  }
}
