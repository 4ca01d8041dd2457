/**
 * Checks a document against its schema and says what is wrong in words. One sentence a fault; a value is repeated only where it
 * is a short word out of a closed list, since anything else could be a secret in the wrong place.
 */
import { didYouMean } from "@sluice/core/did-you-mean.ts";
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js";
import type { SchemaValidateFunction } from "ajv/dist/types/index.js";
import { type CheckFault, checks } from "./checks.ts";
import type { ValuePath } from "./fault.ts";
import { showPath } from "./fault.ts";
import type { Schema } from "./schema/words.ts";

export interface SchemaFault {
  readonly path: ValuePath;
  readonly message: string;
}

export type Validator = (value: unknown) => readonly SchemaFault[];

/** Compiles a schema; the validator returns every fault, in no particular order. */
export function validatorOf(schema: Schema): Validator {
  let check: ValidateFunction | undefined;
  return (value) => {
    check ??= ajv.compile(schema); // compiling costs milliseconds: only kinds that are used
    if (check(value)) return [];
    const errors = check.errors ?? [];
    const shaped = errors.flatMap((error) => {
      const path = pathOf(error.instancePath, value);
      const message = messageOf(error, path);
      return message === undefined ? [] : [{ path: blamed(error, path), message }];
    });
    // What has the wrong shape is not checked further: one fault a place.
    const taken = new Set(shaped.map(({ path }) => showPath(path)));
    const checked = errors.flatMap((error) => checkFaults(error, value)).filter(({ path }) => !taken.has(showPath(path)));
    return [...new Map([...shaped, ...checked].map((fault) => [JSON.stringify(fault), fault])).values()];
  };
}

const ajv = new Ajv2020({
  allErrors: true,
  verbose: true,
  discriminator: true,
  strict: true,
  strictRequired: false,
  allowUnionTypes: true,
  keywords: ["x-says", { keyword: "x-check", schemaType: "string", errors: "full", validate: runCheck() }],
});

/** Runs a named check; its faults travel in the error's parameters, since they may stand deeper than the value checked. */
function runCheck(): SchemaValidateFunction {
  const validate: SchemaValidateFunction = (name: string, value: unknown): boolean => {
    const check = checks[name];
    if (check === undefined) throw new Error(`there is no check ${name}`);
    const faults = check(value);
    validate.errors = faults.map((fault) => ({ keyword: CHECK, params: { fault } }));
    return faults.length === 0;
  };
  return validate;
}

const CHECK = "x-check";

function checkFaults(error: ErrorObject, root: unknown): readonly SchemaFault[] {
  if (error.keyword !== CHECK) return [];
  const { path: inner, says } = error.params["fault"] as CheckFault; // put there by runCheck
  const path = [...pathOf(error.instancePath, root), ...inner];
  return [{ path, message: says(showPath(path)) }];
}

/** An unknown field is blamed itself, everything else where it stands. */
function blamed(error: ErrorObject, path: ValuePath): ValuePath {
  return error.keyword === "additionalProperties" ? [...path, textParam(error, "additionalProperty")] : path;
}

function messageOf(error: ErrorObject, path: ValuePath): string | undefined {
  const where = showPath(path);
  const says = saysOf(error);
  switch (error.keyword) {
    case "if": // tells only that a branch failed; the branch's own faults say more
    case "oneOf":
    case "allOf":
    case CHECK: // reported beside
      return undefined;
    case "additionalProperties":
      return unknownField(error, where, path);
    case "required":
      return `${where} lacks the field '${textParam(error, "missingProperty")}'`;
    case "discriminator":
      return unknownEffect(error, where);
    case "type":
      return `${where} must be ${typeName(error.params["type"])}, not ${describe(error.data, error.params["type"])}`;
    case "const":
      return `${where} must be '${String(error.params["allowedValue"])}'${notThat(error.data, path)}`;
    case "enum":
      return says === undefined ? oneOf(error, where, path) : `${where} must be ${says}`;
    case "minimum":
      return `${where} must be at least ${String(error.params["limit"])}`;
    case "maximum":
      return `${where} must be at most ${String(error.params["limit"])}`;
    case "minItems":
      return `${where} must have at least ${count(error, "entry", "entries")}`;
    case "maxItems":
      return `${where} must have at most ${count(error, "entry", "entries")}`;
    case "uniqueItems":
      return `${where} holds the same entry twice`;
    case "minProperties":
      return says === undefined ? `${where} must have at least ${count(error, "field", "fields")}` : `${where} must have ${says}`;
    case "maxProperties":
      return says === undefined ? `${where} must have at most ${count(error, "field", "fields")}` : `${where} must have ${says}`;
    case "minLength":
    case "maxLength":
    case "pattern":
      return `${where} must be ${says ?? lengthOf(error)}`;
    default:
      return `${where} ${error.message ?? "is not valid"}`;
  }
}

