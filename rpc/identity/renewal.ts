/**
 * Renews a node's certificate at half its life, with a new key each time, and again and again while no control plane answers: the
 * node works with what it has until that ends. Warns long before.
 */
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import { type Applicant, renewAt } from "./enrol.ts";
import type { IdentityFiles, StoredIdentity } from "./identity-files.ts";
import type { LiveIdentity } from "./live-identity.ts";
import { makeKeyAndRequest } from "./node-certificate.ts";

export interface RenewalOptions {
  readonly identity: LiveIdentity;
  readonly applicant: Applicant;
  readonly files: IdentityFiles;
  readonly random: Random;
  /** For nodes whose platform lets them enrol again by themselves, once the certificate has ended or is not accepted. */
  readonly reenrol: (() => Promise<StoredIdentity>) | null;
}

export interface Renewal {
  stop(): void;
}

/** After half of its life, and by chance up to this much of it later: nodes that started together must not ask together. */
const SPREAD = 0.1;
/** Between tries: doubled from the one to the other. Milliseconds. */
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 5 * 60_000;
/** With less than this share of its life left, a failed renewal is an error rather than a warning. */
const URGENT = 0.25;
/** The longest timer there is is 24 days; a look once an hour also notices a clock that was set. Milliseconds. */
const LOOK_MS_MAX = 3_600_000;

export function startRenewal(options: RenewalOptions): Renewal {
  const { identity, applicant, random } = options;
  const { clock, log } = applicant;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let retryMs = RETRY_MS_MIN;
  let dueMs = dueOf(identity, random);

  const again = (waitMs: number): void => {
    if (stopped) return;
    timer = setTimeout(() => void look(), Math.min(Math.max(waitMs, 0), LOOK_MS_MAX));
    timer.unref();
  };

  async function look(): Promise<void> {
    if (clock.nowMs() < dueMs) {
      again(dueMs - clock.nowMs());
      return;
    }
    try {
      await renew(options, () => stopped);
      retryMs = RETRY_MS_MIN;
      dueMs = dueOf(identity, random);
      again(dueMs - clock.nowMs());
    } catch (error) {
      if (stopped) return;
      const remainingMs = identity.self.notAfterMs - clock.nowMs();
      const lifeMs = identity.self.notAfterMs - identity.self.notBeforeMs;
      const facts = { err: error, endsAt: new Date(identity.self.notAfterMs).toISOString() };
      if (remainingMs <= 0) log.error(facts, "the certificate of this node has ended and could not be renewed: enrol it again");
      else if (remainingMs < lifeMs * URGENT) log.error(facts, "the certificate of this node ends soon and could not be renewed");
      else log.warn(facts, "the certificate of this node could not be renewed yet");
      again(retryMs * (0.5 + byte(random) / 512));
      // Near the end more often, so that what is left is not slept through.
      retryMs = Math.min(retryMs * 2, RETRY_MS_MAX, Math.max(remainingMs / 10, RETRY_MS_MIN));
    }
  }

  again(dueMs - clock.nowMs());
  return {
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

async function renew(options: RenewalOptions, isStopped: () => boolean): Promise<void> {
  const { identity, applicant, files, reenrol } = options;
  if (applicant.clock.nowMs() >= identity.self.notAfterMs) {
    if (reenrol === null)
      throw new GatewayError("unauthorized", "The certificate has ended, and without one nothing can be renewed.");
    identity.replace((await reenrol()).material);
    return;
  }
  const { privateKeyPem } = await makeKeyAndRequest();
  await files.begin(privateKeyPem);
  let fault: GatewayError | undefined;
  for (const address of applicant.node.controlPlanes) {
    try {
      const issued = await renewAt(address, applicant, identity, privateKeyPem);
      if (isStopped()) return;
      await files.finish(issued.material.certificateChain, issued.trust);
      identity.trust(issued.trust);
      identity.replace({ ...issued.material, authorities: identity.material.authorities });
      const { serial, notAfterMs } = identity.self;
      applicant.log.info({ serial, endsAt: new Date(notAfterMs).toISOString() }, "certificate of this node renewed");
      return;
    } catch (error) {
      fault ??= toGatewayError(error);
    }
  }
  await files.abandon();
  throw fault ?? new GatewayError("config_invalid", "node.controlPlanes names no control plane to renew at.");
}

function dueOf(identity: LiveIdentity, random: Random): number {
  const { notBeforeMs, notAfterMs } = identity.self;
  return notBeforeMs + (notAfterMs - notBeforeMs) * (0.5 + (SPREAD * byte(random)) / 256);
}

function byte(random: Random): number {
  return random.bytes(1)[0] ?? 0;
}
