/**
 * Asks the control plane for a certificate: for the first time with a token, later with the certificate in force. Answers are looked
 * at before they are believed: the right node, the right key, an authority that is trusted.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import type { NodeConfig } from "@sluice/core/config.ts";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { type EnrolResponse, EnrolmentService, type RenewResponse } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import type { Logger } from "pino";
import { CAPABILITY } from "../capabilities.ts";
import { dialForEnrolment, dialGrpc } from "../grpc/channel.ts";
import type { RpcLimits } from "../grpc/server.ts";
import type { IdentityMaterial, NodeIdentity, TrustBundle } from "../node-identity.ts";
import type { NodeRole } from "../nodes.ts";
import { roleToProto, trustFromProto } from "../trust.ts";
import type { JoinCredential } from "./join-token.ts";
import { makeRequest, toPem } from "./node-certificate.ts";
import { verifyNode } from "./verify.ts";

export type IdentityLimits = RpcLimits & Pick<Limits, "nodeMessageBytesMax" | "nodeClockToleranceMs">;

/** Who asks, and how. */
export interface Applicant {
  readonly role: NodeRole;
  readonly node: NodeConfig;
  readonly hosts: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: IdentityLimits;
}

export interface Issued {
  readonly material: IdentityMaterial;
  readonly trust: TrustBundle;
  /** This machine's clock less the control plane's. */
  readonly clockAheadMs: number;
}

/** One try at one control plane. Errors: as the control plane gave them, `unauthorized` when it is another's, `node_unreachable`. */
export async function enrolAt(
  address: string,
  applicant: Applicant,
  credential: JoinCredential,
  privateKey: string,
): Promise<Issued> {
  const { role, node, hosts, clock, log, limits } = applicant;
  const channel = dialForEnrolment(address, {
    trust: credential.trust,
    nowMs: () => clock.nowMs(),
    log,
    messageBytesMax: limits.nodeMessageBytesMax,
    limits,
  });
  try {
    const response = await channel.unary(
      EnrolmentService.method.enrol,
      {
        credential: { case: credential.kind, value: credential.token },
        certificateRequest: await makeRequest(privateKey),
        role: roleToProto(role),
        name: node.name,
        hosts: [...hosts],
        capability: CAPABILITY,
      },
      { deadlineMs: limits.nodeEnrolTimeoutMs },
    );
    return readIssued(response, privateKey, applicant);
  } finally {
    channel.close();
  }
}

/** One try at one control plane, with the certificate in force. */
export async function renewAt(
  address: string,
  applicant: Applicant,
  identity: NodeIdentity,
  privateKey: string,
): Promise<Issued> {
  const { log, limits } = applicant;
  const peer = { address, role: "control-plane", name: "" } as const;
  const channel = dialGrpc(peer, { identity, log, messageBytesMax: limits.nodeMessageBytesMax, limits });
  try {
    const response = await channel.unary(
      EnrolmentService.method.renew,
      { certificateRequest: await makeRequest(privateKey), capability: CAPABILITY },
      // Twice asked is twice issued, which harms nobody.
      { deadlineMs: limits.nodeEnrolTimeoutMs, idempotent: true },
    );
    return readIssued(response, privateKey, applicant);
  } finally {
    channel.close();
  }
}

/** Throws `config_invalid` when the clocks differ too much: certificates, leases and tokens would all be judged wrongly. */
export function checkClock(aheadMs: number, toleranceMs: number): void {
  if (Math.abs(aheadMs) <= toleranceMs) return;
  const minutes = (Math.abs(aheadMs) / 60_000).toFixed(1);
  const direction = aheadMs > 0 ? "ahead of" : "behind";
  throw new GatewayError("config_invalid", `This machine's clock is ${minutes} minutes ${direction} the control plane's.`, {
    hint: "Set the clocks right (NTP, chrony) and start again: certificates and leases go by them.",
  });
}

function readIssued(response: EnrolResponse | RenewResponse, privateKey: string, { role, node, clock }: Applicant): Issued {
  const [leaf, ...between] = response.certificates;
  if (leaf === undefined || response.trust === undefined) throw unusable("it holds no certificate");
  const trust = trustFromProto(response.trust);
  const authorities = trust.authorities.join("");
  const controlPlaneMs = Number(response.nowMs);
  // By the control plane's clock: whether ours is right is said apart.
  const verdict = verifyNode(
    leaf,
    { material: { authorities, certificateChain: "", privateKey: "" }, isRevoked: () => false },
    controlPlaneMs,
    between,
  );
  if (verdict.kind === "refused") throw unusable(`it is ${verdict.reason.replaceAll("_", " ")}`);
  if (verdict.node.role !== role || verdict.node.name !== node.name) {
    throw unusable(`it is of the ${verdict.node.role} ${verdict.node.name}`);
  }
  if (!new X509Certificate(Buffer.from(leaf)).checkPrivateKey(createPrivateKey(privateKey)))
    throw unusable("it is for another key");
  const certificateChain = [leaf, ...between].map((der) => toPem("CERTIFICATE", der)).join("");
  return { material: { certificateChain, privateKey, authorities }, trust, clockAheadMs: clock.nowMs() - controlPlaneMs };
}

function unusable(why: string): GatewayError {
  return new GatewayError("protocol_violation", `The control plane gave a certificate that cannot be used: ${why}.`, {
    hint: "Look at the control plane's log around this time.",
  });
}
