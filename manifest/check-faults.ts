/** What checks beyond JSON Schema give, and how they look at values of which nothing is known yet. */
import type { ValuePath } from "./fault.ts";

export interface CheckFault {
  /** From the checked value on. */
  readonly path: ValuePath;
  /** The sentence; takes the place as people write it. */
  readonly says: (where: string) => string;
}

export type Check = (value: unknown) => readonly CheckFault[];

export function here(says: (where: string) => string): readonly CheckFault[] {
  return [{ path: [], says }];
}

/** A check of texts; silent about everything else. `wanted` ends the sentence "… must be". */
export function textCheck(fits: (text: string) => boolean, wanted: string): Check {
  return (value) => (typeof value === "string" && !fits(value) ? here((where) => `${where} must be ${wanted}`) : []);
}

/** Exactly one of these fields, whatever else there is. */
export function exactlyOneOf(...fields: readonly string[]): Check {
  const names = `${fields.slice(0, -1).join(", ")} and ${fields.at(-1) ?? ""}`;
  return (value) =>
    isMapping(value) && fields.filter((field) => value[field] !== undefined).length !== 1
      ? here((where) => `${where} must name exactly one of ${names}`)
      : [];
}

export function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value where it is a mapping, else an empty one. */
export function mapping(value: unknown): Readonly<Record<string, unknown>> {
  return isMapping(value) ? value : {};
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
