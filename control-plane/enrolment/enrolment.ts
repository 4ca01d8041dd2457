/**
 * How a process becomes a node, and stays one: tokens and certificates against new certificates. Everything that one enrolment changes
 * (the token is used up, the node is registered, the certificate is recorded) is one transaction: it happens as a whole or not at all,
 * whatever dies when. The node's own key never comes here. See docs/reference for the protocol; proto/sluice/enrolment/v1.
 */
import { createHash, X509Certificate } from "node:crypto";
import type { Clock } from "@sluice/core/clock.ts";
import type { WorkloadEnrolment } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { TrustBundle } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import type { EnrolmentService, EnrolRequest, RenewRequest } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import { agreeOn } from "@sluice/rpc/capabilities.ts";
import type { CallContext, ServiceHandlers } from "@sluice/rpc/grpc.ts";
import { parseJoinToken } from "@sluice/rpc/identity/join-token.ts";
import { dnsLabelPattern } from "@sluice/rpc/identity/node-certificate.ts";
import { roleFromProto, trustToProto } from "@sluice/rpc/trust.ts";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { EnrollingRole, JoinTokensAdmin } from "../api/services.ts";
import type { Authority } from "../ca/authority.ts";
import { readCertificateRequest } from "../ca/certificates.ts";
import type { Tables } from "../store/tables.ts";
import { claimToken, createJoinTokens, findToken, isHost, type JoinTokenRow, selectTokens, whyUnusable } from "./join-tokens.ts";
import { lockNode, registerNode, writeCertificate } from "./nodes.ts";
import { Refusal, refuse, refuseStranger, toAnswer } from "./refusal.ts";
import { createRefusalLog, type RefusalLog } from "./refusal-log.ts";
import { createTurnstile, type Turnstile } from "./turnstile.ts";
import { createWorkloadVerifier, type WorkloadLimits, type WorkloadVerifier } from "./workload-tokens.ts";

export type EnrolmentLimits = WorkloadLimits &
  Pick<Limits, "joinTokenTtlMsMax" | "enrolmentsInFlightMax" | "enrolmentsWaitingMax" | "certificateRequestBytesMax">;

export interface EnrolmentOptions {
  readonly db: Kysely<Tables>;
  readonly authority: Authority;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: EnrolmentLimits;
  readonly log: Logger;
  readonly workloads: readonly WorkloadEnrolment[];
}

export interface Enrolment {
  /** To be served to anybody (roles: null): `renew` looks at the certificate itself. */
  readonly handlers: ServiceHandlers<typeof EnrolmentService>;
  readonly joinTokens: JoinTokensAdmin;
}

/** The same for both calls. */
interface Answer {
  readonly certificates: Uint8Array[];
  readonly trust: TrustBundle;
  readonly nowMs: bigint;
}

export function createEnrolment(options: EnrolmentOptions): Enrolment {
  const { db, authority, random, limits, log, workloads, clock } = options;
  const parts: Parts = {
    ...options,
    verifier: createWorkloadVerifier({ workloads, clock, limits }),
    refusals: createRefusalLog(clock, log),
  };
  // Nodes renew whatever strangers do: each have their own.
  const [strangers, nodes] = [0, 1].map(() => createTurnstile(limits.enrolmentsInFlightMax, limits.enrolmentsWaitingMax)) as [
    Turnstile,
    Turnstile,
  ];
  return {
    joinTokens: createJoinTokens({ db, authority, random, limits, log }),
    handlers: {
      enrol: async (request, context) => {
        const about = { name: request.name.slice(0, 63), role: roleFromProto(request.role), peer: context.peerAddress };
        return await strangers.pass(context.signal, () => answering(parts, about, () => enrol(parts, request)));
      },
      renew: async (request, context) => {
        const about = { name: context.peer?.name, role: context.peer?.role, peer: context.peerAddress };
        return await (context.peer === null ? strangers : nodes).pass(context.signal, () =>
          answering(parts, about, () => renew(parts, request, context)),
        );
      },
    },
  };
}

interface Parts extends EnrolmentOptions {
  readonly verifier: WorkloadVerifier;
  readonly refusals: RefusalLog;
}

interface Granted {
  readonly role: EnrollingRole;
  readonly name: string;
  readonly with: string;
  readonly serial: string;
  readonly chain: readonly Uint8Array[];
}

