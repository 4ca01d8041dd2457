/**
 * What an analysis is worth once the catalog it was made from may have changed: before DDL is committed and read, and for names
 * that a session made under a former catalog. Must never say less than the statement may do; what it may do now is `*`.
 */
import type { Analysis, ScopeChange, SessionScope, StatementModel } from "./model.ts";
import { applyScopeChange, emptyScope } from "./scope.ts";

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
  let aged = emptyScope;
  for (const [name, model] of Object.entries(scope.prepared))
    aged = applyScopeChange(aged, { kind: "prepare", name, model: unsure(model) });
  for (const [name, model] of Object.entries(scope.cursors))
    aged = applyScopeChange(aged, { kind: "declare", name, model: unsure(model) });
  return aged;
}

/** The model of a statement that runs after the catalog may have changed: a name, an operator, a count may mean something else. */
export function unsure(model: StatementModel): StatementModel {
  if (model.relations.length === 0 && model.undecided.length === 0) return model; // speaks of nothing that could have changed
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
    reaches: [...new Set(["*", ...model.reaches])],
    writeFlows: model.writeFlows.length > 0 || (writes && reads) ? [...new Set(["*", ...model.writeFlows])] : [],
    scopeChanges: model.scopeChanges.map(unsureChange),
  };
}

/** Classes whose statements leave something behind. */
const keepingClasses: ReadonlySet<string> = new Set(["write", "ddl", "export", "call", "unknown"]);

function unsureChange(change: ScopeChange): ScopeChange {
  return change.kind === "prepare" || change.kind === "declare" ? { ...change, model: unsure(change.model) } : change;
}
