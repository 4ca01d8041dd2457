/**
 * Generic access to the parse tree that libpg-query returns: every node as kind and fields, every child with its kind.
 * The completeness of every whole-tree check rests on it, so it must never skip a field that can hold a node.
 * Shapes: the JSON form of PostgreSQL's raw parse tree, types in @pgsql/types (generated from pg_query.proto).
 */
import type { Node, ParseResult } from "libpg-query";

/** Text to tree; throws what libpg-query throws. Injected, so that this folder stays free of the WASM module. */
export type Parse = (text: string) => ParseResult;

export type Fields = Readonly<Record<string, unknown>>;

/** One node: its grammar kind (`SelectStmt`, `ColumnRef`, …) and its fields. `body` keeps the identity of the parser's object. */
export interface Part {
  readonly kind: string;
  readonly body: Fields;
}

type UnionToIntersection<U> = (U extends unknown ? (value: U) => void : never) extends (value: infer I) => void ? I : never;
/** Node kind to the type of its fields. */
export type Kinds = UnionToIntersection<Node>;

/** Kinds of the fields that the JSON form writes without a wrapper, by field name, or by `Parent.field` where the name alone is not enough. */
export const unwrappedFields: Readonly<Record<string, string>> = {
  alias: "Alias",
  rel: "RangeVar",
  viewQuery: "Query",
  format: "JsonFormat",
  returning: "JsonReturning",
  on_empty: "JsonBehavior",
  on_error: "JsonBehavior",
  path: "JsonTablePath",
  join_using_alias: "Alias",
  jointree: "FromExpr",
  onConflict: "OnConflictExpr",
  typeName: "TypeName",
  over: "WindowDef",
  identitySequence: "RangeVar",
  collClause: "CollateClause",
  relation: "RangeVar",
  "PartitionCmd.name": "RangeVar",
  "CreateOpClassItem.name": "ObjectWithArgs",
  bound: "PartitionBoundSpec",
  eref: "Alias",
  tablesample: "TableSampleClause",
  subquery: "Query",
  tablefunc: "TableFunc",
  infer: "InferClause",
  search_clause: "CTESearchClause",
  cycle_clause: "CTECycleClause",
  "JsonArgument.val": "JsonValueExpr",
  "PLAssignStmt.val": "SelectStmt",
  context_item: "JsonValueExpr",
  output: "JsonOutput",
  pathspec: "JsonTablePathSpec",
  "JsonKeyValue.value": "JsonValueExpr",
  "JsonParseExpr.expr": "JsonValueExpr",
  "JsonSerializeExpr.expr": "JsonValueExpr",
  "JsonObjectAgg.arg": "JsonKeyValue",
  "JsonArrayAgg.arg": "JsonValueExpr",
  "JsonObjectAgg.constructor": "JsonAggConstructor",
  "JsonArrayAgg.constructor": "JsonAggConstructor",
  onConflictClause: "OnConflictClause",
  returningClause: "ReturningClause",
  withClause: "WithClause",
  intoClause: "IntoClause",
  larg: "SelectStmt",
  rarg: "SelectStmt",
  authrole: "RoleSpec",
  newowner: "RoleSpec",
  grantor: "RoleSpec",
  "AlterDefaultPrivilegesStmt.action": "GrantStmt",
  partbound: "PartitionBoundSpec",
  partspec: "PartitionSpec",
  ofTypename: "TypeName",
  pktable: "RangeVar",
  owner: "RoleSpec",
  base: "CreateStmt",
  user: "RoleSpec",
  table: "RangeVar",
  constrrel: "RangeVar",
  role: "RoleSpec",
  setstmt: "VariableSetStmt",
  sequence: "RangeVar",
  datatype: "TypeName",
  storedtype: "TypeName",
  returnType: "TypeName",
  argType: "TypeName",
  func: "ObjectWithArgs",
  funccall: "FuncCall",
  funcexpr: "FuncExpr",
  extname: "String",
  opername: "ObjectWithArgs",
  typevar: "RangeVar",
  view: "RangeVar",
  into: "IntoClause",
  sourcetype: "TypeName",
  targettype: "TypeName",
  type_name: "TypeName",
  fromsql: "ObjectWithArgs",
  tosql: "ObjectWithArgs",
  newrole: "RoleSpec",
  pubtable: "PublicationTable",
};