/** Refusals go to the log with their reason, and out with as much of it as the caller may know. */
async function answering(
  { authority, clock, log, refusals }: Parts,
  about: { readonly name: string | undefined; readonly role: string | undefined; readonly peer: string },
  work: () => Promise<Granted>,
): Promise<Answer> {
  try {
    const granted = await work();
    const { role, name, serial } = granted;
    log.info({ role, node: name, with: granted.with, serial, peer: about.peer }, "certificate issued to a node");
    return {
      certificates: [...granted.chain],
      trust: trustToProto(authority.trust()),
      nowMs: BigInt(Math.round(clock.nowMs())),
    };
  } catch (error) {
    if (error instanceof Refusal || error instanceof GatewayError) refusals.note({ ...about, reason: error.message });
    throw error instanceof Refusal ? toAnswer(error) : error;
  }
}

async function enrol(parts: Parts, request: EnrolRequest): Promise<Granted> {
  const { role, name } = readApplicant(request);
  agreeOn({ capability: request.capability, capabilityMin: 0 });
  const { credential } = request;
  switch (credential.case) {
    case "joinToken": {
      const token = parseJoinToken(credential.value);
      if (token === null) throw refuseStranger("what was given as a join token is none");
      const row = await findToken(parts.db, token);
      return await enrolWithToken(parts, request, row, { role, name });
    }
    case "workloadToken": {
      const workload = await parts.verifier.verify(credential.value, { role, name });
      return await enrolWorkload(parts, request, workload, { role, name });
    }
    default:
      throw refuseStranger("neither a join token nor a workload token was given");
  }
}

interface Applicant {
  readonly role: EnrollingRole;
  readonly name: string;
}

function readApplicant(request: EnrolRequest): Applicant {
  const role = roleFromProto(request.role);
  if (role === undefined || role === "control-plane") throw refuseStranger("only gateways, agents and recorders enrol");
  if (!dnsLabelPattern.test(request.name)) throw refuseStranger("the name is not a DNS label");
  return { role, name: request.name };
}

async function enrolWithToken(parts: Parts, request: EnrolRequest, token: JoinTokenRow, applicant: Applicant): Promise<Granted> {
  const { db, authority, clock } = parts;
  const { role, name } = applicant;
  if (token.role !== role) throw refuse(`This join token is for a node of the role ${token.role}, not ${role}.`);
  if (token.name !== null && token.name !== name) throw refuse(`This join token is for the name ${token.name}, not ${name}.`);
  const publicKey = await readKey(parts, request.certificateRequest);
  const keySha256 = createHash("sha256").update(publicKey).digest("hex");
  const enrolledWith = `join-token ${token.id}`;
  const hosts = grantHosts(parts, request.hosts, token.hosts, applicant);
  return await db.transaction().execute(async (transaction) => {
    if (!(await claimToken(transaction, token.id, { name, keySha256 }))) {
      const row = await selectTokens(transaction).where("id", "=", token.id).executeTakeFirstOrThrow();
      const chain = await earlierAnswer(transaction, row, { name, keySha256 }, clock.nowMs());
      if (chain === null) throw whyUnusable(row);
      return { role, name, with: enrolledWith, serial: row.certificate_serial ?? "", chain };
    }
    await registerNode(transaction, {
      role,
      name,
      labels: token.labels,
      hosts,
      capability: request.capability,
      enrolledWith,
      taking: token.name === null ? "free" : "named",
      nowMs: clock.nowMs(),
    });
    const issued = await authority.issueNode({ role, name, labels: token.labels, hosts, publicKey }, transaction);
    await writeCertificate(transaction, applicant, issued);
    await transaction.updateTable("join_tokens").set({ certificate_serial: issued.serial }).where("id", "=", token.id).execute();
    return { role, name, with: enrolledWith, serial: issued.serial, chain: issued.chain };
  });
}

/**
 * Who used the token and asks again with the very same key did not hear the answer (the connection broke, another replica was
 * asked): it gets the same certificate, and nobody else can use it.
 */
