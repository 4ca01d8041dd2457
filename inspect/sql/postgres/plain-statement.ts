/**
 * The model of one statement that does not wrap another: effects, relations, columns, influences, flows, bulk shape. Must never
 * judge by the first word; every finding comes from the whole tree and from the views behind it.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import type {
  AnalysisSettings,
  Influence,
  OutputColumn,
  ScopeChange,
  SessionScope,
  StatementEffect,
  StatementModel,
} from "../model.ts";
import { carriedWhole, exportsByText, hasWhere, isLarge, limitOf } from "./bulk.ts";
import { effectsOf, gravest } from "./classify.ts";
import { copyFormOf, withoutGenerated } from "./copy-form.ts";
import { definitionFlows, escapeOf } from "./flows.ts";
import { emptyNames, type Rows, UNKNOWN, union, unknownRows } from "./lineage.ts";
import { type ReachedCode, reachedCode } from "./reached-code.ts";
import { qualifiedName } from "./relation-rows.ts";
import { type ReachedRelations, reachedColumns } from "./relations.ts";
import { ownSessionChanges } from "./session-changes.ts";
import { settingsOf } from "./settings.ts";
import { columnOrigins, isSessionRelation, sessionIndex, temporaryName } from "./temporary.ts";
import { intoClauseOf, isPermanentInto, temporaryEffects } from "./temporary-changes.ts";
import { Trace } from "./trace.ts";
import { bare, namesOf, type Part, partOf, stringField, typed } from "./tree.ts";

export interface Surroundings {
  readonly index: CatalogIndex;
  readonly settings: AnalysisSettings;
  readonly scope: SessionScope;
}

/** What the statement does. For EXPLAIN, PREPARE, EXECUTE, DECLARE and FETCH see statement.ts. */
export function plainModel(statement: Part, given: Surroundings): StatementModel {
  // A body that is called after set_config in the same statement is read by the new settings.
  const ownSettings = settingsOf(statement);
  const moves = statement.kind !== "VariableSetStmt" && ownSettings.length > 0;
  const scope: SessionScope = moves ? { ...given.scope, path: null } : given.scope;
  const around: Surroundings = { ...given, scope, index: sessionIndex(given.index, scope) };
  const { index, settings } = around;
  const trace = new Trace(index, settings, around.scope);
  const code = reachedCode(statement, around, namesNoCode.has(statement.kind));
  const reached = code.relations;
  const query = innerQuery(statement);
  const rows = query === undefined ? undefined : trace.query(query, emptyNames);
  const own = effectsOf(statement);
  const effects = code.effects.length === 0 ? own : unique([...own, ...code.effects]);
  const copyForm = copyFormOf(statement);
  const leftOver = leftOverOrigins(statement, trace, reached);
  // In definitions they end up in what is defined; elsewhere they decide about rows.
  const isQuery = (query !== undefined && query === statement) || statement.kind === "CopyStmt";
  if (isQuery) for (const column of leftOver) trace.influence(new Set([column]), "other");
  const facts = codeFacts(statement, code);
  for (const finding of trace.findings) facts.undecided.add(finding);
  const temporary = temporaryEffects({
    statement,
    scope: around.scope,
    index,
    lineage: trace,
    kept: trace.kept,
    reached,
    rows,
    leftOver: facts.undecided.size > 0 ? union([leftOver, UNKNOWN]) : leftOver,
  });
  for (const finding of temporary.undecided) facts.undecided.add(finding);
  const defined = temporary.only ? [] : flowsOf(statement, isQuery ? new Set() : leftOver, reached, rows);
  const flows = new Set([...trace.flows, ...defined]);
  return {
    class: gravest(effects),
    effects,
    relations: reached.uses,
    influences: influencesOf(trace),
    ...bulkOf(statement, query, reached, around),
    hasWhere: query !== undefined && hasWhere(query),
    limit: query === undefined ? null : limitOf(query),
    undecided: [...facts.undecided].sort(),
    ...columnsOf(statement, rows, trace),
    ...(trace.tells.size === 0 ? {} : { tells: [...trace.tells].sort() }),
    writeFlows: [...flows].sort(),
    reaches: reachedColumns(reached),
    sensitiveCatalogs: reached.sensitive,
    escapes: [...facts.escapes].sort(),
    ...(code.followed.length === 0 ? {} : { followed: code.followed }),
    settings: ownSettings,
    scopeChanges: [...ownSessionChanges(statement, around.scope), ...changesOf(statement), ...temporary.changes],
    copy: copyOf(statement),
    ...(copyForm === undefined ? {} : { copyForm }),
    // What a schema's maker lets run on reading is no reason to read the catalog again after every statement.
    changesCatalog:
      [...facts.undecided].some((what) => !code.onReading.includes(what)) ||
      (!temporary.only && effects.some((effect) => ["ddl", "privilege", "call", "unknown"].includes(effect.class))),
  };
}

