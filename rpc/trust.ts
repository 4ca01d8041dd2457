/** Trust bundles and roles as they cross between nodes. What a newer node says and this one does not know is never taken for something else. */
import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { Role, type TrustBundle as TrustBundleMessage, TrustBundleSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { canonicalSerial, toPem } from "./identity/node-certificate.ts";
import type { TrustBundle } from "./node-identity.ts";
import type { NodeRole } from "./nodes.ts";

export function trustToProto(bundle: TrustBundle): TrustBundleMessage {
  return create(TrustBundleSchema, {
    authorities: bundle.authorities.map((pem) => new Uint8Array(new X509Certificate(pem).raw)),
    revokedSerials: [...bundle.revokedSerials],
  });
}

/** Throws `protocol_violation` when there is no authority in it, or something that is none. */
export function trustFromProto(message: TrustBundleMessage): TrustBundle {
  const authorities = message.authorities.map(authorityPem);
  if (authorities.length === 0) throw violated("names no authority");
  return { authorities, revokedSerials: new Set(message.revokedSerials.map(canonicalSerial)) };
}

export function roleToProto(role: NodeRole): Role {
  switch (role) {
    case "control-plane":
      return Role.CONTROL_PLANE;
    case "gateway":
      return Role.GATEWAY;
    case "agent":
      return Role.AGENT;
    case "recorder":
      return Role.RECORDER;
    default:
      return assertNever(role);
  }
}

/** Undefined for roles that only newer nodes know. */
export function roleFromProto(role: Role): NodeRole | undefined {
  if (role === Role.CONTROL_PLANE) return "control-plane";
  if (role === Role.GATEWAY) return "gateway";
  if (role === Role.AGENT) return "agent";
  return role === Role.RECORDER ? "recorder" : undefined;
}

function authorityPem(der: Uint8Array): string {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(Buffer.from(der));
  } catch (cause) {
    throw violated("holds something that is no certificate", cause);
  }
  if (!certificate.ca) throw violated("names a certificate that is no authority's");
  return toPem("CERTIFICATE", certificate.raw);
}

function violated(what: string, cause?: unknown): GatewayError {
  return new GatewayError("protocol_violation", `The control plane's word on whom to trust ${what}.`, { cause });
}
