/**
 * Whether what an agent sent is a catalog, all of it: the gateway's other parts take it at its word, and what one of them stumbles over
 * would be handed to it again and again. Bounded before it is parsed: a few KiB can unpack into what fills the memory.
 */
import type { Catalog } from "@sluice/core/catalog.ts";
import type { Protocol } from "@sluice/core/snapshot.ts";

/** Below this a text cannot become much, whatever it holds. */
const LOOKED_AT_BYTES = 16 * 1024 * 1024;
/** Values of one row of a catalog, on average, with room: relations have fourteen, columns six. */
const VALUES_PER_ROW = 8;

/** False for a text of more values than `rowsMax` rows can have. */
export function isOfBoundedSize(json: Uint8Array, rowsMax: number): boolean {
  if (json.length <= LOOKED_AT_BYTES) return true;
  let values = 0;
  let inText = false;
  for (let at = 0; at < json.length; at += 1) {
    const byte = json[at];
    if (inText) {
      if (byte === 0x5c)
        at += 1; // backslash: what follows it ends nothing
      else if (byte === 0x22) inText = false;
    } else if (byte === 0x22) inText = true;
    else if (byte === 0x2c || byte === 0x5b || byte === 0x7b) values += 1;
  }
  return values <= rowsMax * VALUES_PER_ROW;
}

/** `rowsMax`: relations, columns, functions and types together; an agent reads no more. */
export function isCatalog(value: unknown, protocol: Protocol, rowsMax: number): value is Catalog {
  if (!isObject(value) || !isText(value["epoch"]) || value["protocol"] !== protocol || !isNumber(value["serverVersion"]))
    return false;
  const { relations, functions, builtinFunctions, userOperators, userTypes, databaseOid, readAs } = value;
  const { operators = [], userCasts = [], eventFunctions = [] } = value;
  return (
    (databaseOid === undefined || isNumber(databaseOid)) &&
    (readAs === undefined || isReader(readAs)) &&
    isListOf(relations, isRelation) &&
    isListOf(functions, isFunction) &&
    isListOf(builtinFunctions, isText) &&
    isListOf(userOperators, isText) &&
    isListOf(userTypes, isType) &&
    isListOf(operators, isOperator) &&
    isListOf(userCasts, isCast) &&
    isListOf(eventFunctions, isText) &&
    rowsOf([relations, functions, builtinFunctions, userOperators, userTypes, operators, userCasts], relations) <= rowsMax
  );
}

function isType(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { schema, name, kind, oid, parts, code, checks, takesText } = value;
  return (
    [schema, name, kind].every(isText) &&
    (oid === undefined || isNumber(oid)) &&
    (parts === undefined || isListOf(parts, isNumber)) &&
    [code, checks].every((names) => names === undefined || isListOf(names, isText)) &&
    (takesText === undefined || takesText === true)
  );
}

function isOperator(value: unknown): boolean {
  return (
    isObject(value) &&
    [value["schema"], value["name"]].every(isText) &&
    isListOf(value["operands"], isNumber) &&
    isListOf(value["functions"], isText)
  );
}

function isCast(value: unknown): boolean {
  return (
    isObject(value) &&
    isCastSide(value["source"]) &&
    isCastSide(value["target"]) &&
    castContexts.has(value["context"]) &&
    isText(value["function"])
  );
}

const castContexts: ReadonlySet<unknown> = new Set(["explicit", "assignment", "implicit"]);

function isCastSide(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { typeOid, schema, name, rowOf } = value;
  return isNumber(typeOid) && isText(schema) && isText(name) && (rowOf === undefined || isNumber(rowOf));
}

function isReader(value: unknown): boolean {
  return isObject(value) && isText(value["role"]) && isListOf(value["usableSchemas"], isText);
}

function rowsOf(lists: readonly (readonly unknown[])[], relations: readonly { readonly columns: readonly unknown[] }[]): number {
  return (
    lists.reduce((rows, { length }) => rows + length, 0) +
    relations.reduce((columns, relation) => columns + relation.columns.length, 0)
  );
}

function isRelation(value: unknown): value is { readonly columns: readonly unknown[] } {
  if (!isObject(value)) return false;
  const { oid, schema, name, kind, system, columns, definition, parents, estimatedRows, hiddenFunctions, readingFunctions } =
    value;
  return (
    isNumber(oid) &&
    [schema, name, kind].every(isText) &&
    typeof system === "boolean" &&
    isListOf(columns, isColumn) &&
    (definition === undefined || isText(definition)) &&
    isListOf(parents, isNumber) &&
    isNumber(estimatedRows) &&
    isListOf(hiddenFunctions, isText) &&
    (readingFunctions === undefined || isListOf(readingFunctions, isText))
  );
}

function isColumn(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { number, name, typeOid, generatedFrom, rowOf } = value;
  return (
    isNumber(number) &&
    isText(name) &&
    isNumber(typeOid) &&
    (generatedFrom === undefined || isListOf(generatedFrom, isNumber)) &&
    (rowOf === undefined || isNumber(rowOf))
  );
}

function isFunction(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { signature, body } = value;
  return (
    ["schema", "name", "language", "volatility", "kind"].every((field) => isText(value[field])) &&
    (signature === undefined || isSignature(signature)) &&
    (body === undefined || isBody(body))
  );
}

function isSignature(value: unknown): boolean {
  if (!isObject(value)) return false;
  const {
    oid,
    arguments: args,
    defaults,
    defaultValues,
    returnTypeOid,
    returnsSet,
    returnsRowOf,
    strict,
    securityDefiner,
  } = value;
  return (
    [oid, defaults, returnTypeOid].every(isNumber) &&
    [returnsSet, strict, securityDefiner].every((flag) => typeof flag === "boolean") &&
    (defaultValues === undefined || isText(defaultValues)) &&
    (returnsRowOf === undefined || isNumber(returnsRowOf)) &&
    isListOf(args, (arg) => isObject(arg) && isText(arg["name"]) && isNumber(arg["typeOid"]) && argumentModes.has(arg["mode"]))
  );
}

const argumentModes: ReadonlySet<unknown> = new Set(["in", "out", "inout", "variadic", "table"]);

function isBody(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { text, names, searchPath } = value;
  return isText(text) && (names === "bound" || names === "called") && (searchPath === undefined || isText(searchPath));
}

function isListOf<Item>(value: unknown, isItem: (item: unknown) => item is Item): value is readonly Item[];
function isListOf(value: unknown, isItem: (item: unknown) => boolean): value is readonly unknown[];
function isListOf(value: unknown, isItem: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every((item) => isItem(item));
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isNumber(value: unknown): boolean {
  return typeof value === "number";
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
