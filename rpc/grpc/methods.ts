/** Protobuf services as grpc-js wants them: a path and four functions a method. What an older peer does not know it drops here. */
import { create, type DescMethod, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { MethodDefinition } from "@grpc/grpc-js";

export function methodDefinition(method: DescMethod): MethodDefinition<unknown, unknown> {
  const { input, output, methodKind } = method;
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: methodKind === "client_streaming" || methodKind === "bidi_streaming",
    responseStream: methodKind === "server_streaming" || methodKind === "bidi_streaming",
    requestSerialize: (value) => encode(input, value),
    requestDeserialize: (bytes) => fromBinary(input, bytes, { readUnknownFields: false }),
    responseSerialize: (value) => encode(output, value),
    responseDeserialize: (bytes) => fromBinary(output, bytes, { readUnknownFields: false }),
  };
}

function encode(schema: DescMethod["input"], value: unknown): Buffer {
  // rpc/grpc.ts types what callers and handlers give as inits of this very schema; grpc-js hands it on untyped.
  const bytes = toBinary(schema, create(schema, value as MessageInitShape<DescMethod["input"]>));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
