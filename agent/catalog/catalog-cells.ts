/**
 * Cells of the answers to catalog queries, made values. What is not as the queries promise is an error, never a guess: analysis rests
 * on it.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { QueryRow } from "../targets/postgres/query.ts";

export type Cell = QueryRow[number] | undefined;

/** Throws `target_protocol` for NULL and for a column that is not there. */
export function text(value: Cell): string {
  if (value === null || value === undefined) throw unexpected("missing value");
  return value;
}

export function number(value: Cell): number {
  const parsed = Number(text(value));
  if (!Number.isSafeInteger(parsed)) throw unexpected("number");
  return parsed;
}

/** Of parsed JSON. */
export function numbersIn(values: unknown): readonly number[] {
  if (!Array.isArray(values) || !values.every((value) => typeof value === "number")) throw unexpected("list of numbers");
  return values;
}

/** Every session has a temporary schema of its own number; by name they are all `pg_temp`. */
export function schemaName(schema: string): string {
  return schema.replace(/^(pg_temp|pg_toast_temp)_\d+$/, "$1");
}

export function unexpected(what: string): GatewayError {
  return new GatewayError("target_protocol", `The database's catalog holds an unexpected ${what}.`);
}
