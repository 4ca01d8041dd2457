/**
 * Runs handlers (async functions and iterables) as grpc-js calls. Reads from a caller only as fast as the handler takes, writes
 * only as fast as the caller reads. A handler that throws ends its own call and nothing else.
 */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type {
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  sendUnaryData,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Logger } from "pino";
import type { CallContext, ServedService } from "../grpc.ts";
import { methodDefinition } from "./methods.ts";
import type { CallerFacts, RunningCalls } from "./running-calls.ts";
import { toStatus } from "./status.ts";

export function serviceDefinition(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.localName, methodDefinition(method)]));
}

export function serviceImplementation(served: ServedService, calls: RunningCalls, log: Logger): UntypedServiceImplementation {
  // `implement` checked the handlers against the service; from here on grpc-js knows messages as unknown.
  const handlers = served.handlers as Readonly<Record<string, Handler>>;
  return Object.fromEntries(
    served.service.methods.map((method) => {
      const handler = handlers[method.localName];
      if (handler === undefined) throw new Error(`${method.parent.typeName} is served without its method ${method.name}`);
      return [method.localName, callOf(method, { handler: handler.bind(handlers), served, calls, log })];
    }),
  );
}

/** Any of the four shapes of rpc/grpc.ts; which one it is stands in the method. */
type Handler = (input: never, context: CallContext) => unknown;

interface Serving {
  readonly handler: Handler;
  readonly served: ServedService;
  readonly calls: RunningCalls;
  readonly log: Logger;
}

type Unary = ServerUnaryCall<unknown, unknown>;
type Incoming = ServerReadableStream<unknown, unknown>;
type Outgoing = ServerWritableStream<unknown, unknown>;
type Both = ServerDuplexStream<unknown, unknown>;

function callOf(method: DescMethod, serving: Serving): UntypedServiceImplementation[string] {
  switch (method.methodKind) {
    case "unary":
      return (call: Unary, done: sendUnaryData<unknown>) => void answerOnce(call, call.request, done, serving);
    case "client_streaming":
      return (call: Incoming, done: sendUnaryData<unknown>) => {
        call.on("error", () => undefined); // told by the iterator as well
        void answerOnce(call, call.iterator({ destroyOnReturn: false }), done, serving);
      };
    case "server_streaming":
      return (call: Outgoing) => void answerMany(call, call.request, serving);
    case "bidi_streaming":
      return (call: Both) => void answerMany(call, call.iterator({ destroyOnReturn: false }), serving);
    default:
      throw new Error("a method of a kind that is not known");
  }
}

async function answerOnce(call: Unary | Incoming, input: unknown, done: sendUnaryData<unknown>, serving: Serving): Promise<void> {
  let answered = false;
  const answer = (error: unknown, value: unknown): void => {
    if (answered) return;
    answered = true;
    if (error === null) done(null, value);
    else done(toStatus(error));
  };
  try {
    const { calls, served, handler } = serving;
    const running = calls.begin(callerOf(call), served.roles, "iterator" in call, (error) => answer(error, null));
    call.on("cancelled", running.gone);
    try {
      answer(null, await handler(input as never, running.context)); // the method's own input, see callOf
    } finally {
      running.finish();
    }
  } catch (error) {
    logFault(error, call, serving.log);
    answer(error, null);
  }
}

async function answerMany(call: Outgoing | Both, input: unknown, serving: Serving): Promise<void> {
  // grpc-js ends the call with the status that an error event carries; nothing may be written afterwards.
  let over = false;
  const fail = (error: unknown): void => {
    if (over) return;
    over = true;
    call.emit("error", toStatus(error));
  };
  call.on("error", () => {
    over = true;
  });
  try {
    const { calls, served, handler } = serving;
    const running = calls.begin(callerOf(call), served.roles, true, fail);
    call.on("cancelled", () => {
      over = true;
      running.gone();
    });
    try {
      await writeAll(
        call,
        handler(input as never, running.context) as AsyncIterable<unknown>,
        running.context.signal,
        () => over,
      );
    } finally {
      running.finish();
    }
    if (!over) {
      over = true;
      call.end();
    }
  } catch (error) {
    if (!over) logFault(error, call, serving.log);
    fail(error);
  }
}

/** Takes the handler's messages one by one, each when the one before has room. Stops with the signal, whatever the handler waits for. */
async function writeAll(
  call: Outgoing | Both,
  messages: AsyncIterable<unknown>,
  signal: AbortSignal,
  isOver: () => boolean,
): Promise<void> {
  const iterator = messages[Symbol.asyncIterator]();
  try {
    while (!isOver() && !signal.aborted) {
      const next = await unlessAborted(iterator.next(), signal);
      if (next === "aborted" || isOver()) break;
      if (next.done === true) return;
      if (!call.write(next.value)) {
        await unlessAborted(new Promise<void>((resolve) => call.once("drain", resolve)), signal);
      }
    }
  } finally {
    // Not awaited: a generator that waits for something cannot return before that; its signal tells it.
    iterator.return?.().catch(() => undefined);
  }
}

/** Not Promise.race with one promise for the whole stream: that would keep something of every message until the stream ends. */
async function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value | "aborted"> {
  return await new Promise<Value | "aborted">((resolve, reject) => {
    const aborted = (): void => resolve("aborted");
    signal.addEventListener("abort", aborted, { once: true });
    if (signal.aborted) aborted();
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}

function callerOf(call: Unary | Incoming | Outgoing | Both): CallerFacts {
  const raw = call.getAuthContext().sslPeerCertificate?.raw;
  return { address: call.getPeer(), certificate: raw ?? null };
}

/** What is no GatewayError is a bug, and its caller is told nothing: the log is the only place. */
function logFault(error: unknown, call: { getPath(): string }, log: Logger): void {
  if (error instanceof GatewayError && error.code !== "internal") return;
  log.error({ err: error, call: call.getPath() }, "a call of another node failed unexpectedly");
}
