/** What this control plane proves itself with to nodes: a certificate that the authority gives it, a new key for each, renewed at half its life. */
import { generateKeyPairSync } from "node:crypto";
import type { Clock } from "@sluice/core/clock.ts";
import { fixedIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { toPem } from "@sluice/rpc/identity/node-certificate.ts";
import type { IdentityMaterial, NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { Logger } from "pino";
import type { Authority } from "../ca/authority.ts";

export interface OwnIdentityOptions {
  readonly authority: Authority;
  /** Different from every other control plane's. */
  readonly name: string;
  /** Names and addresses under which nodes dial it, besides the one of all control planes. */
  readonly hosts: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
}

/** How often it is asked whether the certificate is due; short against any lifetime, so that a failure is tried again soon. */
const LOOK_INTERVAL_MS = 60_000;

export async function openOwnIdentity({ authority, name, hosts, clock, log }: OwnIdentityOptions): Promise<NodeIdentity> {
  const make = async (): Promise<IdentityMaterial> => {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const spki = publicKey.export({ type: "spki", format: "der" });
    const { chain } = await authority.issueNode({ role: "control-plane", name, labels: {}, hosts, publicKey: spki });
    return {
      certificateChain: chain.map((der) => toPem("CERTIFICATE", der)).join(""),
      privateKey: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      authorities: authority.caPem(),
    };
  };
  const identity = fixedIdentity(await make(), authority.trust());
  let signedBy = authority.trust().authorities[0];
  let renewing = false;

  const isDue = (): boolean => {
    const { notBeforeMs, notAfterMs } = identity.self;
    return signedBy !== authority.trust().authorities[0] || clock.nowMs() > notBeforeMs + (notAfterMs - notBeforeMs) / 2;
  };
  const look = async (): Promise<void> => {
    if (renewing || !isDue()) return;
    renewing = true;
    try {
      const next = authority.trust().authorities[0];
      identity.replace(await make());
      signedBy = next;
      log.info({ notAfter: new Date(identity.self.notAfterMs).toISOString() }, "certificate of this control plane renewed");
    } catch (error) {
      log.error({ err: error }, "the certificate of this control plane could not be renewed; tried again in a minute");
    } finally {
      renewing = false;
    }
  };
  const timer = setInterval(() => void look(), LOOK_INTERVAL_MS).unref();
  const stop = authority.onChange(() => {
    identity.trust(authority.trust());
    void look();
  });
  const close = identity.close.bind(identity);
  identity.close = () => {
    clearInterval(timer);
    stop();
    close();
  };
  return identity;
}
