/**
 * Simple Queries that the relay sends as extended ones, and what every forwarded text has in common: its run, its effect on
 * names, and whether later messages must wait for it. It judges nothing: the permission is an argument.
 */
import type { Permission } from "../judgement.ts";
import type { ExecuteAnswer, Run } from "./answers.ts";
import { encodeBind, encodeDescribe, encodeExecute, encodeParse } from "./messages.ts";
import type { NameChange, Portal, PreparedStatement } from "./names.ts";
import type { RelayState } from "./relay-state.ts";

/**
 * Words without which a text cannot give a statement's or cursor's name to something else. What follows such a text waits until
 * it has run, so that names resolve to what the target has. The judge says the same for what it knows by `settleFirst`.
 */
const NAMING_WORDS = /prepare|deallocate|discard|declare|close/i;

/**
 * A simple Query as Parse, Bind, Describe, Execute, Sync: errors of the Parse cannot hold row data and stay readable, and with
 * the Sync held back a write that breaks its limit can still be undone.
 */
export function translateQuery(state: RelayState, permission: Permission, text: string, bytes: Buffer): void {
  const { scrub } = permission;
  const plan = permission.statements[0]!;
  const statement: PreparedStatement = { name: "", text, scrub, parameterTypes: [], fields: undefined };
  const portal: Portal = { statement, parameterFormats: [], parameters: [], resultFormats: [], rows: 0 };
  const common = { done: false, substitute: null } as const;
  const gone = unnamedGone(state);
  for (const message of [encodeParse("", bytes), encodeBind("", ""), encodeDescribe("P", ""), encodeExecute("")])
    state.toTarget(message);
  state.answers.push({ ...common, kind: "parse", scrub: false, statement: gone.statement, swallowed: true });
  state.answers.push({ ...common, kind: "bind", scrub, portal: gone.portal, swallowed: true });
  state.answers.push({ ...common, kind: "describe", scrub, purpose: "translate", statement });
  const execute: ExecuteAnswer = {
    ...common,
    kind: "execute",
    scrub,
    run: newRun(permission, portal),
    syncFollows: plan.undoWhenExceeded,
  };
  state.answers.push(execute);
  if (execute.syncFollows) {
    state.flushTarget();
    state.holdBehind(execute, false);
    return;
  }
  const sync = state.sendSync(false);
  if (plan.rowsMax !== null || settles(permission, text) || (state.judge.undoable === true && state.status !== "T"))
    state.holdBehind(sync, false);
}

/** A simple Query takes the unnamed statement and portal away, as a change like any other. */
export function unnamedGone(state: RelayState): {
  statement: NameChange<PreparedStatement> | null;
  portal: NameChange<Portal> | null;
} {
  const { statements, portals, segment } = state;
  const change = { name: "", value: null, segment };
  const statement = statements.has("") ? change : null;
  const portal = portals.has("") ? change : null;
  if (statement !== null) statements.propose(statement);
  if (portal !== null) portals.propose(portal);
  return { statement, portal };
}

/** Whether what follows must wait until this text has run. */
export function settles(permission: Permission, text: string): boolean {
  return permission.settleFirst === true || NAMING_WORDS.test(text);
}

export function newRun(permission: Permission, portal: Portal | null): Run {
  return {
    permission,
    portal,
    index: 0,
    rows: 0,
    broken: null,
    brokenTold: false,
    edits: undefined,
    copyOut: false,
    copyRows: null,
  };
}