/** The query whose result or values the statement is about; undefined for statements without one. */
function innerQuery(statement: Part): Part | undefined {
  switch (statement.kind) {
    case "SelectStmt":
    case "InsertStmt":
    case "UpdateStmt":
    case "DeleteStmt":
    case "MergeStmt":
      return statement;
    case "CreateTableAsStmt":
    case "ViewStmt": {
      const query = partOf(statement.body["query"]);
      return query?.kind === "ExecuteStmt" ? undefined : query;
    }
    case "CopyStmt":
      return partOf(statement.body["query"]);
    default:
      return undefined;
  }
}

function unique(effects: readonly StatementEffect[]): readonly StatementEffect[] {
  return [...new Map(effects.map((effect) => [`${effect.class} ${effect.name}`, effect])).values()];
}

function influencesOf(trace: Trace): readonly Influence[] {
  return [...trace.influences].map(([column, form]) => ({ column, form })).sort((a, b) => (a.column < b.column ? -1 : 1));
}

/** Origins of the references that lineage did not come by: in DDL expressions, or wherever it knows no rule. By name alone. */
function leftOverOrigins(statement: Part, trace: Trace, reached: ReachedRelations): ReadonlySet<string> {
  const origins = new Set<string>();
  for (const reference of trace.leftOver(statement)) {
    const name = namesOf(reference.body["fields"]).at(-1);
    const columns = reached.known.flatMap((relation) =>
      relation.columns.map((column) => ({ relation, column, name: column.name })),
    );
    const named = columns.filter((column) => column.name === name);
    // No column's name is a row's, or that of a function of a row.
    const meant = named.length > 0 || newRelationKinds.has(statement.kind) ? named : columns;
    const found = meant.length > 0;
    for (const { relation, column } of meant) for (const origin of columnOrigins(relation, column)) origins.add(origin);
    if (!found && reached.unknownNames.length > 0 && !newRelationKinds.has(statement.kind)) origins.add("*");
  }
  return origins;
}

/** Their expressions speak of the columns they make. */
const newRelationKinds: ReadonlySet<string> = new Set(["CreateStmt", "CreateForeignTableStmt", "CreateDomainStmt"]);

function flowsOf(
  statement: Part,
  leftOver: ReadonlySet<string>,
  reached: ReachedRelations,
  rows: Rows | undefined,
): Iterable<string> {
  const flows = new Set(definitionFlows(statement, leftOver, reached.known));
  switch (statement.kind) {
    case "CreateTableAsStmt":
    case "ViewStmt":
      for (const origin of rows?.all ?? []) flows.add(origin);
      break;
    case "CopyStmt":
      if (statement.body["is_from"] !== true && escapeOf(statement) !== undefined) {
        for (const origin of rows?.all ?? reachedColumns(reached)) flows.add(origin);
      }
      break;
    case "SelectStmt":
      if (isPermanentInto(statement)) for (const origin of rows?.all ?? UNKNOWN) flows.add(origin);
      break;
    default:
  }
  return flows;
}

/** Functions, operators, types, triggers and forms that cannot be known or that carry values out, in all that runs. */
function codeFacts(statement: Part, code: ReachedCode): { readonly undecided: Set<string>; readonly escapes: Set<string> } {
  const reached = code.relations;
  const undecided = new Set([...reached.undecided, ...code.undecided, ...code.onReading]);
  const escapes = new Set(code.escapes);
  if (statement.kind === "DoStmt") undecided.add("DO");
  if (effectsOf(statement).some((effect) => effect.name === "unmapped")) undecided.add("statement kind");
  const escape = escapeOf(statement);
  if (escape !== undefined) escapes.add(escape);
  return { undecided, escapes };
}

/** Statements that name functions and types without using them. */
const namesNoCode: ReadonlySet<string> = new Set([
  "DropStmt",
  "CommentStmt",
  "GrantStmt",
  "AlterOwnerStmt",
  "RenameStmt",
  "SecLabelStmt",
]);

type BulkFields = Pick<StatementModel, "bulkExport" | "bulkShape" | "bulkRelations">;

const NOT_BULK: BulkFields = { bulkExport: false, bulkShape: false, bulkRelations: [] };

function bulkOf(statement: Part, query: Part | undefined, reached: ReachedRelations, around: Surroundings): BulkFields {
  const { index, settings } = around;
  if (exportsByText(statement)) {
    const relations = bulkNames(reached.direct);
    return { bulkExport: true, bulkShape: true, bulkRelations: relations };
  }
  if (copiesWhole(statement)) {
    const stored = reached.direct.filter((relation) => relation.kind !== "sequence");
    const any = stored.length > 0 || reached.unknownNames.length > 0;
    return {
      bulkShape: any,
      bulkExport: reached.unknownNames.length > 0 || isLarge(stored, index, settings),
      bulkRelations: bulkNames(stored),
    };
  }
  if (query === undefined || query !== statement) return NOT_BULK;
  const relations = carriedWhole(query, index, settings, around.scope);
  if (relations.length === 0) return NOT_BULK;
  return {
    bulkShape: true,
    bulkExport: isLarge(relations, index, settings),
    bulkRelations: bulkNames(relations),
  };
}

