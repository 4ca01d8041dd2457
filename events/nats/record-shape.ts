/**
 * Whether a record is of a shape that whoever keeps or counts it can work with. A signature says which gateway wrote a record, not that
 * the gateway is sane: one record that nobody can take would be offered for ever, and hold up those of all other gateways.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { SessionRecord } from "../session-events.ts";

/** The last moment that every calendar behind the bus can write. */
const TIME_MS_MAX = Date.UTC(9999, 11, 31);
/** No session has so many records; numbers beyond lose their last digits in JSON. */
const SEQUENCE_MAX = 2 ** 48;
/** The largest count that the index of sessions has room for. */
const COUNT_MAX = 2 ** 31 - 1;

/** `decodeRecord` has looked at the outer shape: id, kind, and that there is a body. */
export function isWellFormed(record: SessionRecord): boolean {
  return (
    Number.isFinite(record.atMs) &&
    record.atMs >= 0 &&
    record.atMs <= TIME_MS_MAX &&
    record.sequence <= SEQUENCE_MAX &&
    hasBody(record)
  );
}

/** What is typed came as JSON: each field that is used somewhere is looked at. */
function hasBody(record: SessionRecord): boolean {
  switch (record.kind) {
    case "opened": {
      const { resource, principal } = record.opened;
      if (typeof resource !== "string" || !isObject(principal)) return false;
      const { subject, issuer, groups } = principal;
      return [subject, issuer].every(isText) && Array.isArray(groups) && groups.every(isText);
    }
    case "statement": {
      const { number, phase, text, parameters, decision } = record.statement;
      return isCount(number) && isText(phase) && isText(text) && Array.isArray(parameters) && isObject(decision);
    }
    case "finished":
      return isFinished(record.finished);
    case "released":
      return record.finished === undefined || record.finished.every(isFinished);
    case "alert":
      return isText(record.alert.code) && isText(record.alert.message);
    case "closed": {
      const { code, statements, denied, masked } = record.closed;
      return isText(code) && [statements, denied, masked].every(isCount);
    }
    default:
      return assertNever(record);
  }
}

function isFinished(value: unknown): boolean {
  return isObject(value) && isCount(value["number"]) && isText(value["tag"]);
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= COUNT_MAX;
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
