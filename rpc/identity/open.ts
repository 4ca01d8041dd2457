/**
 * The identity of a gateway, agent or recorder: what its directory holds, or a new one got with a join token or the platform's own.
 * Renewed at half its life for as long as the process runs. Must never use up a join token and then be silent about what it was
 * for, and never send a key anywhere.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "@sluice/core/clock.ts";
import type { NodeConfig } from "@sluice/core/config.ts";
import { type ErrorCode, GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Logger } from "pino";
import type { NodeIdentity, TrustBundle } from "../node-identity.ts";
import type { NodeRole } from "../nodes.ts";
import { type Applicant, checkClock, enrolAt, type IdentityLimits, type Issued } from "./enrol.ts";
import { IdentityFiles, type StoredIdentity } from "./identity-files.ts";
import { readJoinCredential } from "./join-token.ts";
import { LiveIdentity } from "./live-identity.ts";
import { makeKeyAndRequest, readNodeCertificate, splitPem } from "./node-certificate.ts";
import { startRenewal } from "./renewal.ts";

export interface OpenIdentityOptions {
  readonly role: Exclude<NodeRole, "control-plane">;
  readonly node: NodeConfig;
  /** Absolute; made when missing, for this user alone. */
  readonly directory: string;
  /** Asked for at enrolment; the token says which of them are granted. */
  readonly hosts: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly readEnvironment: (name: string) => string | undefined;
  /** Gives up waiting for a control plane. */
  readonly signal?: AbortSignal;
  readonly limits?: Partial<IdentityLimits>;
}

/**
 * Waits while no control plane answers and none is needed less. Throws `config_invalid` (files, token, clock), `enrolment_refused`,
 * `unauthorized` (what answers is not this installation's control plane), `incompatible`.
 */
export async function openNodeIdentity(options: OpenIdentityOptions): Promise<NodeIdentity> {
  const files = new IdentityFiles(options.directory);
  const limits = { ...defaultLimits, ...options.limits };
  const { role, node, hosts, clock, log } = options;
  const applicant: Applicant = { role, node, hosts, clock, log, limits };
  const stored = await load(files, options);
  const fresh = stored ?? (await enrol(files, applicant, options));
  const identity = new KeptIdentity(fresh, files, log);
  const renewal = startRenewal({
    identity,
    applicant,
    files,
    random: options.random,
    reenrol: node.join?.kind === "workload" ? () => enrol(files, applicant, { ...options, signal: identity.closed }) : null,
  });
  identity.closed.addEventListener("abort", () => renewal.stop());
  return identity;
}

/** Errors that another try, or another control plane, does not change. */
const definite: ReadonlySet<ErrorCode> = new Set([
  "enrolment_refused",
  "config_invalid",
  "incompatible",
  "unauthorized",
  "protocol_violation",
]);
/** Between rounds over all control planes. Milliseconds. */
const ROUND_MS_MIN = 500;
const ROUND_MS_MAX = 10_000;

class KeptIdentity extends LiveIdentity {
  readonly #files: IdentityFiles;
  readonly #log: Logger;
  readonly #closing = new AbortController();

  constructor(stored: StoredIdentity, files: IdentityFiles, log: Logger) {
    super(stored.material, stored.revokedSerials);
    this.#files = files;
    this.#log = log;
  }