/** Leaves: their fields are values, never nodes. */
const leafKinds: ReadonlySet<string> = new Set(["A_Const", "Integer", "Float", "Boolean", "String", "BitString", "A_Star"]);

/** The part behind a wrapped node (`{ SelectStmt: {…} }`); undefined for an absent one. */
export function partOf(value: unknown): Part | undefined {
  if (!isObject(value)) return undefined;
  const kind = onlyField(value);
  if (kind === "" || !startsUpper(kind)) return undefined;
  const body = value[kind];
  return isObject(body) ? { kind, body } : undefined;
}

/** The one field of an object; empty when it has none or several. Plain objects of the parser: nothing is inherited. */
function onlyField(value: Fields): string {
  let only = "";
  for (const field in value) {
    if (only !== "") return "";
    only = field;
  }
  return only;
}

/** The parts of a list field; absent entries (the grammar's NULL nodes) are left out. */
export function partsOf(value: unknown): readonly Part[] {
  if (!Array.isArray(value)) return [];
  const parts: Part[] = [];
  for (const entry of value) {
    const part = partOf(entry);
    if (part !== undefined) parts.push(part);
  }
  return parts;
}

/** A part for fields that come unwrapped (`relation`, `larg`, …). */
export function bare<K extends keyof Kinds>(kind: K, body: Kinds[K]): Part {
  return { kind, body: body as unknown as Fields }; // the same object, seen as plain fields
}

/** The fields of a part of the given kind, typed; undefined when it is of another kind. */
export function fieldsOf<K extends keyof Kinds>(part: Part | undefined, kind: K): Kinds[K] | undefined {
  return part !== undefined && part.kind === kind ? (part.body as unknown as Kinds[K]) : undefined; // the kind names the type
}

/** The typed fields of a part whose kind the caller has just switched on. */
export function typed<K extends keyof Kinds>(part: Part, kind: K): Kinds[K] {
  if (part.kind !== kind) throw new Error(`expected ${kind}, found ${part.kind}`);
  return part.body as unknown as Kinds[K]; // checked on the line above
}

/** The strings of a name list (`[String, String]`). Other nodes are left out. */
export function namesOf(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return [];
  const names: string[] = [];
  for (const entry of value as readonly unknown[]) {
    const part = partOf(entry);
    if (part?.kind === "String") names.push(stringField(part.body, "sval"));
  }
  return names;
}

/** The text of a constant; null for NULL and for anything else, a cast constant too. */
export function constantText(part: Part | undefined): string | null {
  const constant = fieldsOf(part, "A_Const");
  if (constant === undefined || constant.isnull === true) return null;
  if (constant.sval !== undefined) return constant.sval.sval ?? "";
  if (constant.ival !== undefined) return String(constant.ival.ival ?? 0);
  if (constant.fval !== undefined) return constant.fval.fval ?? "";
  if (constant.boolval !== undefined) return constant.boolval.boolval === true ? "on" : "off";
  return null;
}

export function stringField(fields: Fields, name: string): string {
  const value = fields[name];
  return typeof value === "string" ? value : "";
}

/** Calls `visit` for every direct child node, in the order of the fields. */
export function forEachChild(part: Part, visit: (child: Part, field: string) => void): void {
  if (leafKinds.has(part.kind)) return;
  for (const field in part.body) {
    const value = part.body[field];
    if (Array.isArray(value)) {
      for (const entry of value) visitValue(part.kind, field, entry, visit);
    } else if (typeof value === "object" && value !== null) {
      visitValue(part.kind, field, value, visit);
    }
  }
}

function visitValue(parent: string, field: string, value: unknown, visit: (child: Part, field: string) => void): void {
  const wrapped = partOf(value);
  if (wrapped !== undefined) {
    visit(wrapped, field);
    return;
  }
  if (!isObject(value) || Object.keys(value).length === 0) return;
  visit({ kind: unwrappedKind(`${parent}.${field}`) ?? unwrappedKind(field) ?? "", body: value }, field);
}

