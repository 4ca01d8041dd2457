/**
 * Messages of the admin API as the plain JSON that people and scripts read: numbers stay numbers, what is not set is null, times are
 * RFC 3339 in UTC with milliseconds. The JSON of protobuf writes large numbers as texts and leaves out what is not set, so that the
 * objects of one list would not have the same fields.
 */
import type { DescField, DescMessage, JsonObject, JsonValue, MessageShape } from "@bufbuild/protobuf";
import { StructSchema, type Timestamp, timestampDate, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { assertNever } from "@sluice/core/assert-never.ts";

/** Every field by its JSON name. Integers beyond 2^53 are rounded: none of ours get there. Enums, bytes and oneofs are not meant for it. */
export function toPlainJson<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): JsonObject {
  return plainMessage(desc, message);
}

function plainMessage(desc: DescMessage, message: unknown): JsonObject {
  // Generated code keeps each field under its local name.
  const values = message as Readonly<Record<string, unknown>>;
  return Object.fromEntries(desc.fields.map((field) => [field.jsonName, plainField(field, values[field.localName])]));
}

function plainField(field: DescField, value: unknown): JsonValue {
  switch (field.fieldKind) {
    case "list":
      return (value as readonly unknown[]).map((item) => plainItem(field.message, item)); // a list always has its array
    case "map": {
      const entries = Object.entries(value as Readonly<Record<string, unknown>>); // a map always has its object
      return Object.fromEntries(entries.map(([key, item]) => [key, plainItem(field.message, item)]));
    }
    case "message":
    case "scalar":
    case "enum":
      return value === undefined ? null : plainItem(field.message, value);
    default:
      return assertNever(field);
  }
}

function plainItem(desc: DescMessage | undefined, value: unknown): JsonValue {
  if (desc === undefined) return plainScalar(value);
  if (desc.typeName === TimestampSchema.typeName) return timestampDate(value as Timestamp).toISOString(); // by its type's name
  if (desc.typeName === StructSchema.typeName) return value as JsonObject; // generated code holds it as JSON already
  return plainMessage(desc, value);
}

function plainScalar(value: unknown): JsonValue {
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  throw new Error("a field of this kind has no plain JSON");
}
