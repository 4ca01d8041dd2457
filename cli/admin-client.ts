/**
 * Client of the admin API: Connect over HTTPS with the installation's CA, by the contracts in proto/sluice/admin/v1. It must never send
 * the token to a server whose certificate the CA does not verify, and never over plain HTTP.
 */
import {
  type DescMessage,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromJson,
  type JsonValue,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { GatewayError } from "@sluice/core/errors.ts";
import { AuthorityService } from "@sluice/proto/sluice/admin/v1/authority_pb.ts";
import { BindingService } from "@sluice/proto/sluice/admin/v1/binding_pb.ts";
import { ManifestFaultsSchema, ManifestService } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import { NodeService } from "@sluice/proto/sluice/admin/v1/node_pb.ts";
import { PolicyService } from "@sluice/proto/sluice/admin/v1/policy_pb.ts";
import { PrincipalService } from "@sluice/proto/sluice/admin/v1/principal_pb.ts";
import { SessionService } from "@sluice/proto/sluice/admin/v1/session_pb.ts";
import { TokenService } from "@sluice/proto/sluice/admin/v1/token_pb.ts";
import { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { toPlainJson } from "@sluice/rpc/plain-json.ts";
import { probe, type Readiness } from "./probe.ts";

export interface AdminAddress {
  /** `https://host:port`. */
  readonly url: string;
  readonly token: string;
  /** PEM text of the CA; the system's authorities when absent. */
  readonly ca?: string;
  /** What to do when nothing answers. */
  readonly unreachableHint: string;
}

/** A fault in something that was handed in, at its place. */
export interface AdminFault {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

/** What the API answered instead of a result. `code` is one of core's codes or a newer one. */
export class AdminError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly faults: readonly AdminFault[];

  constructor(code: string, message: string, hint: string | undefined, faults: readonly AdminFault[]) {
    super(message);
    this.name = "AdminError";
    this.code = code;
    this.hint = hint;
    this.faults = faults;
  }
}

export interface AdminClient {
  /**
   * Calls `<Service>/<Method>` with the request as JSON; returns the answer as plain JSON (rpc/plain-json.ts). Throws AdminError
   * (refused) or GatewayError (nobody there).
   */
  call(method: string, body: Readonly<Record<string, unknown>>): Promise<unknown>;
  /** The same for methods that answer a stream: its messages, as they come. */
  stream(method: string, body: Readonly<Record<string, unknown>>): AsyncGenerator;
  /** Whether it is ready, without the token. Throws what the connection threw. */
  probe(): Promise<Readiness>;
}

/** Silence for this long ends a call: the first explanation may wait 10 s for a catalog and 5 s for a parse. Milliseconds. */
const IDLE_TIMEOUT_MS = 60_000;
/** Answers of unary calls; a list of all sessions is the largest. Bytes. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

const services: readonly DescService[] = [
  AuthorityService,
  BindingService,
  ManifestService,
  NodeService,
  PolicyService,
  PrincipalService,
  SessionService,
  TokenService,
];

export function createAdminClient(address: AdminAddress): AdminClient {
  const transport = createConnectTransport({
    baseUrl: address.url,
    httpVersion: "1.1",
    useBinaryFormat: false,
    acceptCompression: [],
    readMaxBytes: ANSWER_BYTES_MAX,
    nodeOptions: { agent: false, ...(address.ca === undefined ? {} : { ca: address.ca }) },
  });
  return {
    call: async (name, body) => await callUnary(transport, address, name, body),
    stream: (name, body) => callStream(transport, address, name, body),
    probe: async () => await probe(new URL("/readyz", address.url), address.ca),
  };
}

async function callUnary(
  transport: Transport,
  address: AdminAddress,
  name: string,
  body: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  const method = methodsOf(name).find(isUnary);
  if (method === undefined) throw noSuchMethod(name);
  const silence = watchSilence(address);
  try {
    const request = requestOf(method, body);
    const { message } = await transport.unary(method, silence.signal, undefined, headersOf(address), request);
    return toPlainJson(method.output, message);
  } catch (error) {
    throw explain(error, address, silence.signal);
  } finally {
    silence.stop();
  }
}

async function* callStream(
  transport: Transport,
  address: AdminAddress,
  name: string,
  body: Readonly<Record<string, unknown>>,
): AsyncGenerator {
  const method = methodsOf(name).find(isServerStream);
  if (method === undefined) throw noSuchMethod(name);
  const silence = watchSilence(address);
  try {
    const request = requestOf(method, body);
    const requests = (async function* () {
      yield request;
    })();
    const { message: messages } = await transport.stream(method, silence.signal, undefined, headersOf(address), requests);
    for await (const message of messages) {
      silence.pause();
      yield toPlainJson(method.output, message);
      silence.resume();
    }
  } catch (error) {
    throw explain(error, address, silence.signal);
  } finally {
    silence.stop();
  }
}

/** The one of this name. */
function methodsOf(name: string): readonly DescMethod[] {
  const methods = services.flatMap((service) => service.methods);
  return methods.filter((method) => `${method.parent.typeName}/${method.name}` === `sluice.admin.v1.${name}`);
}

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

function isServerStream(method: DescMethod): method is DescMethodServerStreaming {
  return method.methodKind === "server_streaming";
}

function noSuchMethod(name: string): Error {
  return new Error(`the admin API has no method ${name} of this kind`);
}

/** What people wrote may not fit (`--as` with a field that is not known), so the answer is the installation's own for it. */
function requestOf({ input }: DescMethod, body: Readonly<Record<string, unknown>>): MessageShape<DescMessage> {
  try {
    return fromJson(input, body as JsonValue); // from our own commands, which put JSON into it
  } catch (error) {
    const problem = error instanceof Error ? error.message : "it does not fit";
    throw new AdminError("protocol_violation", `The request is not understood: ${problem}.`, undefined, []);
  }
}

function headersOf({ token }: AdminAddress): Headers {
  return new Headers({ authorization: `Bearer ${token}` });
}

interface Silence {
  readonly signal: AbortSignal;
  /** While our own reader takes its time. */
  readonly pause: () => void;
  readonly resume: () => void;
  readonly stop: () => void;
}

/** Aborts when nothing came for too long. `stop` also ends what still runs. */
function watchSilence({ url }: AdminAddress): Silence {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const resume = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const message = `${new URL(url).origin} did not answer within ${IDLE_TIMEOUT_MS / 1000} seconds.`;
      controller.abort(new GatewayError("internal", message));
    }, IDLE_TIMEOUT_MS);
  };
  resume();
  return {
    signal: controller.signal,
    pause: () => clearTimeout(timer),
    resume,
    stop: () => {
      clearTimeout(timer);
      controller.abort();
    },
  };
}

