/**
 * What an analysis is worth once the catalog it was made from may have changed: before DDL is committed and read, and for names
 * that a session made under a former catalog. Must never say less than the statement may do; what it may do now is `*`.
 */
import type { Analysis, OutputColumn, ScopeChange, SessionScope, StatementModel, TemporaryRelation } from "./model.ts";
import { scopeWith } from "./scope.ts";

type Analysed = Extract<Analysis, { readonly kind: "ok" }>;

const unsureOf = new WeakMap<Analysed, Analysed>();

/** The same analysis where the catalog it was made from may no longer hold. The answer for one object is one object. */
export function unsureAnalysis(analysis: Analysed): Analysed {
  const known = unsureOf.get(analysis);
  if (known !== undefined) return known;
  const made: Analysed = { ...analysis, statements: analysis.statements.map(unsure) };
  unsureOf.set(analysis, made);
  return made;
}

/** The names of a session whose statements were analysed with another catalog than the one now in force. */
export function unsureScope(scope: SessionScope): SessionScope {
  const { prepared, cursors, temporary, followed } = scope;
  const relations = [...Object.values(temporary), ...(followed?.frames ?? []).flatMap((frame) => Object.values(frame.temporary))];
  if (Object.keys(prepared).length + Object.keys(cursors).length + relations.length + (followed?.hidden.length ?? 0) === 0)
    return scope;
  const aged: SessionScope = {
    ...scope,
    prepared: {},
    cursors: {},
    temporary: mapped(temporary, unsureRelation),
    ...(followed === undefined
      ? {}
      : {
          followed: {
            ...followed,
            frames: followed.frames.map((frame) => ({ ...frame, temporary: mapped(frame.temporary, unsureRelation) })),
            hidden: [],
          },
        }),
  };
  return scopeWith(aged, mapped(prepared, unsure), mapped(cursors, unsure));
}

/** Its own columns are no catalog's; where their values came from may have another name by now. */
function unsureRelation(relation: TemporaryRelation): TemporaryRelation {
  if (relation.origins.length === 0) return relation;
  return { ...relation, columns: relation.columns?.map(unsureColumn) ?? null, origins: withUnknown(relation.origins) };
}

function unsureColumn(column: OutputColumn): OutputColumn {
  return column.origins.length === 0 ? column : { name: column.name, origins: withUnknown(column.origins), exact: false };
}

function withUnknown(origins: readonly string[]): readonly string[] {
  return ["*", ...origins.filter((origin) => origin !== "*")];
}

function mapped<Value>(
  record: Readonly<Record<string, Value>>,
  change: (value: Value) => Value,
): Readonly<Record<string, Value>> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
}

/** The model of a statement that runs after the catalog may have changed: a name, an operator, a count may mean something else. */
export function unsure(model: StatementModel): StatementModel {
  if (model.relations.length === 0 && model.undecided.length === 0 && model.followed === undefined) return model; // speaks of nothing that could have changed
  const writes = model.effects.some((effect) => keepingClasses.has(effect.class));
  const reads = model.relations.some((use) => use.access === "read");
  return {
    ...model,
    influences: model.influences.map(({ column }) => ({ column, form: "other" })),
    columns:
      model.columns?.map((column) => ({
        name: column.name,
        origins: ["*", ...column.origins.filter((origin) => origin !== "*")],
        exact: false,
      })) ?? null,
    columnsKnown: model.columns === null,
    // Another body may be there by now.
    undecided: [...new Set([...model.undecided, ...(model.followed ?? []).map((name) => `function ${name}`)])],
    reaches: [...new Set(["*", ...model.reaches])],
    writeFlows: model.writeFlows.length > 0 || (writes && reads) ? [...new Set(["*", ...model.writeFlows])] : [],
    scopeChanges: model.scopeChanges.map((change) => unsureChange(change, reads)),
  };
}

/** Classes whose statements leave something behind. */
const keepingClasses: ReadonlySet<string> = new Set(["write", "ddl", "export", "call", "unknown"]);

/** What is stored of relations that may mean something else by now may be anything. */
function unsureChange(change: ScopeChange, reads: boolean): ScopeChange {
  if (change.kind === "prepare" || change.kind === "declare") return { ...change, model: unsure(change.model) };
  if (change.kind !== "temporary" || change.relation === null || !reads) return change;
  const { relation } = change;
  const columns = relation.columns?.map(({ name, origins }) => ({ name, origins: withUnknown(origins), exact: false })) ?? null;
  return { ...change, relation: { ...relation, columns, origins: withUnknown(relation.origins) } };
}