/** A view of the session's own gives the relations behind it. */
function bulkNames(relations: readonly CatalogRelation[]): readonly string[] {
  const names = relations.flatMap((relation): readonly string[] => {
    const reads = isSessionRelation(relation) ? relation.temporary.reads : undefined;
    return reads === undefined ? [qualifiedName(relation)] : reads.filter((read) => temporaryName(read) === undefined);
  });
  return [...new Set(names)].sort();
}

/** COPY … TO, CREATE … AS with data, SELECT INTO: all of what they name leaves or is kept, whatever the bounds. */
function copiesWhole(statement: Part): boolean {
  if (statement.kind === "CopyStmt") return statement.body["is_from"] !== true;
  if (statement.kind === "CreateTableAsStmt") return true;
  return statement.kind === "SelectStmt" && effectsOf(statement).some((effect) => effect.name === "select_into");
}

type ColumnFields = Pick<StatementModel, "columns" | "columnsKnown">;

const NO_COLUMNS: ColumnFields = { columns: null, columnsKnown: true };

function columnsOf(statement: Part, rows: Rows | undefined, trace: Trace): ColumnFields {
  switch (statement.kind) {
    case "SelectStmt":
      return intoClauseOf(statement) === undefined ? outputs(rows) : NO_COLUMNS;
    case "InsertStmt":
    case "UpdateStmt":
    case "DeleteStmt":
    case "MergeStmt":
      return statement.body["returningClause"] === undefined ? NO_COLUMNS : outputs(rows);
    case "CopyStmt":
      return copyOf(statement) === "out" ? outputs(rows ?? copiedColumns(statement, trace)) : NO_COLUMNS;
    case "VariableShowStmt":
      return known(
        stringField(statement.body, "name") === "all"
          ? ["name", "setting", "description"]
          : [stringField(statement.body, "name")],
      );
    case "CallStmt":
      return outputs(callRows(statement, trace));
    default:
      return NO_COLUMNS;
  }
}

function known(names: readonly string[]): ColumnFields {
  return { columns: names.map((name) => ({ name, origins: [], exact: false })), columnsKnown: true };
}

function outputs(rows: Rows | undefined): ColumnFields {
  if (rows === undefined) return NO_COLUMNS;
  const listed = (rows.columns ?? []).reduce((sum, column) => sum + column.origins.size, 0);
  if (rows.columns === null || listed > LISTED_ORIGINS_MAX)
    return { columns: [{ name: "*", origins: [...rows.all].sort(), exact: false }], columnsKnown: false };
  const columns = rows.columns.map(({ name, origins, exact, typeOid, temporary }): OutputColumn => {
    const type = exact && typeOid !== undefined ? { typeOid } : {};
    return { name, origins: [...origins].sort(), exact, ...type, ...(temporary === undefined ? {} : { temporary }) };
  });
  return { columns, columnsKnown: true };
}

/** Origins listed for one statement: more (a thousand whole rows of a wide table) are told once for all columns together. */
const LISTED_ORIGINS_MAX = 50_000;

/** A procedure's output parameters: anything, unless it is declared safe. */
function callRows(statement: Part, trace: Trace): Rows {
  const call = typed(statement, "CallStmt").funccall;
  return unknownRows(call === undefined ? UNKNOWN : trace.evaluate(bare("FuncCall", call), emptyNames).origins);
}

/** `COPY t (a, b) TO STDOUT`. */
function copiedColumns(statement: Part, trace: Trace): Rows {
  const copy = typed(statement, "CopyStmt");
  const relation = copy.relation === undefined ? undefined : bare("RangeVar", copy.relation);
  const rows = trace.relation(schemaName(relation), stringField(relation?.body ?? {}, "relname"));
  const names = namesOf(copy.attlist);
  if (names.length === 0)
    return withoutGenerated(rows, trace.index.find(schemaName(relation), stringField(relation?.body ?? {}, "relname")));
  const columns = names.map((name) => {
    return (
      rows.columns?.find((column) => column.name === name) ?? {
        name,
        origins: rows.columns === null ? rows.all : new Set(["*"]),
        exact: false,
      }
    );
  });
  return { columns, all: rows.all };
}

function schemaName(relation: Part | undefined): string | undefined {
  const schema = stringField(relation?.body ?? {}, "schemaname");
  return schema === "" ? undefined : schema;
}

function copyOf(statement: Part): StatementModel["copy"] {
  if (statement.kind !== "CopyStmt" || escapeOf(statement) !== undefined) return "none";
  return statement.body["is_from"] === true ? "in" : "out";
}

function changesOf(statement: Part): readonly ScopeChange[] {
  const { body } = statement;
  switch (statement.kind) {
    case "DeallocateStmt":
      return [{ kind: "deallocate", name: body["isall"] === true ? null : stringField(body, "name") }];
    case "ClosePortalStmt":
      return [{ kind: "close", name: stringField(body, "portalname") === "" ? null : stringField(body, "portalname") }];
    case "DiscardStmt":
      return [{ kind: "discard", what: discarded(stringField(body, "target")) }];
    default:
      return [];
  }
}

function discarded(target: string): "all" | "temp" | "other" {
  if (target === "DISCARD_ALL") return "all";
  return target === "DISCARD_TEMP" ? "temp" : "other";
}