function unknownField(error: ErrorObject, where: string, path: ValuePath): string {
  const field = textParam(error, "additionalProperty");
  const known = Object.keys((error.parentSchema?.["properties"] ?? {}) as Record<string, unknown>); // `properties` of a schema is an object
  // Where the name is not repeated a guess at it helps nobody.
  const guess = maySecret(path) ? undefined : didYouMean(field, known);
  const help = guess === undefined ? `Fields here are ${known.join(", ")}.` : `Did you mean '${guess}'?`;
  const name = maySecret(path) ? "of this name" : `'${shorten(field)}'`;
  return `${where} has no field ${name}. ${help}`;
}

function unknownEffect(error: ErrorObject, where: string): string {
  const value: unknown = error.params["tagValue"];
  if (value === undefined) return `${where} lacks the field 'effect'`;
  const guess = typeof value === "string" ? didYouMean(value, effects) : undefined;
  return `${where}.effect must be one of ${effects.join(", ")}.${guess === undefined ? "" : ` Did you mean '${guess}'?`}`;
}

const effects: readonly string[] = ["allow", "mask", "limit", "approve", "deny"];

function oneOf(error: ErrorObject, where: string, path: ValuePath): string {
  const allowed = (error.params["allowedValues"] as readonly unknown[]).map(String); // ajv's own list
  const guess = typeof error.data === "string" ? didYouMean(error.data, allowed) : undefined;
  const list = allowed.length === 1 ? `'${allowed[0] ?? ""}'` : `one of ${allowed.join(", ")}`;
  return `${where} must be ${list}${notThat(error.data, path)}${guess === undefined ? "" : `. Did you mean '${guess}'?`}`;
}

/** Repeats a short word that was given, but nothing that stands where a secret might. */
function notThat(value: unknown, path: ValuePath): string {
  if (maySecret(path) || typeof value !== "string" || !/^[\w./-]{1,40}$/.test(value)) return "";
  return `, not '${value}'`;
}

/** Where people paste passwords by mistake. */
function maySecret(path: ValuePath): boolean {
  return path.some((part) => typeof part === "string" && secretPlaces.has(part));
}

const secretPlaces: ReadonlySet<string> = new Set(["credential", "credentials", "secrets", "join", "auth", "encryptionKey"]);

function saysOf(error: ErrorObject): string | undefined {
  const says: unknown = error.parentSchema?.["x-says"];
  return typeof says === "string" ? says : undefined;
}

function lengthOf(error: ErrorObject): string {
  const limit = String(error.params["limit"] ?? "");
  return error.keyword === "maxLength" ? `at most ${limit} characters long` : "a text that is not empty";
}

function count(error: ErrorObject, one: string, several: string): string {
  const limit: unknown = error.params["limit"];
  return limit === 1 ? `one ${one}` : `${String(limit)} ${several}`;
}

function typeName(type: unknown): string {
  switch (type) {
    case "string":
      return "text (in quotes where YAML would read something else)";
    case "integer":
      return "a whole number";
    case "number":
      return "a number";
    case "boolean":
      return "true or false";
    case "array":
      return "a list";
    case "object":
      return "a mapping (fields with values)";
    default:
      return String(type);
  }
}

function describe(value: unknown, wanted: unknown): string {
  if (value === null) return "empty";
  if (Array.isArray(value)) return "a list";
  switch (typeof value) {
    case "object":
      return "a mapping";
    case "string":
      return "text";
    case "number":
      return wanted === "integer" ? "a fraction" : "a number";
    case "boolean":
      return "true or false";
    default:
      return "something else";
  }
}

function textParam(error: ErrorObject, name: string): string {
  const value: unknown = error.params[name];
  return typeof value === "string" ? value : "";
}

function shorten(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/** From the pointer of a schema error to a path; digits are indexes only where the value is a list. */
function pathOf(pointer: string, root: unknown): ValuePath {
  const path: (string | number)[] = [];
  let value = root;
  for (const raw of pointer.split("/").slice(1)) {
    const key = raw.replaceAll("~1", "/").replaceAll("~0", "~");
    const part = Array.isArray(value) ? Number(key) : key;
    path.push(part);
    value = typeof value === "object" && value !== null ? (value as Record<string | number, unknown>)[part] : undefined; // lists and objects alike
  }
  return path;
}
