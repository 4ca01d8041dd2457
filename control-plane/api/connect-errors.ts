/**
 * What a failed call of the admin API ends with: Connect's code for tools, and in the details our Fault (stable code, hint), and where
 * manifests were refused every fault at its place. A cause never leaves. https://connectrpc.com/docs/protocol#error-codes
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ErrorCode, GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { ManifestFaultsSchema } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { toFault } from "@sluice/rpc/fault.ts";
import type { ManifestFault } from "../publish/check.ts";

/** Refused manifests: the error carries every fault with its place. */
export class ManifestsRefused extends GatewayError {
  readonly faults: readonly ManifestFault[];

  constructor(faults: readonly ManifestFault[]) {
    const count = faults.length === 1 ? "1 fault" : `${faults.length} faults`;
    super("config_invalid", `The manifests have ${count}; nothing was applied.`);
    this.faults = faults;
  }
}

/** gRPC carries details in a header, and its clients take some 8 KiB of headers. A quarter is left to the sentence and to base64. */
const GRPC_FAULTS_BYTES_MAX = 4_096;

/** Connect's own errors (a message too large, JSON that does not fit) stay as they are. Over `grpc` only the first faults are carried. */
export function toConnectError(thrown: unknown, protocol: string): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  const error = toGatewayError(thrown);
  const converted = new ConnectError(error.message, codeOf(error.code));
  converted.details.push({ desc: FaultSchema, value: toFault(error) });
  if (error instanceof ManifestsRefused) {
    const faults = protocol === "grpc" ? firstFaults(error.faults) : error.faults;
    const value: MessageInitShape<typeof ManifestFaultsSchema> = { faults: [...faults] };
    converted.details.push({ desc: ManifestFaultsSchema, value });
  }
  return converted;
}

function firstFaults(faults: readonly ManifestFault[]): readonly ManifestFault[] {
  let bytes = 0;
  const tooMany = faults.findIndex((fault) => {
    bytes += Buffer.byteLength(JSON.stringify(fault));
    return bytes > GRPC_FAULTS_BYTES_MAX;
  });
  return tooMany < 0 ? faults : faults.slice(0, tooMany);
}

const badRequest: readonly ErrorCode[] = ["protocol_violation", "config_invalid", "statement_invalid", "statement_too_long"];
const missing: readonly ErrorCode[] = ["not_found", "resource_unknown"];
const refused: readonly ErrorCode[] = ["denied", "needs_approval"];
const busy: readonly ErrorCode[] = ["too_many_connections", "limit_reached", "frame_too_large"];
const later: readonly ErrorCode[] = [
  "analysis_unavailable",
  "catalog_unavailable",
  "target_unreachable",
  "draining",
  "recording_unavailable",
  "agent_unavailable",
  "node_unreachable",
  "policy_stale",
];

/** Codes that are in no group are faults of this side. */
function codeOf(code: ErrorCode): Code {
  if (code === "unauthorized" || code === "login_failed" || code === "enrolment_refused") return Code.Unauthenticated;
  if (code === "unsupported") return Code.Unimplemented;
  if (badRequest.includes(code)) return Code.InvalidArgument;
  if (missing.includes(code)) return Code.NotFound;
  if (refused.includes(code)) return Code.PermissionDenied;
  if (busy.includes(code)) return Code.ResourceExhausted;
  if (later.includes(code)) return Code.Unavailable;
  return Code.Internal;
}
