/**
 * Every relation that a tree names and how: read, written or redefined; and everything that is reached through them. Must never
 * leave one out: names are collected from the whole tree, and WITH names hide a relation only where they are in scope.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import { type CatalogIndex, definitionNames, type LookupNames } from "../catalog-index.ts";
import type { RelationUse } from "../model.ts";
import { isSensitiveCatalog } from "./function-lists.ts";
import { UNKNOWN } from "./lineage.ts";
import { baseColumnNames, definitionQuery, qualifiedName, VIEW_DEPTH_MAX } from "./relation-rows.ts";
import { isSessionRelation, TEMPORARY_SCHEMA } from "./temporary.ts";
import { forEachChild, namesOf, type Part, partsOf, stringField } from "./tree.ts";

export type Access = RelationUse["access"];

export interface NamedRelation {
  readonly schema: string | undefined;
  readonly name: string;
  readonly access: Access;
  /** The statement makes it, so that it need not be known. */
  readonly created: boolean;
}

/** The relations named in a statement, as written. */
export function namedRelations(statement: Part): readonly NamedRelation[] {
  const found = new Map<string, NamedRelation>();
  collect(statement, { hidden: new Set(), access: ownAccess(statement), created: false }, (relation) => {
    found.set(`${relation.access} ${relation.schema ?? ""}.${relation.name}`, relation);
  });
  return [...found.values()];
}

export interface ReachedRelations {
  /** As reported: views and what is behind them. */
  readonly uses: readonly RelationUse[];
  /** Known relations outside the system schemas: named, behind views, and all their relatives. */
  readonly known: readonly CatalogRelation[];
  /** Those named in the text or behind a view, without relatives. */
  readonly direct: readonly CatalogRelation[];
  readonly views: readonly CatalogRelation[];
  readonly unknownNames: readonly string[];
  readonly sensitive: readonly string[];
  readonly undecided: readonly string[];
}

/** Follows names to relations: views to their definitions, partitions and inheritance to all relatives. */
export function reachedRelations(named: readonly NamedRelation[], index: CatalogIndex, names: LookupNames): ReachedRelations {
  const reach = new Reach(index, names);
  for (const relation of named) reach.add(relation, 0);
  return reach.result();
}

class Reach {
  readonly #index: CatalogIndex;
  readonly #uses = new Map<string, RelationUse>();
  readonly #direct = new Map<number, CatalogRelation>();
  readonly #known = new Map<number, CatalogRelation>();
  readonly #views = new Map<number, CatalogRelation>();
  readonly #unknown = new Set<string>();
  readonly #sensitive = new Set<string>();
  readonly #undecided = new Set<string>();
  readonly #done = new Set<string>();

  readonly #names: LookupNames;

  constructor(index: CatalogIndex, names: LookupNames) {
    this.#index = index;
    this.#names = names;
  }

  add({ schema, name, access, created }: NamedRelation, depth: number): void {
    const candidates = this.#index.find(schema, name, depth === 0 ? this.#names : definitionNames);
    if (candidates.length === 0) {
      const written = schema === undefined ? name : `${schema}.${name}`;
      if (!created) this.#unknown.add(written);
      this.#use(written, access);
      if (isSensitiveCatalog(schema ?? "", name)) this.#sensitive.add(written);
    }
    for (const relation of candidates) this.#follow(relation, access, depth);
  }

