/**
 * The names that a session has made with SQL PREPARE and DECLARE. Pure: a change gives a new scope. Must never let a name come
 * to stand for less than it might: one declared again stands for both until it is closed.
 */
import { createHash } from "node:crypto";
import { assertNever } from "@sluice/core/assert-never.ts";
import { type OutputColumn, type ScopeChange, type SessionScope, type StatementModel, statementClasses } from "./model.ts";

export const emptyScope: SessionScope = {
  prepared: {},
  cursors: {},
  path: null,
  role: null,
  temporary: {},
  lost: [],
  digest: "",
};

/** The scope after a statement that made this change has succeeded. */
export function applyScopeChange(scope: SessionScope, change: ScopeChange): SessionScope {
  switch (change.kind) {
    case "prepare":
      return scopeOf(
        declared(scope.prepared, change.name, change.model, [`prepared statement ${change.name} (made twice)`]),
        scope.cursors,
      );
    case "deallocate":
      return scopeOf(without(scope.prepared, change.name), scope.cursors);
    case "declare":
      // Cursors end with their transaction, so that a name is commonly used again: what either may do is answer enough.
      return scopeOf(scope.prepared, declared(scope.cursors, change.name, change.model, []));
    case "close":
      return scopeOf(scope.prepared, without(scope.cursors, change.name));
    case "discard":
      return change.what === "all" ? emptyScope : scope;
    case "setting":
    case "temporary":
    case "transaction":
    case "lost":
      return scope;
    default:
      return assertNever(change);
  }
}

type Names = Readonly<Record<string, StatementModel>>;

/** A name of the scope; never one that objects have by nature. */
export function lookUp(names: Names, name: string): StatementModel | undefined {
  return Object.hasOwn(names, name) ? names[name] : undefined;
}

function declared(names: Names, name: string, model: StatementModel, doubts: readonly string[]): Names {
  const known = lookUp(names, name);
  const next = known === undefined || digestOf(known) === digestOf(model) ? model : both(known, model, doubts);
  return Object.fromEntries([...Object.entries(names).filter(([other]) => other !== name), [name, next]]);
}

function without(names: Names, name: string | null): Names {
  return name === null ? {} : Object.fromEntries(Object.entries(names).filter(([other]) => other !== name));
}

function scopeOf(prepared: Names, cursors: Names): SessionScope {
  const entries = (names: Names): string =>
    Object.keys(names)
      .sort()
      .map((name) => `${JSON.stringify(name)}:${digestOf(names[name]!)}`)
      .join(",");
  const text = `${entries(prepared)};${entries(cursors)}`;
  return { ...emptyScope, prepared, cursors, digest: text === ";" ? "" : createHash("sha256").update(text).digest("hex") };
}

const digests = new WeakMap<StatementModel, string>();

/** Content hash of a model; models are never changed once made. */
function digestOf(model: StatementModel): string {
  const known = digests.get(model);
  if (known !== undefined) return known;
  const digest = createHash("sha256").update(JSON.stringify(model)).digest("hex");
  digests.set(model, digest);
  return digest;
}

/** Everything either of two statements may do, since it is not known which of them the name stands for. */
function both(a: StatementModel, b: StatementModel, doubts: readonly string[]): StatementModel {
  const form = new Map(a.influences.map((influence) => [influence.column, influence.form]));
  for (const { column, form: other } of b.influences) form.set(column, form.get(column) === "other" ? "other" : other);
  return {
    class: statementClasses.find((each) => each === a.class || each === b.class) ?? "unknown",
    effects: unique([...a.effects, ...b.effects]),
    relations: unique([...a.relations, ...b.relations]),
    influences: [...form].map(([column, of]) => ({ column, form: of })),
    bulkExport: a.bulkExport || b.bulkExport,
    bulkShape: a.bulkShape || b.bulkShape,
    bulkRelations: unique([...a.bulkRelations, ...b.bulkRelations]),
    hasWhere: a.hasWhere && b.hasWhere,
    limit: a.limit === null || b.limit === null ? null : Math.max(a.limit, b.limit),
    undecided: unique([...a.undecided, ...b.undecided, ...doubts]),
    ...columnsOfBoth(a, b),
    tells: unique([...(a.tells ?? []), ...(b.tells ?? [])]),
    writeFlows: unique([...a.writeFlows, ...b.writeFlows]),
    reaches: unique([...a.reaches, ...b.reaches]),
    sensitiveCatalogs: unique([...a.sensitiveCatalogs, ...b.sensitiveCatalogs]),
    escapes: unique([...a.escapes, ...b.escapes]),
    settings: unique([...a.settings, ...b.settings]),
    scopeChanges: [],
    copy: a.copy === b.copy ? a.copy : "out",
    changesCatalog: a.changesCatalog || b.changesCatalog,
  };
}

function columnsOfBoth(a: StatementModel, b: StatementModel): Pick<StatementModel, "columns" | "columnsKnown"> {
  if (a.columns === null && b.columns === null) return { columns: null, columnsKnown: true };
  if (!a.columnsKnown || !b.columnsKnown || a.columns?.length !== b.columns?.length) {
    const origins = unique([...(a.columns ?? []), ...(b.columns ?? [])].flatMap((column) => column.origins)).sort();
    return { columns: [{ name: "*", origins, exact: false }], columnsKnown: false };
  }
  const others = b.columns ?? [];
  const columns = (a.columns ?? []).map((column, at): OutputColumn => {
    const other = others[at]!;
    const origins = unique([...column.origins, ...other.origins]).sort();
    return { name: column.name, origins, exact: column.exact && other.exact && origins.length === 1 };
  });
  return { columns, columnsKnown: true };
}

function unique<T>(values: readonly T[]): T[] {
  const seen = new Map<string, T>();
  for (const value of values) {
    const key = JSON.stringify(value);
    if (!seen.has(key)) seen.set(key, value);
  }
  return [...seen.values()];
}
