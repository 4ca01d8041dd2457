/**
 * gRPC between nodes: protobuf-es services over grpc-js, always mTLS with the nodes' own certificates, which may change while
 * servers and channels run. Implemented in `rpc/grpc/`. Every call has a deadline or is a stream that keepalive watches.
 */
import type { DescMethod, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { ListenAddress } from "@sluice/core/config.ts";
import type { NodeCertificate, NodeRole } from "./nodes.ts";

/** Who calls. Null only on servers that allow calls without a client certificate (enrolment). */
export interface CallContext {
  readonly peer: NodeCertificate | null;
  /** `address:port` of the caller. */
  readonly peerAddress: string;
  /** Aborts when the caller has gone or the server closes. */
  readonly signal: AbortSignal;
}

/** A handler's GatewayError reaches the caller as the same code, message and hint; anything else as `internal`. */
export type ServiceHandlers<Service extends DescService> = {
  readonly [Name in keyof Service["method"]]: HandlerOf<Service["method"][Name]>;
};

type HandlerOf<Method extends DescMethod> = Method["methodKind"] extends "unary"
  ? (request: MessageShape<Method["input"]>, context: CallContext) => Promise<MessageInitShape<Method["output"]>>
  : Method["methodKind"] extends "server_streaming"
    ? (request: MessageShape<Method["input"]>, context: CallContext) => AsyncIterable<MessageInitShape<Method["output"]>>
    : Method["methodKind"] extends "client_streaming"
      ? (
          requests: AsyncIterable<MessageShape<Method["input"]>>,
          context: CallContext,
        ) => Promise<MessageInitShape<Method["output"]>>
      : (
          requests: AsyncIterable<MessageShape<Method["input"]>>,
          context: CallContext,
        ) => AsyncIterable<MessageInitShape<Method["output"]>>;

export interface ServedService {
  readonly service: DescService;
  readonly handlers: unknown;
  /** Roles that may call it; checked against the certificate before the handler runs. Null: anybody, also without one. */
  readonly roles: readonly NodeRole[] | null;
}

export interface GrpcServer {
  /** `host:port` as bound. */
  readonly address: string;
  /** Ends streams, lets calls finish within `graceMs`, then cuts. */
  close(graceMs: number): Promise<void>;
}

export interface GrpcServeOptions {
  readonly listen: ListenAddress;
  readonly services: readonly ServedService[];
  /** Largest message. Bytes. */
  readonly messageBytesMax: number;
}

/** Where and whom to dial: the certificate must be of this role and (but for control planes) name. */
export interface PeerAddress {
  readonly address: string;
  readonly role: NodeRole;
  readonly name: string;
}

export interface GrpcChannel {
  /** Errors: GatewayError as the peer gave it, or `node_unreachable`. Retried (bounded, with jitter) only with `idempotent`. */
  unary<Method extends DescMethod>(
    method: Method,
    request: MessageInitShape<Method["input"]>,
    options: { readonly deadlineMs: number; readonly idempotent?: boolean; readonly signal?: AbortSignal },
  ): Promise<MessageShape<Method["output"]>>;
  serverStream<Method extends DescMethod>(
    method: Method,
    request: MessageInitShape<Method["input"]>,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<MessageShape<Method["output"]>>;
  clientStream<Method extends DescMethod>(
    method: Method,
    requests: AsyncIterable<MessageInitShape<Method["input"]>>,
    options: { readonly deadlineMs: number; readonly signal?: AbortSignal },
  ): Promise<MessageShape<Method["output"]>>;
  /** Both directions; ends when either side ends. What is sent is bounded: `send` says false when the peer does not keep up. */
  duplex<Method extends DescMethod>(method: Method, options: { readonly signal: AbortSignal }): DuplexCall<Method>;
  close(): void;
}

export interface DuplexCall<Method extends DescMethod> {
  /** False: not taken, because too much waits already or the stream has ended. */
  send(message: MessageInitShape<Method["input"]>): boolean;
  /** What was sent still goes; more may be received. */
  end(): void;
  /** Read it once. Throws GatewayError when the stream ended otherwise than in good order, also when its signal was aborted. */
  readonly received: AsyncIterable<MessageShape<Method["output"]>>;
}
