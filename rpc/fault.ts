/**
 * Errors as they cross between nodes: GatewayError to Fault and back, on gRPC calls and on session connections alike. The cause
 * never crosses, and what is not a GatewayError crosses as `internal` without a word of its own.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type ErrorCode, GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { type Fault, FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";

/** Texts beyond this are cut, in both directions: faults travel in trailers, which have room for some KiB. Characters. */
const TEXT_CHARS_MAX = 1_000;
const DETAILS_MAX = 16;

/** For any message's field of the type Fault. */
export function toFault(thrown: unknown): Fault {
  const error = toGatewayError(thrown);
  const detail = Object.entries(error.detail ?? {}).slice(0, DETAILS_MAX);
  const init: MessageInitShape<typeof FaultSchema> = {
    code: error.code,
    message: cut(error.message),
    hint: cut(error.hint ?? ""),
    detail: Object.fromEntries(detail.map(([name, value]) => [cut(name), cut(value)])),
  };
  return create(FaultSchema, init);
}

/** What another node said went wrong. A code that only newer nodes know becomes `internal`, its text stays. */
export function fromFault(fault: Fault): GatewayError {
  const { code } = fault;
  const known = isErrorCode(code);
  const hint = cut(fault.hint);
  const given = Object.entries(fault.detail).slice(0, DETAILS_MAX);
  const detail = {
    ...Object.fromEntries(given.map(([name, value]) => [cut(name), cut(value)])),
    ...(known ? {} : { code: cut(code) }),
  };
  return new GatewayError(known ? code : "internal", cut(fault.message), {
    ...(hint === "" ? {} : { hint }),
    ...(Object.keys(detail).length === 0 ? {} : { detail }),
  });
}

function cut(text: string): string {
  return text.length <= TEXT_CHARS_MAX ? text : `${text.slice(0, TEXT_CHARS_MAX - 1)}…`;
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(codes, code);
}

/** Types are gone while running: this names every code once more, and the compiler sees to it that none is missing. */
const codes: Readonly<Record<ErrorCode, true>> = {
  login_failed: true,
  login_timeout: true,
  too_many_connections: true,
  resource_unknown: true,
  tls_required: true,
  denied: true,
  needs_approval: true,
  limit_reached: true,
  unsupported: true,
  protocol_violation: true,
  frame_too_large: true,
  statement_too_long: true,
  statement_invalid: true,
  analysis_unavailable: true,
  cancelled: true,
  catalog_unavailable: true,
  ddl_unannounced: true,
  target_unreachable: true,
  target_auth_failed: true,
  target_protocol: true,
  target_closed: true,
  secret_unavailable: true,
  agent_unavailable: true,
  policy_stale: true,
  recording_unavailable: true,
  killed: true,
  draining: true,
  config_invalid: true,
  not_found: true,
  unauthorized: true,
  enrolment_refused: true,
  incompatible: true,
  node_unreachable: true,
  internal: true,
};