/** Fields may be called what objects have by nature (`constructor`). */
function unwrappedKind(field: string): string | undefined {
  return Object.hasOwn(unwrappedFields, field) ? unwrappedFields[field] : undefined;
}

/** Visits a tree, parents first; `visit` returns false to leave out what is below a node. */
export function walk(root: Part, visit: (part: Part, parent: Part | undefined, field: string) => boolean | void): void {
  if (!root.kind.endsWith("Stmt")) {
    walkNodes(root, visit);
    return;
  }
  const { parts, parents, fields, ends } = flatten(root);
  for (let at = 0; at < parts.length; ) at = visit(parts[at]!, parents[at], fields[at]!) === false ? ends[at]! : at + 1;
}

/** A tree as lists: each node's part, its parent, the field it stands in, and where what is below it ends. */
interface FlatTree {
  readonly parts: readonly Part[];
  readonly parents: readonly (Part | undefined)[];
  readonly fields: readonly string[];
  readonly ends: Int32Array;
  /** Of the deepest node, the root counted. */
  readonly depth: number;
}

/** Statements are walked some ten times for one analysis. Trees are never changed, and forgotten with their lists. */
const flatTrees = new WeakMap<Fields, FlatTree>();

function flatten(root: Part): FlatTree {
  const known = flatTrees.get(root.body);
  if (known !== undefined) return known;
  const parts: Part[] = [];
  const aboves: number[] = [];
  const fields: string[] = [];
  // Three stacks instead of one of objects.
  const waiting: Part[] = [root];
  const waitingAboves: number[] = [-1];
  const waitingFields: string[] = [""];
  let above = -1;
  const put = (child: Part, field: string): void => {
    waiting.push(child);
    waitingAboves.push(above);
    waitingFields.push(field);
  };
  for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
    aboves.push(waitingAboves.pop()!);
    fields.push(waitingFields.pop()!);
    above = parts.push(part) - 1;
    const first = waiting.length;
    forEachChild(part, put);
    turnAround(waiting, first);
    turnAround(waitingFields, first); // what they are below is one and the same
  }
  // Backwards: what is below a node ends where its last child's ends.
  const ends = new Int32Array(parts.length);
  for (let at = parts.length - 1; at >= 0; at--) {
    if (ends[at] === 0) ends[at] = at + 1;
    const parent = aboves[at]!;
    if (parent >= 0 && ends[parent] === 0) ends[parent] = ends[at]!;
  }
  const depths = new Int32Array(parts.length);
  let depth = 0;
  for (let at = 0; at < parts.length; at++) {
    depths[at] = (depths[aboves[at]!] ?? 0) + 1;
    depth = Math.max(depth, depths[at]!);
  }
  const flat: FlatTree = { parts, parents: aboves.map((at) => parts[at]), fields, ends, depth };
  flatTrees.set(root.body, flat);
  return flat;
}

function walkNodes(root: Part, visit: (part: Part, parent: Part | undefined, field: string) => boolean | void): void {
  // Three stacks instead of one of objects: every statement is walked several times, node by node.
  const parts: Part[] = [root];
  const parents: (Part | undefined)[] = [undefined];
  const fields: string[] = [""];
  let above: Part = root;
  const put = (child: Part, field: string): void => {
    parts.push(child);
    parents.push(above);
    fields.push(field);
  };
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    if (visit(part, parents.pop(), fields.pop()!) === false) continue;
    const first = parts.length;
    above = part;
    forEachChild(part, put);
    turnAround(parts, first);
    turnAround(fields, first); // their parent is one and the same
  }
}

/** From `first` on, in the other order: what was put last comes off a stack first. */
function turnAround(stack: unknown[], first: number): void {
  for (let low = first, high = stack.length - 1; low < high; low++, high--) {
    const kept = stack[low];
    stack[low] = stack[high];
    stack[high] = kept;
  }
}

/** Nesting of a tree, counted without recursion: what recursive passes would need of the stack. */
export function depthOf(root: Part): number {
  return flatten(root).depth;
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function startsUpper(text: string): boolean {
  const code = text.charCodeAt(0);
  return code >= 65 && code <= 90;
}