/** The installation's own words where it sent some; otherwise what went wrong on the way. */
function explain(thrown: unknown, address: AdminAddress, signal: AbortSignal): Error {
  const silent: unknown = signal.reason;
  if (silent instanceof GatewayError) return silent;
  if (!(thrown instanceof ConnectError)) {
    return thrown instanceof Error ? thrown : new Error(String(thrown));
  }
  const [fault] = thrown.findDetails(FaultSchema);
  if (fault !== undefined) {
    const faults = thrown.findDetails(ManifestFaultsSchema).flatMap((details) => details.faults);
    return new AdminError(fault.code, fault.message, fault.hint === "" ? undefined : fault.hint, faults);
  }
  const code = nodeCodeOf(thrown);
  return code === undefined ? explainWithoutFault(thrown, address) : explainFailure(code, thrown, address);
}

/** Connect wraps what node:https threw. Its code; undefined when it was nothing of that kind. */
function nodeCodeOf(error: ConnectError): string | undefined {
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") return cause.code;
  }
  return undefined;
}

function explainFailure(code: string, error: ConnectError, address: AdminAddress): GatewayError {
  const { origin } = new URL(address.url);
  if (code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EHOSTUNREACH") {
    return new GatewayError("not_found", `Nothing answers at ${origin}.`, { hint: address.unreachableHint, cause: error });
  }
  if (code === "ECONNRESET" || code === "EPIPE") return brokenOff(error);
  if (code.includes("CERT") || code.includes("SIGNATURE") || code.includes("ISSUER") || code.includes("ALTNAME")) {
    return new GatewayError("unauthorized", `The certificate of ${origin} was not accepted (${code}).`, {
      hint: "Give the installation's CA with --ca-file, or use the ready file of the running installation.",
      cause: error,
    });
  }
  return new GatewayError("internal", `The call to ${origin} failed (${code}).`, { cause: error });
}

function brokenOff(cause: unknown): GatewayError {
  return new GatewayError("internal", "The connection broke off before the answer's end.", {
    hint: "Is the installation shutting down, or is this another port than the admin API's (controlPlane.listen)? Try again.",
    cause,
  });
}

/** What Connect itself says on either side: sizes, shapes, methods that are not there. */
function explainWithoutFault(error: ConnectError, { url }: AdminAddress): Error {
  switch (error.code) {
    case Code.ResourceExhausted:
      return new AdminError("frame_too_large", `The request or its answer is too large: ${error.rawMessage}.`, undefined, []);
    case Code.InvalidArgument:
      return new AdminError("protocol_violation", `The request is not understood: ${error.rawMessage}.`, undefined, []);
    case Code.Unimplemented:
      return new AdminError(
        "unsupported",
        `The installation at ${new URL(url).origin} does not know this call.`,
        "Is it older than this command?",
        [],
      );
    case Code.Unauthenticated:
      return new AdminError("unauthorized", error.rawMessage, undefined, []);
    case Code.Unavailable:
    case Code.Aborted:
    case Code.Canceled:
      return brokenOff(error);
    default:
      return new AdminError("internal", `The admin API answered strangely: ${error.rawMessage}.`, undefined, []);
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
