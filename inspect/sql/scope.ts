/**
 * What a session has named and set: SQL PREPARE and DECLARE, search_path and roles, temporary relations, and what the end of a
 * transaction undoes of them. Pure: a change gives a new scope. Must never let a name come to stand for less than it might: one
 * declared again stands for both until it is closed, and what cannot be followed makes the session lost.
 */
import { createHash } from "node:crypto";
import { assertNever } from "@sluice/core/assert-never.ts";
import {
  type FollowedNames,
  type OutputColumn,
  type ScopeChange,
  type SessionScope,
  type StatementModel,
  statementClasses,
  type TransactionVerb,
  type UndoableNames,
} from "./model.ts";
import {
  backToSavepoint,
  committed,
  effective,
  followedFrom,
  framesBefore,
  isFollowed,
  nothingFollowed,
  pathOf,
  roleOf,
  rolledBack,
  type StartOfSession,
  type Undone,
  withoutSavepoint,
  withSavepoint,
  withSetting,
  withTemporary,
} from "./session-settings.ts";

export const emptyScope: SessionScope = {
  prepared: {},
  cursors: {},
  path: null,
  role: null,
  temporary: {},
  lost: [],
  digest: "",
};

/** The scope of a session before its first statement. */
export function scopeFrom(start: StartOfSession | undefined): SessionScope {
  return start === undefined ? emptyScope : scopeOf({ ...emptyScope, followed: followedFrom(start) });
}

/** The scope after a statement that made this change has succeeded. */
export function applyScopeChange(scope: SessionScope, change: ScopeChange): SessionScope {
  switch (change.kind) {
    case "prepare": {
      const hidden = followedOf(scope).hidden.filter(({ name }) => name !== change.name);
      const doubts = [`prepared statement ${change.name} (made twice)`];
      return scopeOf({ ...withHidden(scope, hidden), prepared: declared(scope.prepared, change.name, change.model, doubts) });
    }
    case "deallocate": {
      const hidden = followedOf(scope).hidden.filter(({ name }) => change.name !== null && name !== change.name);
      return scopeOf({ ...withHidden(scope, hidden), prepared: without(scope.prepared, change.name) });
    }
    case "declare":
      // Cursors end with their transaction, so that a name is commonly used again: what either may do is answer enough.
      return scopeOf({ ...scope, cursors: declared(scope.cursors, change.name, fetched(change.model), []) });
    case "close":
      return scopeOf({ ...scope, cursors: without(scope.cursors, change.name) });
    case "discard":
      return discarded(scope, change.what);
    case "setting":
      return isFollowed(change.name) ? changed(scope, (names) => withSetting(names, change)) : scope;
    case "temporary":
      return changed(scope, (names) => ({ ...names, temporary: withTemporary(names.temporary, change.name, change.relation) }));
    case "transaction":
      return afterVerb(scope, change.verb, change.name);
    case "lost":
      return lostScope(scope, change.why);
    default:
      return assertNever(change);
  }
}

/** The same session with these names in place of its own. */
export function scopeWith(
  scope: SessionScope,
  prepared: SessionScope["prepared"],
  cursors: SessionScope["cursors"],
): SessionScope {
  return withDigest({ ...scope, prepared, cursors });
}

/** What names mean is not known from here on, until DISCARD ALL. */
export function lostScope(scope: SessionScope, why: string): SessionScope {
  if (scope.lost.includes(why) || scope.lost.length >= REASONS_MAX) return scope;
  return scopeOf({ ...scope, lost: [...scope.lost, why] });
}

/** Enough to tell a person; each makes the session another one to the cache. */
const REASONS_MAX = 1;

/** The path is what the server reports it to be, for now; what an end of the transaction brings back is not known then. */
export function scopeWithReported(scope: SessionScope, path: string): SessionScope {
  const followed = followedOf(scope);
  if (effective(followed).path === path) return scope;
  const { path: _path, ...local } = followed.local;
  const frames = followed.frames.map((frame) => ({ ...frame, kept: { ...frame.kept, path: null } }));
  return scopeOf({ ...scope, followed: { ...followed, kept: { ...followed.kept, path }, local, frames } });
}

/** The end of the open transaction would change what names mean. */
export function isUndoable(scope: SessionScope): boolean {
  return (scope.followed?.frames.length ?? 0) > 0;
}

/** What texts of statements are read by: with the same a statement means the same. */
export function meaningOf(scope: SessionScope): string {
  if (scope.path === null && scope.lost.length === 0 && Object.keys(scope.temporary).length === 0) return "";
  const known = meanings.get(scope);
  if (known !== undefined) return known;
  const text = JSON.stringify([scope.path, scope.role, scope.lost, sorted(scope.temporary)]);
  const meaning = createHash("sha256").update(text).digest("hex");
  meanings.set(scope, meaning);
  return meaning;
}

const meanings = new WeakMap<SessionScope, string>();

/**
 * DISCARD ALL ends everything that is followed here, and whatever a function nobody knows may have set or made: settings, roles,
 * temporary relations, prepared statements, cursors. So a lost session is found again. It cannot run in a transaction.
 */
function discarded(scope: SessionScope, what: "all" | "temp" | "other"): SessionScope {
  if (what === "other") return scope;
  if (what === "temp") return changed(scope, (names) => ({ ...names, temporary: {} }));
  const { start } = followedOf(scope);
  return scope.followed === undefined
    ? emptyScope
    : scopeOf({ ...emptyScope, followed: { ...nothingFollowed, start, kept: start } });
}

