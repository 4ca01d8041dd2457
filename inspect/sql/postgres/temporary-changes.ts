/**
 * What a statement does to the session's temporary relations: makes, alters, renames, drops them, stores values in them. Must never
 * leave a column with fewer origins than its values have, nor a name in doubt unsaid: what cannot be followed loses the session.
 * Spec: PostgreSQL documentation, CREATE TABLE ("TEMPORARY"), CREATE VIEW, ALTER TABLE, DROP TABLE.
 */
import type { OutputColumn, ScopeChange, TemporaryRelation } from "../model.ts";
import { derived, type Origins, type Rows, UNKNOWN, union, type Value } from "./lineage.ts";
import { type NamedRelation, namedRelations } from "./relations.ts";
import { type SessionRelation, storedDigest, TEMPORARY_SCHEMA, temporaryName } from "./temporary.ts";
import { alteredTable, createdTable } from "./temporary-tables.ts";
import { fieldsIn, originsOf, takingNothing, type TemporaryInput, TemporaryWork } from "./temporary-work.ts";
import { type Fields, namesOf, type Part, partsOf, stringField } from "./tree.ts";

export interface TemporaryEffects {
  readonly changes: readonly ScopeChange[];
  readonly undecided: readonly string[];
  /** It makes or changes temporary relations and nothing else: no other session sees anything of it. */
  readonly only: boolean;
}

const NOTHING: TemporaryEffects = { changes: [], undecided: [], only: false };

/** The changes, in order. Uses of values that storing tells about are reported to the lineage. */
export function temporaryEffects(input: TemporaryInput): TemporaryEffects {
  const work = new TemporaryWork(input);
  const { statement } = input;
  const named = namedRelations(statement);
  for (const { schema, access } of named) {
    if (access !== "read" && schema !== undefined && /^pg_temp_\d+$/.test(schema)) work.lose(`${schema} named by its number`);
  }
  switch (statement.kind) {
    case "CreateStmt":
    case "CreateSeqStmt":
      makeTable(work, input);
      break;
    case "CreateTableAsStmt":
    case "SelectStmt":
      makeFromRows(work, input);
      break;
    case "ViewStmt":
      makeView(work, input, named);
      break;
    case "AlterTableStmt":
      alter(work, input);
      break;
    case "RenameStmt":
      rename(work, statement);
      break;
    case "DropStmt":
    case "DropOwnedStmt":
      drop(work, statement);
      break;
    case "CreateTrigStmt":
    case "RuleStmt": {
      const name = work.changed(fieldsIn(statement.body, "relation"));
      if (name !== undefined) work.unknown(`trigger or rule on temporary table ${name}`);
      break;
    }
    case "IndexStmt":
      indexOn(work, input);
      break;
    case "CopyStmt":
      copyFrom(work, input);
      break;
    default:
  }
  storeKept(work, input);
  return work.isIdle ? NOTHING : work.result();
}

/** An index computes from stored values, and a unique one tells which are alike. */
function indexOn(work: TemporaryWork, { statement, lineage, leftOver }: TemporaryInput): void {
  const name = work.changed(fieldsIn(statement.body, "relation"));
  const own = name === undefined ? undefined : work.current(name);
  if (name === undefined || own === undefined) return;
  const unique = statement.body["unique"] === true;
  const computes = partsOf(statement.body["indexParams"]).some(({ body }) => body["expr"] !== undefined);
  lineage.tell(unique ? new Set(originsOf(own)) : leftOver);
  if (unique || computes || statement.body["whereClause"] !== undefined) work.set(name, takingNothing(own));
}

