/** What happens around every method of the admin API: failures become Connect's errors with ours in the details; unknown fields are refused. */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { StructSchema } from "@bufbuild/protobuf/wkt";
import type { Interceptor } from "@connectrpc/connect";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Logger } from "pino";
import { toConnectError } from "./connect-errors.ts";

/** Only what is a fault of ours is logged. */
export function convertFailures(log: Logger): Interceptor {
  return (next) => async (request) => {
    const protocol = (request.header.get("content-type") ?? "").startsWith("application/grpc") ? "grpc" : "connect";
    const convert = (thrown: unknown): Error => {
      const isOurs = !(thrown instanceof GatewayError) || thrown.code === "internal";
      if (isOurs && !request.signal.aborted) log.error({ err: thrown, method: request.method.name }, "admin API: a call failed");
      return toConnectError(thrown, protocol);
    };
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: converted(response.message, convert) } : response;
    } catch (error) {
      throw convert(error);
    }
  };
}

async function* converted<Item>(items: AsyncIterable<Item>, convert: (thrown: unknown) => Error): AsyncGenerator<Item> {
  try {
    yield* items;
  } catch (error) {
    throw convert(error);
  }
}

/** JSON with unknown fields is refused when it is parsed; this does the same for gRPC: an option must not be silently without effect. */
export const refuseUnknownFields: Interceptor = (next) => async (request) => {
  if (!request.stream) {
    requireKnown(request.method.input, request.message);
    return await next(request);
  }
  return await next({ ...request, message: known(request.method.input, request.message) });
};

async function* known<Item extends Message>(desc: DescMessage, messages: AsyncIterable<Item>): AsyncGenerator<Item> {
  for await (const message of messages) {
    requireKnown(desc, message);
    yield message;
  }
}

function requireKnown(desc: DescMessage, message: Message): void {
  if (!hasUnknown(desc, message)) return;
  throw new GatewayError("protocol_violation", "The request has a field that is not known here.", {
    hint: "Is the client newer than this installation?",
  });
}

function hasUnknown(desc: DescMessage, message: Message): boolean {
  if ((message.$unknown ?? []).length > 0) return true;
  const values = message as unknown as Readonly<Record<string, unknown>>; // generated code keeps each field under its local name
  return desc.fields.some((field) => {
    const inner = field.message;
    // A Struct is held as JSON, which has no unknown fields.
    if (inner === undefined || inner.typeName === StructSchema.typeName) return false;
    const value = values[field.localName];
    const items = field.fieldKind === "message" ? [value] : Object.values(value ?? {});
    return items.some((item) => item !== undefined && hasUnknown(inner, item as Message)); // of the type that the field says
  });
}
