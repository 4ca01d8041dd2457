/**
 * The settings that decide what names mean in a session, and what SET, SET LOCAL, savepoints and the ends of transactions do to
 * them and to temporary relations. Pure: each change gives new values. Must never keep a value that the server may have undone.
 * Follows guc.c (push_old_value, AtEOXact_GUC) and miscinit.c (roles).
 */
import type { FollowedNames, NameSettings, TemporaryRelation, UndoableNames } from "./model.ts";
import { schemasOf } from "./search-path.ts";

/** What a server says of a session before its first statement. */
export interface StartOfSession {
  readonly searchPath: string;
  readonly currentUser: string;
  readonly sessionUser: string;
}

const UNKNOWN: NameSettings = { path: null, role: null, user: null };

/** A session of which nothing is known. */
export const nothingFollowed: FollowedNames = { start: UNKNOWN, kept: UNKNOWN, local: {}, frames: [], hidden: [] };

/** Savepoints that are remembered once a transaction has changed names. Drivers that make one a statement nest them rarely. */
export const SAVEPOINTS_FOLLOWED_MAX = 1_000;

export function followedFrom({ searchPath, currentUser, sessionUser }: StartOfSession): FollowedNames {
  const start: NameSettings = {
    path: searchPath,
    role: currentUser === sessionUser ? "none" : currentUser,
    user: sessionUser,
  };
  return { ...nothingFollowed, start, kept: start };
}

/** What counts now. */
export function effective({ kept, local }: Pick<UndoableNames, "kept" | "local">): NameSettings {
  return { ...kept, ...local };
}

/** The role that statements run as; null: not known. */
export function roleOf(settings: NameSettings): string | null {
  return settings.role === "none" ? settings.user : settings.role;
}

/** As `schemasOf`, for these settings. */
export function pathOf(settings: NameSettings): readonly string[] | null {
  return schemasOf(settings.path, roleOf(settings));
}

/** Settings that are followed, by the name that SET uses. */
export function isFollowed(name: string): boolean {
  return name === "search_path" || name === "role" || name === "session_authorization" || name === "all";
}

/** After SET, RESET or set_config of a followed setting. `value` null: what it was when the session began. */
export function withSetting<Names extends UndoableNames & Pick<FollowedNames, "start">>(
  names: Names,
  change: { readonly name: string; readonly value: string | null; readonly local: boolean },
): Names {
  const { start } = names;
  switch (change.name) {
    case "search_path":
    case "all": // RESET ALL leaves roles alone
      return put(names, { path: change.value ?? start.path }, change.local);
    case "role":
      return put(names, { role: change.value ?? start.role }, change.local);
    case "session_authorization":
      // It ends SET ROLE.
      return put(names, { user: change.value ?? start.user, role: "none" }, change.local);
    default:
      return names;
  }
}

function put<Names extends UndoableNames>(names: Names, values: Partial<NameSettings>, local: boolean): Names {
  if (local) return { ...names, local: { ...names.local, ...values } };
  const rest = Object.fromEntries(Object.entries(names.local).filter(([name]) => !(name in values)));
  return { ...names, kept: { ...names.kept, ...values }, local: rest };
}

/** What a transaction verb leaves of the names; null: it cannot be known any more. */
export type Undone = { readonly names: UndoableNames; readonly frames: FollowedNames["frames"] } | null;

/** The transaction has ended well: what was local is over. */
export function committed(names: UndoableNames, frames: FollowedNames["frames"]): Undone {
  return {
    names: Object.keys(names.local).length === 0 ? names : { ...names, local: {} },
    frames: frames.length === 0 ? frames : [],
  };
}

/** The transaction is undone. */
export function rolledBack(names: UndoableNames, frames: FollowedNames["frames"]): Undone {
  const first = frames[0];
  return first === undefined ? { names, frames } : { names: restored(first, names), frames: [] };
}

/** Remembers the names before a first change. */
export function framesBefore(names: UndoableNames, frames: FollowedNames["frames"]): FollowedNames["frames"] {
  return frames.length > 0 ? frames : [{ ...undoable(names), savepoint: null }];
}

/** Before the transaction's first change a savepoint holds nothing that its beginning does not. */
export function withSavepoint(names: UndoableNames, frames: FollowedNames["frames"], savepoint: string): Undone {
  if (frames.length === 0) return { names, frames };
  if (frames.length > SAVEPOINTS_FOLLOWED_MAX) return null;
  return { names, frames: [...frames, { ...undoable(names), savepoint }] };
}

/** One that is not remembered was made before the first change. */
export function backToSavepoint(names: UndoableNames, frames: FollowedNames["frames"], savepoint: string): Undone {
  const at = frames.findLastIndex((frame) => frame.savepoint === savepoint);
  const frame = frames[at];
  return frame === undefined ? rolledBack(names, frames) : { names: restored(frame, names), frames: frames.slice(0, at + 1) };
}

export function withoutSavepoint(names: UndoableNames, frames: FollowedNames["frames"], savepoint: string): Undone {
  const at = frames.findLastIndex((frame) => frame.savepoint === savepoint);
  return { names, frames: frames.slice(0, at === -1 ? 1 : at) };
}

/** Servers disagree about what an undone SET SESSION AUTHORIZATION leaves of an earlier SET ROLE (mended in 2024). */
function restored({ kept, local, temporary }: UndoableNames, from: UndoableNames): UndoableNames {
  const back = { kept, local, temporary };
  if (effective(back).user === effective(from).user) return back;
  return effective(back).role === "none" ? back : { ...back, kept: { ...kept, role: null }, local: withoutRole(local) };
}

function withoutRole(local: Partial<NameSettings>): Partial<NameSettings> {
  const { role: _role, ...rest } = local;
  return rest;
}

function undoable({ kept, local, temporary }: UndoableNames): UndoableNames {
  return { kept, local, temporary };
}

export function withTemporary(
  temporary: Readonly<Record<string, TemporaryRelation>>,
  name: string,
  relation: TemporaryRelation | null,
): Readonly<Record<string, TemporaryRelation>> {
  const others = Object.entries(temporary).filter(([other]) => other !== name);
  return Object.fromEntries(relation === null ? others : [...others, [name, relation]]);
}