/** What the caller sends has no origin; what a file of the server or a program gives may be anything. */
function copyFrom(work: TemporaryWork, { statement, lineage }: TemporaryInput): void {
  const { body } = statement;
  if (body["is_from"] !== true || (body["is_program"] !== true && stringField(body, "filename") === "")) return;
  const relation = fieldsIn(body, "relation");
  const schema = stringField(relation, "schemaname");
  const name = stringField(relation, "relname");
  const { own, alone } = work.resolve(schema === "" ? undefined : schema, name);
  if (own !== undefined) lineage.keep({ name, relation: own.temporary, alone }, null, derived(UNKNOWN));
}

/** The statement says that what it makes is temporary. */
export function isTemporary(relation: Fields): boolean {
  return relation["relpersistence"] === "t" || stringField(relation, "schemaname") === TEMPORARY_SCHEMA;
}

/** IF NOT EXISTS of what is there changes nothing; what was dropped may still be read by an open portal. */
function make(work: TemporaryWork, relation: Fields, made: TemporaryRelation, ifNotExists: boolean): void {
  const name = stringField(relation, "relname");
  work.only = true;
  const before = work.current(name);
  if (before === undefined) work.set(name, made);
  else if (!ifNotExists || before.unsure === true) work.set(name, either(before, made));
}

function makeTable(work: TemporaryWork, input: TemporaryInput): void {
  const { statement } = input;
  const isTable = statement.kind === "CreateStmt";
  const relation = fieldsIn(statement.body, isTable ? "relation" : "sequence");
  if (!isTemporary(relation)) return;
  const made = isTable ? createdTable(work, input) : SEQUENCE;
  make(work, relation, dropsAtCommit(statement.body, "oncommit") ? { ...made, unsure: true } : made, ifNotExists(statement));
}

const SEQUENCE: TemporaryRelation = {
  kind: "table",
  columns: ["last_value", "log_cnt", "is_called"].map((name) => ({ name, origins: [], exact: false })),
  origins: [],
};

export function dropsAtCommit(body: Fields, field: string): boolean {
  return body[field] === "ONCOMMIT_DROP";
}

export function ifNotExists(statement: Part): boolean {
  return statement.body["if_not_exists"] === true;
}

function makeFromRows(work: TemporaryWork, { statement, rows, leftOver }: TemporaryInput): void {
  const into = intoClauseOf(statement);
  if (into === undefined) return;
  const relation = fieldsIn(into, "rel");
  if (!isTemporary(relation) || statement.body["objtype"] === "OBJECT_MATVIEW") return;
  const made = tableFromRows(rows, namesOf(into["colNames"]), leftOver, into["skipData"] === true);
  make(work, relation, dropsAtCommit(into, "onCommit") ? { ...made, unsure: true } : made, ifNotExists(statement));
}

/** The INTO of CREATE TABLE AS and SELECT; in a set operation the leftmost SELECT has it. */
export function intoClauseOf(statement: Part): Fields | undefined {
  if (statement.kind === "CreateTableAsStmt") return fieldsIn(statement.body, "into");
  let body = statement.body;
  while (typeof body["larg"] === "object" && body["larg"] !== null) body = fieldsIn(body, "larg");
  return typeof body["intoClause"] === "object" && body["intoClause"] !== null ? fieldsIn(body, "intoClause") : undefined;
}

/** INTO something that is not the session's own alone. */
export function isPermanentInto(statement: Part): boolean {
  const into = intoClauseOf(statement);
  return into !== undefined && !isTemporary(fieldsIn(into, "rel"));
}

/** A temporary table of a query's result. Its columns are the query's, under other names perhaps. */
export function tableFromRows(
  rows: Rows | undefined,
  names: readonly string[],
  leftOver: Origins,
  empty: boolean,
): TemporaryRelation {
  const all = [...union([rows?.all ?? new Set(["*"]), leftOver])].sort();
  const columns = rows?.columns ?? null;
  if (columns === null) return { kind: "table", columns: null, origins: empty ? [] : all };
  const takes: Record<string, "all"> = {};
  const stored = columns.map((value, at): OutputColumn => {
    const name = names[at] ?? value.name;
    if (value.exact && value.typeOid === TEXT) takes[name] = "all";
    return empty ? { name, origins: [], exact: false } : storedColumn(name, value, leftOver);
  });
  return { kind: "table", columns: stored, origins: empty ? [] : all, takes };
}