  result(): ReachedRelations {
    return {
      uses: [...this.#uses.values()],
      known: [...this.#known.values()],
      direct: [...this.#direct.values()],
      views: [...this.#views.values()],
      unknownNames: [...this.#unknown],
      sensitive: [...this.#sensitive],
      undecided: [...this.#undecided],
    };
  }

  #follow(relation: CatalogRelation, access: Access, depth: number): void {
    const name = qualifiedName(relation);
    const key = `${access} ${relation.oid}`;
    if (this.#done.has(key)) return;
    this.#done.add(key);
    this.#use(name, access);
    if (relation.system) {
      if (isSensitiveCatalog(relation.schema, relation.name)) this.#sensitive.add(name);
      return;
    }
    this.#direct.set(relation.oid, relation);
    if (isSessionRelation(relation)) for (const read of relation.temporary.reads ?? []) this.#use(read, "read");
    for (const relative of this.#index.family(relation)) {
      this.#known.set(relative.oid, relative);
      if (relative.kind === "foreign") this.#undecided.add(`foreign table ${qualifiedName(relative)}`);
    }
    if (relation.kind === "view" || relation.kind === "matview") this.#view(relation, access, depth);
  }

  #view(view: CatalogRelation, access: Access, depth: number): void {
    if (view.kind === "view") this.#views.set(view.oid, view);
    const query = definitionQuery(view, this.#index);
    if (query === undefined) {
      this.#unknown.add(qualifiedName(view));
      return;
    }
    if (depth >= VIEW_DEPTH_MAX) {
      this.#undecided.add(`view ${qualifiedName(view)}`);
      return;
    }
    // A write to a view is a write to what is behind it; what it only reads is counted as written too.
    const inside: Access = access === "write" && view.kind === "view" ? "write" : "read";
    for (const relation of namedRelations(query)) this.add({ ...relation, access: inside }, depth + 1);
  }

  #use(name: string, access: Access): void {
    this.#uses.set(`${access} ${name}`, { name, access });
  }
}

/** Every base column of what is reached (views have none of their own), and `*` where a relation is not known. */
export function reachedColumns(reached: ReachedRelations): readonly string[] {
  const columns = new Set<string>();
  for (const relation of reached.known) {
    if (relation.kind === "view" || relation.kind === "sequence") continue;
    if (isSessionRelation(relation)) for (const origin of relation.rows.all) columns.add(origin);
    else for (const column of baseColumnNames(relation)) columns.add(column);
  }
  if (reached.unknownNames.length > 0) for (const origin of UNKNOWN) columns.add(origin);
  return [...columns].sort();
}

interface Surroundings {
  /** WITH names in scope. */
  readonly hidden: ReadonlySet<string>;
  readonly access: Access;
  readonly created: boolean;
}

function collect(part: Part, around: Surroundings, found: (relation: NamedRelation) => void): void {
  switch (part.kind) {
    case "RangeVar":
      name(part, around, found);
      return;
    case "LockingClause":
      return; // FOR UPDATE OF names aliases
    case "SelectStmt":
      descend(part, reading(withNames(part, around, found)), found, ["withClause"]);
      return;
    case "InsertStmt":
    case "UpdateStmt":
    case "DeleteStmt":
    case "MergeStmt": {
      const hidden = withNames(part, around, found);
      // A WITH name cannot be written to, so the target is always a relation.
      target(part, found);
      descend(part, reading(hidden), found, ["withClause", "relation"]);
      return;
    }
    case "CopyStmt":
      descend(part, { ...around, access: part.body["is_from"] === true ? "write" : "read" }, found, []);
      return;
    case "TableLikeClause":
      descend(part, reading(around.hidden), found, []);
      return;
    case "IntoClause":
      descend(part, { ...around, access: "ddl", created: true }, found, []);
      return;
    case "CreateStmt":
    case "ViewStmt":
    case "CreateSeqStmt":
    case "CompositeTypeStmt":
      forEachChild(part, (child, field) => {
        collect(child, { ...around, created: madeFields.has(field) }, found);
      });
      return;
    case "DropStmt":
    case "CommentStmt":
    case "SecLabelStmt":
      droppedNames(part, found);
      return;
    default:
      descend(part, around, found, []);
  }
}

function descend(part: Part, around: Surroundings, found: (relation: NamedRelation) => void, except: readonly string[]): void {
  forEachChild(part, (child, field) => {
    if (!except.includes(field)) collect(child, around, found);
  });
}

function name(part: Part, around: Surroundings, found: (relation: NamedRelation) => void): void {
  const schema = stringField(part.body, "schemaname");
  const relname = stringField(part.body, "relname");
  if (around.created && schema === "" && part.body["relpersistence"] === "t") {
    found({ schema: TEMPORARY_SCHEMA, name: relname, access: around.access, created: true });
    return;
  }
  if (relname === "" || (schema === "" && around.access === "read" && around.hidden.has(relname))) return;
  found({ schema: schema === "" ? undefined : schema, name: relname, access: around.access, created: around.created });
}

/** Fields that name what CREATE makes. */
const madeFields: ReadonlySet<string> = new Set(["relation", "view", "sequence", "typevar"]);

function reading(hidden: ReadonlySet<string>): Surroundings {
  return { hidden, access: "read", created: false };
}

function target(part: Part, found: (relation: NamedRelation) => void): void {
  const relation = part.body["relation"];
  if (typeof relation !== "object" || relation === null) return;
  name({ kind: "RangeVar", body: relation as Part["body"] }, { hidden: new Set(), access: "write", created: false }, found); // unwrapped RangeVar
}

/** Collects from the WITH queries and returns the names in scope of the statement that has them. */
function withNames(part: Part, around: Surroundings, found: (relation: NamedRelation) => void): ReadonlySet<string> {
  const clause = part.body["withClause"];
  if (typeof clause !== "object" || clause === null) return around.hidden;
  const body = clause as Part["body"]; // unwrapped WithClause
  const ctes = partsOf(body["ctes"]);
  const names = ctes.map((cte) => stringField(cte.body, "ctename"));
  const all = new Set([...around.hidden, ...names]);
  ctes.forEach((cte, at) => {
    const hidden = body["recursive"] === true ? all : new Set([...around.hidden, ...names.slice(0, at)]);
    descend(cte, reading(hidden), found, []);
  });
  return all;
}

/** Object names are lists of strings there: taken as relations where the statement is about one. */
function droppedNames(part: Part, found: (relation: NamedRelation) => void): void {
  const type = stringField(part.body, part.kind === "DropStmt" ? "removeType" : "objtype");
  const depth = objectDepth.get(type);
  if (depth === undefined) return;
  const objects = part.kind === "DropStmt" ? partsOf(part.body["objects"]) : partsOf([part.body["object"]]);
  for (const object of objects) {
    const names = namesOf(object.body["items"]);
    const relation = depth === 0 ? names : names.slice(0, -depth);
    const relname = relation.at(-1);
    if (relname !== undefined) found({ schema: relation.at(-2), name: relname, access: "ddl", created: false });
  }
}

/** How many names follow the relation's in the object's name (`table.column`, `table.trigger`). */
const objectDepth: ReadonlyMap<string, number> = new Map([
  ["OBJECT_TABLE", 0],
  ["OBJECT_VIEW", 0],
  ["OBJECT_MATVIEW", 0],
  ["OBJECT_FOREIGN_TABLE", 0],
  ["OBJECT_SEQUENCE", 0],
  ["OBJECT_COLUMN", 1],
  ["OBJECT_TRIGGER", 1],
  ["OBJECT_RULE", 1],
  ["OBJECT_POLICY", 1],
  ["OBJECT_TABCONSTRAINT", 1],
]);

/** What naming a relation directly in this kind of statement means. */
function ownAccess(statement: Part): Access {
  switch (statement.kind) {
    case "TruncateStmt":
    case "LockStmt":
    case "RefreshMatViewStmt":
    case "ReindexStmt":
    case "ClusterStmt":
      return "write";
    case "VacuumStmt":
    case "SelectStmt":
    case "ExplainStmt":
    case "PrepareStmt":
    case "DeclareCursorStmt":
    case "CallStmt":
    case "ExecuteStmt":
      return "read";
    default:
      return "ddl";
  }
}