  override trust(bundle: TrustBundle): void {
    const before = [this.material.authorities, this.revokedSerials];
    super.trust(bundle);
    if (this.material.authorities === before[0] && this.revokedSerials === before[1]) return;
    this.#files
      .saveTrust({ authorities: splitPem(this.material.authorities), revokedSerials: this.revokedSerials })
      .catch((error: unknown) => this.#log.error({ err: error }, "authorities and revocations could not be kept on disk"));
  }

  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  override close(): void {
    this.#closing.abort();
    super.close();
  }
}

async function load(files: IdentityFiles, options: OpenIdentityOptions): Promise<StoredIdentity | null> {
  const { role, node, clock, log } = options;
  const loaded = await files.load();
  if (loaded.kind === "none") return null;
  if (loaded.kind === "damaged") {
    throw new GatewayError("config_invalid", `The identity in ${files.directory} is damaged: ${loaded.why}.`, {
      hint: "Restore the directory, or remove it and enrol again with a new join token (`sluice nodes join-token create`).",
    });
  }
  const self = readNodeCertificate(loaded.identity.material.certificateChain);
  if (self === null || self.role !== role || self.name !== node.name) {
    const whose = self === null ? "no node" : `the ${self.role} ${self.name}`;
    throw new GatewayError(
      "config_invalid",
      `The identity in ${files.directory} is of ${whose}, not of the ${role} ${node.name}.`,
      {
        hint: "Give each node a data directory of its own, or remove this one to enrol under the new name.",
      },
    );
  }
  if (clock.nowMs() < self.notAfterMs) return loaded.identity;
  log.warn({ ended: new Date(self.notAfterMs).toISOString() }, "the certificate of this node has ended: it enrols again");
  return null;
}

async function enrol(files: IdentityFiles, applicant: Applicant, options: OpenIdentityOptions): Promise<StoredIdentity> {
  const { node, log } = applicant;
  if (node.join === null) {
    throw new GatewayError(
      "config_invalid",
      `There is no valid identity in ${files.directory}, and node.join says nothing to enrol with.`,
      {
        hint: "Make a join token with `sluice nodes join-token create` and name its file in node.join.tokenFile.",
      },
    );
  }
  const credential = await readJoinCredential(node.join, options.readEnvironment);
  // A key that is there already belongs to an enrolment of which the answer was lost: with the same key it may be given again.
  const pending = await files.pendingKey();
  const privateKey = pending ?? (await makeKeyAndRequest()).privateKeyPem;
  if (pending === undefined) await files.begin(privateKey);
  let unanswered = pending !== undefined;

  for (let pauseMs = ROUND_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, ROUND_MS_MAX)) {
    const faults: GatewayError[] = [];
    for (const address of node.controlPlanes) {
      try {
        const issued = await enrolAt(address, applicant, credential, privateKey);
        return await keep(files, issued, applicant);
      } catch (error) {
        const fault = toGatewayError(error);
        if (fault.code === "enrolment_refused") {
          await files.abandon();
          throw unanswered ? lost(fault, credential.kind) : fault;
        }
        if (fault.code === "node_unreachable") unanswered = true;
        faults.push(fault);
      }
    }
    const [first] = faults;
    if (first !== undefined && faults.every(({ code }) => definite.has(code))) throw first;
    log.warn(
      { controlPlanes: node.controlPlanes, reason: first?.message, hint: first?.hint },
      "waiting for a control plane to enrol at",
    );
    await pause(pauseMs, options);
  }
}

/** The token is used up: what it gave is kept before anything else is looked at. */
async function keep(files: IdentityFiles, issued: Issued, { log, limits }: Applicant): Promise<StoredIdentity> {
  await files.finish(issued.material.certificateChain, issued.trust);
  const self = readNodeCertificate(issued.material.certificateChain);
  log.info({ node: self?.name, role: self?.role, serial: self?.serial }, "enrolled");
  checkClock(issued.clockAheadMs, limits.nodeClockToleranceMs);
  return { material: issued.material, revokedSerials: issued.trust.revokedSerials };
}

function lost(fault: GatewayError, kind: "joinToken" | "workloadToken"): GatewayError {
  if (kind === "workloadToken") return fault;
  return new GatewayError("enrolment_refused", fault.message, {
    hint:
      "An earlier try sent this join token and ended before its answer was kept, so the token may be used up. " +
      "Make a new one for this name (`sluice nodes join-token create`), put it in the old one's place and start again.",
    cause: fault,
  });
}

async function pause(ms: number, { random, signal }: OpenIdentityOptions): Promise<void> {
  const jitter = 0.5 + (random.bytes(1)[0] ?? 0) / 512;
  try {
    await sleep(ms * jitter, undefined, signal === undefined ? {} : { signal });
  } catch (cause) {
    throw new GatewayError("node_unreachable", "No control plane answered before this process was stopped.", { cause });
  }
}