/** pg_type.dat: text. */
const TEXT = 25;

function storedColumn(name: string, value: Value, leftOver: Origins): OutputColumn {
  const exact = value.exact && leftOver.size === 0;
  const type = exact && value.typeOid !== undefined ? { typeOid: value.typeOid } : {};
  return { name, origins: [...union([value.origins, leftOver])].sort(), exact, ...type };
}

/** A view over a temporary relation is temporary, whatever the statement says. */
function makeView(
  work: TemporaryWork,
  { statement, reached, rows, leftOver, scope }: TemporaryInput,
  named: readonly NamedRelation[],
): void {
  const relation = fieldsIn(statement.body, "view");
  const read = named
    .filter(({ access, created }) => access === "read" && !created)
    .map(({ schema, name }) => work.resolve(schema, name));
  const surely = isTemporary(relation) || read.some(({ own, alone }) => own !== undefined && alone);
  if (!surely && read.every(({ own }) => own === undefined)) return;
  const made = tableFromRows(rows, namesOf(statement.body["aliases"]), leftOver, false);
  const { takes: _takes, ...columns } = made;
  const reads = reached.uses.filter(({ access, name }) => access === "read" && name !== "").map(({ name }) => name);
  const view: TemporaryRelation = { ...columns, kind: "view", reads, readAs: storedDigest(reads, scope) };
  make(work, relation, surely ? view : { ...view, unsure: true }, false);
  if (!surely) work.only = false;
}

function alter(work: TemporaryWork, input: TemporaryInput): void {
  const { statement } = input;
  const name = work.changed(fieldsIn(statement.body, "relation"));
  const own = name === undefined ? undefined : work.current(name);
  if (name !== undefined && own !== undefined) work.set(name, alteredTable(name, own, work, input));
  if (partsOf(statement.body["cmds"]).some(({ body }) => body["behavior"] === "DROP_CASCADE"))
    cascade(work, new Set(name === undefined ? [] : [name]));
}

function rename(work: TemporaryWork, statement: Part): void {
  const { body } = statement;
  const name = typeof body["relation"] === "object" ? work.changed(fieldsIn(body, "relation")) : undefined;
  const own = name === undefined ? undefined : work.current(name);
  if (name === undefined || own === undefined) return;
  const newName = stringField(body, "newname");
  const oldName = stringField(body, "subname");
  if (oldName === "") {
    work.set(name, own.unsure === true ? own : null);
    work.set(newName, own);
    for (const [other, relation] of work.others(new Set([name, newName]))) {
      const renamed = (relation.reads ?? []).map((read) =>
        temporaryName(read) === name ? `${TEMPORARY_SCHEMA}.${newName}` : read,
      );
      if (relation.reads?.some((read, at) => read !== renamed[at]) === true) work.set(other, { ...relation, reads: renamed });
    }
    return;
  }
  if (!["OBJECT_COLUMN", "OBJECT_ATTRIBUTE"].includes(stringField(body, "renameType"))) return;
  const takes = Object.fromEntries(
    Object.entries(own.takes ?? {}).map(([column, what]) => [column === oldName ? newName : column, what]),
  );
  const columns = own.columns?.map((column) => (column.name === oldName ? { ...column, name: newName } : column)) ?? null;
  work.set(name, { ...own, columns, takes });
}

