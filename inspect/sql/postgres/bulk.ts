/**
 * The shape of a bulk export: which relations a query's result can carry away whole. A first look only, by shape and estimate;
 * what flows is counted elsewhere. Must never be talked out of it by a condition that leaves nothing out, a LIMIT outside the
 * aggregate that collects, or a detour over subqueries, WITH and views.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import { type CatalogIndex, definitionNames, type LookupNames } from "../catalog-index.ts";
import type { AnalysisSettings } from "../model.ts";
import { restrictsRows } from "./conditions.ts";
import { isCollectingAggregate, isWholeRelationExport, plainAggregates } from "./function-lists.ts";
import { calledName } from "./functions.ts";
import { definitionQuery, VIEW_DEPTH_MAX } from "./relation-rows.ts";
import { schemaOf } from "./sources.ts";
import { bare, fieldsOf, forEachChild, namesOf, type Part, partOf, partsOf, stringField, typed, walk } from "./tree.ts";

/** Relations outside the system schemas that the statement's result can hold whole; empty for a bounded result. */
export function carriedWhole(
  statement: Part,
  index: CatalogIndex,
  settings: AnalysisSettings,
  names: LookupNames,
): readonly CatalogRelation[] {
  const { rows, collected } = new Shape(index, settings, names).of(statement, new Map(), 0);
  return [...new Set([...rows, ...collected])];
}

/** True when one of the relations is estimated above the bound, or cannot be estimated. Rows. */
export function isLarge(relations: readonly CatalogRelation[], index: CatalogIndex, settings: AnalysisSettings): boolean {
  return relations.some((relation) => {
    const rows = index.estimatedRows(relation);
    return rows < 0 || rows > settings.bulkRowsMin;
  });
}

/** query_to_xml and its kin: whole tables in one value, named by text. */
export function exportsByText(statement: Part): boolean {
  let found = false;
  walk(statement, (part) => {
    if (part.kind === "FuncCall" && isWholeRelationExport(calledName(part).at(-1) ?? "")) found = true;
    return !found;
  });
  return found;
}

/** The outermost WHERE restricts rows. In a set operation every branch must; a MERGE's is its join condition. */
export function hasWhere(statement: Part): boolean {
  const { body } = statement;
  switch (statement.kind) {
    case "SelectStmt": {
      const select = typed(statement, "SelectStmt");
      if (select.larg !== undefined && select.rarg !== undefined) {
        return hasWhere(bare("SelectStmt", select.larg)) && hasWhere(bare("SelectStmt", select.rarg));
      }
      return restrictsRows(partOf(select.whereClause));
    }
    case "InsertStmt": {
      const query = partOf(body["selectStmt"]);
      return query !== undefined && hasWhere(query);
    }
    case "MergeStmt":
      return restrictsRows(partOf(body["joinCondition"]));
    default:
      return restrictsRows(partOf(body["whereClause"]));
  }
}

/** The outermost LIMIT when it is a constant. Rows; null for none, NULL, ALL, WITH TIES, parameters and expressions. */
export function limitOf(statement: Part): number | null {
  if (statement.kind === "InsertStmt") {
    const query = partOf(statement.body["selectStmt"]);
    return query === undefined ? null : limitOf(query);
  }
  const select = fieldsOf(statement, "SelectStmt");
  if (select === undefined || select.limitOption === "LIMIT_OPTION_WITH_TIES") return null;
  return constantRows(partOf(select.limitCount));
}

