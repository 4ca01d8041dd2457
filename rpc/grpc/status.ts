/**
 * GatewayError as gRPC status and back. The error itself travels as a serialised Fault in the trailers; the status is for tools
 * that know gRPC alone. Never a stack, never a cause.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Metadata, type ServiceError, status, type StatusObject } from "@grpc/grpc-js";
import { type ErrorCode, GatewayError } from "@sluice/core/errors.ts";
import { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { fromFault, toFault } from "../fault.ts";

const FAULT_KEY = "sluice-fault-bin";

/** What a call ends with when its handler threw. */
export function toStatus(thrown: unknown): StatusObject {
  const fault = toFault(thrown);
  const metadata = new Metadata();
  metadata.set(FAULT_KEY, Buffer.from(toBinary(FaultSchema, fault)));
  // toFault gives codes of our own alone.
  return { code: statusOf(fault.code as ErrorCode), details: fault.message, metadata };
}

/** The fault that the peer gave; null when the call failed in some other way. */
export function peersFault(error: Pick<ServiceError, "metadata">): GatewayError | null {
  const [bytes] = error.metadata?.get(FAULT_KEY) ?? [];
  if (!(bytes instanceof Buffer)) return null;
  try {
    return fromFault(fromBinary(FaultSchema, bytes));
  } catch {
    return null;
  }
}

/** What a failed call means to whoever made it. `whom` is for the sentence: "the gateway g1 at 10.0.0.1:7443". */
export function toError(error: ServiceError, whom: string): GatewayError {
  const fault = peersFault(error);
  if (fault !== null) return fault;
  switch (error.code) {
    case status.UNAUTHENTICATED:
    case status.PERMISSION_DENIED:
      return new GatewayError("unauthorized", `${whom} does not allow this call.`, { cause: error });
    case status.UNIMPLEMENTED:
      return new GatewayError("incompatible", `${whom} does not know this call.`, {
        hint: "It is probably older than this node. Upgrade it: nodes work together over one version.",
        cause: error,
      });
    case status.RESOURCE_EXHAUSTED:
      return new GatewayError("frame_too_large", `A message to or from ${whom} is larger than the limit.`, {
        hint: "Raise limits.nodeMessageBytesMax on both sides.",
        cause: error,
      });
    case status.DEADLINE_EXCEEDED:
      return new GatewayError("node_unreachable", `${whom} did not answer in time.`, { cause: error });
    case status.UNAVAILABLE:
    case status.CANCELLED:
      return unreachable(whom, error);
    default:
      return new GatewayError("internal", `A call to ${whom} failed.`, { cause: error });
  }
}

export function unreachable(whom: string, cause: unknown): GatewayError {
  return new GatewayError("node_unreachable", `${whom} cannot be reached.`, {
    hint: "Check that it runs, and that its address and the network between allow the connection.",
    cause,
  });
}

function statusOf(code: ErrorCode): status {
  switch (code) {
    case "unauthorized":
    case "enrolment_refused":
      return status.PERMISSION_DENIED;
    case "not_found":
    case "resource_unknown":
      return status.NOT_FOUND;
    case "internal":
      return status.INTERNAL;
    case "too_many_connections":
    case "limit_reached":
    case "frame_too_large":
      return status.RESOURCE_EXHAUSTED;
    default:
      return status.FAILED_PRECONDITION;
  }
}