function drop(work: TemporaryWork, statement: Part): void {
  const type = stringField(statement.body, "removeType");
  const dropped = new Set<string>();
  if (relationTypes.has(type)) {
    for (const object of partsOf(statement.body["objects"])) {
      const names = namesOf(object.body["items"]);
      const name = work.changedName(names.at(-2), names.at(-1) ?? "");
      if (name === undefined) continue;
      dropped.add(name);
      work.set(name, gone(work.resolve(undefined, name).own));
    }
    if (dropped.size < partsOf(statement.body["objects"]).length) work.only = false;
  }
  if (statement.body["behavior"] !== "DROP_CASCADE" && statement.kind !== "DropOwnedStmt") return;
  if (type !== "OBJECT_INDEX") cascade(work, dropped);
  if ((type === "OBJECT_SCHEMA" || statement.kind === "DropOwnedStmt") && work.others(dropped).length > 0)
    work.lose("temporary relations may be gone");
}

const relationTypes: ReadonlySet<string> = new Set([
  "OBJECT_TABLE",
  "OBJECT_VIEW",
  "OBJECT_MATVIEW",
  "OBJECT_FOREIGN_TABLE",
  "OBJECT_SEQUENCE",
]);

/** A portal that was opened on a view still reads it. Tables that a portal reads cannot be dropped. */
function gone(own: SessionRelation | undefined): TemporaryRelation | null {
  if (own === undefined || own.temporary.kind === "table" || own.rows.all.size === 0) return null;
  return { kind: "view", columns: null, origins: [...own.rows.all].sort(), unsure: true };
}

/** What depends on the dropped is dropped with it: views, and columns of its types. */
function cascade(work: TemporaryWork, dropped: ReadonlySet<string>): void {
  for (const [name, relation] of work.others(dropped)) {
    work.set(
      name,
      relation.kind === "view" ? { ...relation, unsure: true } : { ...relation, columns: null, origins: originsOf(relation) },
    );
  }
}

/** What either may hold, under the newer one's names. */
export function either(before: TemporaryRelation, made: TemporaryRelation): TemporaryRelation {
  const older = originsOf(before);
  if (older.length === 0 && before.reads === undefined && before.unsure !== true) return made;
  const add = (origins: readonly string[]): readonly string[] => [...new Set([...origins, ...older])].sort();
  return {
    ...made,
    columns: made.columns?.map((column) => ({ name: column.name, origins: add(column.origins), exact: false })) ?? null,
    origins: add(made.origins),
    ...(before.reads === undefined ? {} : { reads: [...new Set([...(made.reads ?? []), ...before.reads])], readAs: "either" }),
    ...(before.unsure === true ? { unsure: true } : {}),
  };
}

/** Adds what the statement stores to the columns it is stored in. */
function storeKept(work: TemporaryWork, { kept, lineage }: TemporaryInput): void {
  for (const { target, column, value } of kept) {
    const before = work.current(target.name);
    if (target.relation === null || before === undefined || before.kind === "view") {
      work.lose(`what is written through temporary view ${target.name}`);
      continue;
    }
    const takes = column === null ? "none" : (before.takes?.[column] ?? "whole");
    if (takes === "none" || (takes === "whole" && !value.exact)) lineage.tell(value.origins);
    const after = withValue(before, column, value);
    if (JSON.stringify(after) !== JSON.stringify(before)) work.set(target.name, after);
  }
}

function withValue(relation: TemporaryRelation, name: string | null, value: Value): TemporaryRelation {
  const { columns } = relation;
  const add = (origins: readonly string[]): readonly string[] => [...union([new Set(origins), value.origins])].sort();
  if (columns === null) return { ...relation, origins: add(relation.origins) };
  const anywhere = name === null || columns.every((column) => column.name !== name);
  return {
    ...relation,
    origins: add(relation.origins),
    columns: columns.map((column): OutputColumn => {
      if (!anywhere && column.name !== name) return column;
      const origins = add(column.origins);
      const same = value.exact && origins.length === 1;
      if (same && column.exact) return column;
      const first = same && column.origins.length === 0 && relation.takes?.[column.name] === "all" && value.typeOid === TEXT;
      return { name: column.name, origins, exact: first, ...(first ? { typeOid: TEXT } : {}) };
    }),
  };
}