async function earlierAnswer(
  db: Kysely<Tables>,
  row: JoinTokenRow,
  by: { readonly name: string; readonly keySha256: string },
  nowMs: number,
): Promise<readonly Uint8Array[] | null> {
  if (row.is_expired || row.revoked_at !== null || row.used_by !== by.name || row.used_key_sha256 !== by.keySha256) return null;
  const found = await db
    .selectFrom("certificates")
    .innerJoin("authorities", "authorities.fingerprint", "certificates.authority")
    .select(["certificates.certificate", "authorities.certificate as issuer"])
    .where("serial", "=", row.certificate_serial ?? "")
    .where("certificates.revoked_at", "is", null)
    .where("certificates.not_after", ">", new Date(nowMs))
    .where("authorities.state", "!=", "retired")
    .executeTakeFirst();
  if (found === undefined) return null;
  return [found.certificate, found.issuer].map((pem) => new Uint8Array(new X509Certificate(pem).raw));
}

async function enrolWorkload(
  parts: Parts,
  request: EnrolRequest,
  workload: WorkloadEnrolment,
  applicant: Applicant,
): Promise<Granted> {
  const { db, authority, clock } = parts;
  const { role, name } = applicant;
  const publicKey = await readKey(parts, request.certificateRequest);
  const hosts = grantHosts(parts, request.hosts, workload.hosts, applicant);
  const enrolledWith = `workload ${workload.name}`;
  return await db.transaction().execute(async (transaction) => {
    await registerNode(transaction, {
      role,
      name,
      labels: workload.labels,
      hosts,
      capability: request.capability,
      enrolledWith,
      taking: "again",
      nowMs: clock.nowMs(),
    });
    const issued = await authority.issueNode({ role, name, labels: workload.labels, hosts, publicKey }, transaction);
    await writeCertificate(transaction, applicant, issued);
    return { role, name, with: enrolledWith, serial: issued.serial, chain: issued.chain };
  });
}

/** The same role, name, labels and hosts for a new key, only for a node and a certificate that are known and not revoked. */
async function renew(parts: Parts, request: RenewRequest, { peer }: CallContext): Promise<Granted> {
  const { db, authority, clock } = parts;
  if (peer === null) {
    throw new GatewayError("unauthorized", "A certificate is renewed by the node that has one.", {
      hint: "A process without a certificate enrols with a join token.",
    });
  }
  const { role, name, serial } = peer;
  if (role === "control-plane") throw refuse("Control planes issue their own certificates.", "This node is not one that enrols.");
  const publicKey = await readKey(parts, request.certificateRequest);
  return await db.transaction().execute(async (transaction) => {
    const node = await lockNode(transaction, { role, name });
    if (node === undefined || node.revoked_at !== null)
      throw refuse(`The ${role} ${name} was revoked, or is not known any more.`);
    const known = await transaction
      .selectFrom("certificates")
      .select("serial")
      .where("serial", "=", serial)
      .where("role", "=", role)
      .where("name", "=", name)
      .where("revoked_at", "is", null)
      .where("not_after", ">", new Date(clock.nowMs()))
      .executeTakeFirst();
    if (known === undefined)
      throw refuse(`This certificate of the ${role} ${name} was revoked, has ended, or is not known here.`);
    const { labels, hosts } = node;
    const issued = await authority.issueNode({ role, name, labels, hosts, publicKey }, transaction);
    await writeCertificate(transaction, { role, name }, issued);
    return { role, name, with: `certificate ${serial}`, serial: issued.serial, chain: issued.chain };
  });
}

async function readKey({ limits }: Parts, request: Uint8Array): Promise<Uint8Array> {
  if (request.length > limits.certificateRequestBytesMax) throw refuse("The certificate request is larger than any real one.");
  return await readCertificateRequest(request);
}

/** What was asked for and is allowed; a `*` that is allowed stands for one label. What is left out is said in the log. */
function grantHosts(
  { log }: Parts,
  wanted: readonly string[],
  allowed: readonly string[],
  { role, name }: Applicant,
): readonly string[] {
  const permitted = new Set(allowed.map((host) => host.toLowerCase()));
  const granted: string[] = [];
  const refused: string[] = [];
  for (const host of new Set(wanted.map((one) => one.toLowerCase()))) {
    const isAllowed = permitted.has(host) || permitted.has(host.replace(/^[^.]+/, "*"));
    if (isAllowed && isHost(host)) granted.push(host);
    else refused.push(host.slice(0, 253));
  }
  if (refused.length > 0)
    log.warn(
      { role, node: name, refused: refused.slice(0, 16) },
      "hosts that the token does not allow are left out of the certificate",
    );
  return granted;
}
