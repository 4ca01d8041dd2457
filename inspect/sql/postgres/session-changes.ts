/**
 * What a statement changes in its session's names once it has run: settings, transactions, and code that may change them unseen.
 * Must never overlook a way to them: what may or may not have happened makes the session lost.
 */
import type { ScopeChange, SessionScope, StatementModel, TransactionVerb } from "../model.ts";
import { joinIdentifiers, splitIdentifiers } from "../search-path.ts";
import { effective, isFollowed } from "../session-settings.ts";
import { calledName } from "./functions.ts";
import { plainBoolean, plainText, settingsOf } from "./settings.ts";
import { namesOf, type Part, partOf, partsOf, stringField, walk } from "./tree.ts";

/** Changes by the statement's own tree, in the order in which they come about. */
export function ownSessionChanges(statement: Part, session: SessionScope): readonly ScopeChange[] {
  switch (statement.kind) {
    case "VariableSetStmt":
      return variableChanges(statement, session);
    case "TransactionStmt":
      return transactionChanges(statement);
    case "LoadStmt":
      return [lost("LOAD")];
    default:
      return configChanges(statement);
  }
}

/** Further: code that nobody knows may set, reset and make names. `undecided` as in the statement's model. */
export function unknownCodeChanges({ undecided }: Pick<StatementModel, "undecided">): readonly ScopeChange[] {
  const [first] = undecided.filter((what) => !what.startsWith("foreign table "));
  return first === undefined ? [] : [lost(first)];
}

function lost(why: string): ScopeChange {
  return { kind: "lost", why };
}

function variableChanges(statement: Part, session: SessionScope): readonly ScopeChange[] {
  const { body } = statement;
  const name = stringField(body, "name").toLowerCase();
  const local = body["is_local"] === true;
  switch (stringField(body, "kind")) {
    case "VAR_RESET_ALL":
      return [{ kind: "setting", name: "all", value: null, local: false }];
    case "VAR_SET_MULTI":
      return [];
    case "VAR_SET_DEFAULT":
    case "VAR_RESET":
      return isFollowed(name) ? [{ kind: "setting", name, value: null, local }] : [];
    case "VAR_SET_VALUE": {
      if (!isFollowed(name)) return [];
      const value = setValue(name, partsOf(body["args"]));
      return [value === null ? lost(`SET ${name}`) : { kind: "setting", name, value, local }];
    }
    default: {
      // FROM CURRENT: what holds now, from here on.
      if (!isFollowed(name)) return [];
      const value = currentValue(name, session);
      return [value === null ? lost(`SET ${name} FROM CURRENT`) : { kind: "setting", name, value, local }];
    }
  }
}

/** SET quotes each word by itself: `SET search_path = 'a, b'` names one schema. */
function setValue(name: string, args: readonly Part[]): string | null {
  const texts = args.map((arg) => (arg.kind === "String" ? (namesOf([{ String: arg.body }])[0] ?? null) : plainText(arg)));
  if (!texts.every((text) => text !== null)) return null;
  return name === "search_path" ? joinIdentifiers(texts) : texts.length === 1 ? texts[0]! : null;
}

function currentValue(name: string, { followed }: SessionScope): string | null {
  if (followed === undefined) return null;
  const { path, role, user } = effective(followed);
  return name === "search_path" ? path : name === "role" ? role : name === "session_authorization" ? user : null;
}

const verbs: Readonly<Record<string, TransactionVerb>> = {
  TRANS_STMT_BEGIN: "begin",
  TRANS_STMT_START: "begin",
  TRANS_STMT_COMMIT: "commit",
  TRANS_STMT_ROLLBACK: "rollback",
  TRANS_STMT_SAVEPOINT: "savepoint",
  TRANS_STMT_RELEASE: "release",
  TRANS_STMT_ROLLBACK_TO: "rollback_to",
  // To the session it is the end of a transaction like COMMIT.
  TRANS_STMT_PREPARE: "commit",
};

function transactionChanges({ body }: Part): readonly ScopeChange[] {
  const kind = stringField(body, "kind");
  const verb = Object.hasOwn(verbs, kind) ? verbs[kind] : undefined;
  return verb === undefined ? [] : [{ kind: "transaction", verb, name: stringField(body, "savepoint_name") }];
}

/** set_config: exact where it stands alone, once, with constants; anywhere else it may run never, often, or not yet. */
function configChanges(statement: Part): readonly ScopeChange[] {
  const settings = settingsOf(statement);
  if (!settings.some(({ name }) => name === "*" || isFollowed(name))) return [];
  const calls = bareCalls(statement);
  let found = 0;
  walk(statement, (part) => {
    if (part.kind === "FuncCall" && calledName(part).at(-1) === "set_config") found += 1;
  });
  if (calls === null || found !== calls.length || settings.length !== found) return [lost("set_config")];
  return calls.flatMap((call): readonly ScopeChange[] => {
    const [nameArg, valueArg, localArg] = partsOf(call.body["args"]);
    const name = plainText(nameArg)?.toLowerCase();
    const value = plainText(valueArg);
    const local = plainBoolean(localArg);
    if (name !== undefined && !isFollowed(name)) return [];
    if (name === undefined || value === null || local === null || name === "all") return [lost("set_config")];
    if (name === "search_path" && splitIdentifiers(value) === null) return [lost("set_config")];
    return [{ kind: "setting", name, value, local }];
  });
}

/** The calls of `SELECT set_config(…), set_config(…)` with nothing else in it; null for any other statement. */
function bareCalls(statement: Part): readonly Part[] | null {
  if (statement.kind !== "SelectStmt") return null;
  const bare = Object.entries(statement.body).every(([field, value]) => bareFields.has(field) || isNothing(value));
  if (!bare) return null;
  const calls: Part[] = [];
  for (const target of partsOf(statement.body["targetList"])) {
    const value = partOf(target.body["val"]);
    if (value?.kind !== "FuncCall") return null;
    if (!Object.entries(value.body).every(([field, inner]) => callFields.has(field) || isNothing(inner))) return null;
    calls.push(value);
  }
  return calls;
}

const bareFields: ReadonlySet<string> = new Set(["targetList", "limitOption", "op"]);
const callFields: ReadonlySet<string> = new Set(["funcname", "args", "funcformat", "location"]);

function isNothing(value: unknown): boolean {
  return value === undefined || value === null || value === false || (Array.isArray(value) && value.length === 0);
}