function constantRows(part: Part | undefined): number | null {
  if (part?.kind === "TypeCast") return constantRows(partOf(part.body["arg"]));
  const constant = fieldsOf(part, "A_Const");
  if (constant === undefined || constant.isnull === true) return null;
  if (constant.ival !== undefined) return constant.ival.ival ?? 0;
  const text = constant.fval?.fval ?? constant.sval?.sval;
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

type Relations = ReadonlySet<CatalogRelation>;

/** `rows`: carried row by row, as far as nothing outside bounds it. `collected`: gathered into one value, beyond any bound. */
interface Carried {
  readonly rows: Relations;
  readonly collected: Relations;
}

type WithQueries = ReadonlyMap<string, () => Carried>;

const NONE: Carried = { rows: new Set(), collected: new Set() };

class Shape {
  readonly #index: CatalogIndex;
  readonly #settings: AnalysisSettings;
  /** Views are followed once; null while that is under way. */
  readonly #views = new Map<number, Carried | null>();

  readonly #names: LookupNames;

  constructor(index: CatalogIndex, settings: AnalysisSettings, names: LookupNames) {
    this.#index = index;
    this.#settings = settings;
    this.#names = names;
  }

  of(statement: Part, outer: WithQueries, viewDepth: number): Carried {
    const ctes = this.#withQueries(statement, outer, viewDepth);
    switch (statement.kind) {
      case "SelectStmt":
        return this.#select(statement, ctes, viewDepth);
      case "InsertStmt": {
        const query = partOf(statement.body["selectStmt"]);
        return query === undefined ? NONE : this.of(query, ctes, viewDepth);
      }
      case "UpdateStmt":
      case "DeleteStmt":
      case "MergeStmt":
        return this.#returned(statement, ctes, viewDepth);
      default:
        return NONE;
    }
  }

  #select(statement: Part, ctes: WithQueries, viewDepth: number): Carried {
    const select = typed(statement, "SelectStmt");
    const limit = limitOf(statement);
    const bounded = limit !== null && limit <= this.#settings.bulkLimitMax;
    if (select.larg !== undefined && select.rarg !== undefined) {
      const left = this.of(bare("SelectStmt", select.larg), ctes, viewDepth);
      const right = this.of(bare("SelectStmt", select.rarg), ctes, viewDepth);
      return { rows: bounded ? NONE.rows : both(left.rows, right.rows), collected: both(left.collected, right.collected) };
    }
    const inputs = partsOf(select.fromClause).map((item) => this.#item(item, ctes, viewDepth));
    const targets = partsOf(select.targetList);
    let collected = both(...inputs.map((input) => input.collected), this.#sublinks(targets, ctes, viewDepth));
    // A view is a relation of its own: its definition's WHERE does not bound what is taken from it.
    if (viewDepth === 0 && restrictsRows(partOf(select.whereClause))) return { rows: NONE.rows, collected };
    let rows: Relations = both(...inputs.map((input) => input.rows));
    const calls = aggregateCalls(targets);
    if (calls.collecting) collected = both(collected, rows);
    else if (calls.plain && select.groupClause === undefined) rows = NONE.rows;
    return { rows: bounded ? NONE.rows : rows, collected };
  }

  #returned(statement: Part, ctes: WithQueries, viewDepth: number): Carried {
    const clause = statement.body["returningClause"];
    if (typeof clause !== "object" || clause === null || hasWhere(statement)) return NONE;
    const relation = statement.body["relation"];
    const beside = [...partsOf(statement.body["fromClause"]), ...partsOf(statement.body["usingClause"])];
    const inputs = beside.map((item) => this.#item(item, ctes, viewDepth));
    const own = typeof relation === "object" && relation !== null ? this.#relation(relation as Part["body"], viewDepth) : NONE; // unwrapped RangeVar
    return {
      rows: both(own.rows, ...inputs.map((input) => input.rows)),
      collected: both(...inputs.map((input) => input.collected)),
    };
  }

  #item(item: Part, ctes: WithQueries, viewDepth: number): Carried {
    switch (item.kind) {
      case "RangeVar": {
        const name = stringField(item.body, "relname");
        const cte = schemaOf(item.body) === undefined ? ctes.get(name) : undefined;
        return cte === undefined ? this.#relation(item.body, viewDepth) : cte();
      }
      case "RangeSubselect": {
        const query = partOf(item.body["subquery"]);
        return query === undefined ? NONE : this.of(query, ctes, viewDepth);
      }
      case "RangeFunction":
        // `FROM unnest((SELECT array_agg(c) FROM customers c))`
        return { rows: this.#sublinks([item], ctes, viewDepth), collected: this.#sublinks([item], ctes, viewDepth) };
      default: {
        const inputs: Carried[] = [];
        forEachChild(item, (child) => {
          if (fromKinds.has(child.kind)) inputs.push(this.#item(child, ctes, viewDepth));
        });
        return { rows: both(...inputs.map((input) => input.rows)), collected: both(...inputs.map((input) => input.collected)) };
      }
    }
  }

  #relation(body: Part["body"], viewDepth: number): Carried {
    const rows = new Set<CatalogRelation>();
    const collected = new Set<CatalogRelation>();
    for (const relation of this.#index.find(
      schemaOf(body),
      stringField(body, "relname"),
      viewDepth === 0 ? this.#names : definitionNames,
    )) {
      if (relation.system || relation.kind === "sequence") continue;
      if (relation.kind !== "view") {
        rows.add(relation);
        continue;
      }
      const behind = this.#view(relation, viewDepth);
      for (const carried of behind.rows) rows.add(carried);
      for (const carried of behind.collected) collected.add(carried);
    }
    return { rows, collected };
  }

  #view(view: CatalogRelation, viewDepth: number): Carried {
    const known = this.#views.get(view.oid);
    if (known !== undefined) return known ?? NONE;
    this.#views.set(view.oid, null);
    const query = definitionQuery(view, this.#index);
    // What cannot be followed is taken for all there is.
    const followed = query === undefined || viewDepth >= VIEW_DEPTH_MAX ? undefined : this.of(query, new Map(), viewDepth + 1);
    const carried = followed ?? { rows: new Set([view]), collected: NONE.collected };
    this.#views.set(view.oid, carried);
    return carried;
  }

  /** Subqueries among the outputs that return more than one row in one value: ARRAY(…), and those that collect themselves. */
  #sublinks(roots: readonly Part[], ctes: WithQueries, viewDepth: number): Relations {
    const found: Relations[] = [];
    for (const root of roots) {
      walk(root, (part) => {
        if (part.kind !== "SubLink" && part.kind !== "JsonArrayQueryConstructor") return true;
        const query = partOf(part.body[part.kind === "SubLink" ? "subselect" : "query"]);
        if (query === undefined) return true;
        const carried = this.of(query, ctes, viewDepth);
        found.push(carried.collected);
        if (part.kind !== "SubLink" || part.body["subLinkType"] === "ARRAY_SUBLINK") found.push(carried.rows);
        return false;
      });
    }
    return both(...found);
  }

  #withQueries(statement: Part, outer: WithQueries, viewDepth: number): WithQueries {
    const clause = statement.body["withClause"];
    if (typeof clause !== "object" || clause === null) return outer;
    const ctes = new Map(outer);
    for (const part of partsOf((clause as Part["body"])["ctes"])) {
      // unwrapped WithClause
      const before = new Map(ctes);
      let carried: Carried | undefined;
      ctes.set(stringField(part.body, "ctename"), () => {
        if (carried !== undefined) return carried;
        const query = partOf(part.body["ctequery"]);
        carried = NONE; // what a recursive query finds in itself adds nothing
        carried = query === undefined ? NONE : this.of(query, before, viewDepth);
        return carried;
      });
    }
    return ctes;
  }
}

const fromKinds: ReadonlySet<string> = new Set(["RangeVar", "RangeSubselect", "RangeFunction", "JoinExpr", "RangeTableSample"]);

function both(...sets: readonly Relations[]): Relations {
  const filled = sets.filter((set) => set.size > 0);
  return filled.length <= 1 ? (filled[0] ?? NONE.rows) : new Set(filled.flatMap((set) => [...set]));
}

/** Aggregates among the outputs themselves, subqueries left out. */
function aggregateCalls(targets: readonly Part[]): { readonly collecting: boolean; readonly plain: boolean } {
  let collecting = false;
  let plain = false;
  for (const target of targets) {
    walk(target, (part) => {
      if (part.kind === "SelectStmt") return false;
      if (part.kind === "JsonArrayAgg" || part.kind === "JsonObjectAgg") collecting = true;
      if (part.kind === "FuncCall") {
        const name = namesOf(part.body["funcname"]).at(-1) ?? "";
        if (isCollectingAggregate(name)) collecting = true;
        else if (plainAggregates.has(name) && part.body["over"] === undefined) plain = true;
      }
      return true;
    });
  }
  return { collecting, plain };
}