function afterVerb(scope: SessionScope, verb: TransactionVerb, savepoint: string): SessionScope {
  const names = namesOf(scope);
  const { frames } = names;
  switch (verb) {
    case "begin":
      return scope;
    case "commit":
      return after(scope, committed(names, frames));
    case "rollback":
      return after(scope, rolledBack(names, frames));
    case "savepoint":
      return after(scope, withSavepoint(names, frames, savepoint));
    case "release":
      return after(scope, withoutSavepoint(names, frames, savepoint));
    case "rollback_to":
      return after(scope, backToSavepoint(names, frames, savepoint));
    default:
      return assertNever(verb);
  }
}

function after(scope: SessionScope, undone: Undone): SessionScope {
  if (undone === null) return lostScope(scope, "more savepoints than are followed");
  const { names, frames } = undone;
  const before = followedOf(scope);
  const same = names.kept === before.kept && names.local === before.local && names.temporary === scope.temporary;
  if (same && frames.length === before.frames.length) return scope;
  const { kept, local, temporary } = names;
  return scopeOf({ ...scope, temporary, followed: { ...before, kept, local, frames } });
}

type Changeable = FollowedNames & UndoableNames;

function changed(scope: SessionScope, change: (names: Changeable) => Changeable): SessionScope {
  const names = namesOf(scope);
  const { kept, local, temporary } = change(names);
  const frames = framesBefore(names, names.frames);
  return scopeOf({ ...scope, temporary, followed: { ...followedOf(scope), kept, local, frames } });
}

function namesOf(scope: SessionScope): Changeable {
  return { ...followedOf(scope), temporary: scope.temporary };
}

function followedOf(scope: SessionScope): FollowedNames {
  return scope.followed ?? nothingFollowed;
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

/** What a cursor's query changes, it changes some time, once or more, as it is fetched. */
function fetched(model: StatementModel): StatementModel {
  return model.scopeChanges.length === 0 ? model : { ...model, scopeChanges: [{ kind: "lost", why: "the query of a cursor" }] };
}

function without(names: Names, name: string | null): Names {
  return name === null ? {} : Object.fromEntries(Object.entries(names).filter(([other]) => other !== name));
}

function withHidden(scope: SessionScope, hidden: FollowedNames["hidden"]): SessionScope {
  const followed = followedOf(scope);
  return hidden.length === followed.hidden.length ? scope : { ...scope, followed: { ...followed, hidden } };
}

/** Puts together what follows from the rest: path, role, which prepared statements still mean what they meant, the digest. */
function scopeOf(parts: SessionScope): SessionScope {
  const followed = followedOf(parts);
  const settings = effective(followed);
  const lost = parts.lost.length > 0;
  const path = lost ? null : pathOf(settings);
  const role = lost ? null : roleOf(settings);
  const made = withDigest({ ...parts, path, role });
  const { prepared, hidden } = preparedUnder(meaningOf(made), meaningOf(parts), parts.prepared, followed.hidden);
  if (prepared === parts.prepared && hidden === followed.hidden) return made;
  return withDigest({ ...made, prepared, followed: { ...followed, hidden } });
}

/** The server reads a prepared text anew where names mean something else by now: then it is not known here, until they are back. */
function preparedUnder(
  now: string,
  before: string,
  prepared: Names,
  hidden: FollowedNames["hidden"],
): { readonly prepared: Names; readonly hidden: FollowedNames["hidden"] } {
  if (now === before) return { prepared, hidden };
  const gone = Object.entries(prepared).map(([name, model]) => ({ name, under: before, model }));
  if (gone.length === 0 && hidden.length === 0) return { prepared, hidden };
  const back = hidden.filter(({ under }) => under === now);
  return {
    prepared: Object.fromEntries(back.map(({ name, model }) => [name, model])),
    hidden: [...hidden.filter(({ under }) => under !== now), ...gone],
  };
}

function withDigest(scope: SessionScope): SessionScope {
  const { prepared, cursors, temporary, lost, followed } = scope;
  const entries = (names: Names): string =>
    Object.keys(names)
      .sort()
      .map((name) => `${JSON.stringify(name)}:${digestOf(names[name]!)}`)
      .join(",");
  const named = `${entries(prepared)};${entries(cursors)}`;
  const { hidden, ...settings } = followed ?? nothingFollowed;
  const unknown = followed === undefined || JSON.stringify(settings) === NOTHING_KNOWN;
  const others = hidden.map(({ name, under, model }) => JSON.stringify([name, under, digestOf(model)])).sort();
  const rest = [unknown ? null : settings, sorted(temporary), lost, others];
  const text = JSON.stringify(rest) === NOTHING_ELSE ? named : `${named};${JSON.stringify(rest)}`;
  const digest = text === ";" ? "" : createHash("sha256").update(text).digest("hex");
  if (digest !== "") return { ...scope, digest };
  return emptyScope;
}

const { hidden: _hidden, ...nothingSet } = nothingFollowed;
const NOTHING_KNOWN = JSON.stringify(nothingSet);
const NOTHING_ELSE = JSON.stringify([null, [], [], []]);

function sorted<Value>(record: Readonly<Record<string, Value>>): readonly (readonly [string, Value])[] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
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
    scopeChanges: a.scopeChanges.length + b.scopeChanges.length === 0 ? [] : [{ kind: "lost", why: doubts[0] ?? "a cursor" }],
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
