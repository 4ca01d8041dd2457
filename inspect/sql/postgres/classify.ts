/**
 * Every effect of a statement, from its whole tree: what is nested (a CTE that deletes, a locking clause, a call of nextval)
 * counts as what stands first. Must never miss a statement node: kinds the table does not know are unknown.
 * Source: statement-kinds.ts; the contract's effects table.
 */
import { type StatementClass, type StatementEffect, statementClasses } from "../model.ts";
import { functionEffect } from "./function-lists.ts";
import { mayStandInText } from "./node-kinds.ts";
import { statementKind } from "./statement-kinds.ts";
import { constantText, fieldsOf, namesOf, type Part, partOf, partsOf, stringField, typed, walk } from "./tree.ts";

/** Effects of the statement and of everything in it, in the order of the text; each once. The first is the statement's own. */
export function effectsOf(statement: Part): readonly StatementEffect[] {
  const found = new Map<string, StatementEffect>();
  const add = (effect: StatementEffect): void => {
    found.set(`${effect.class} ${effect.name}`, effect);
  };
  walk(statement, (part, parent) => {
    if (part.kind === "ExplainStmt" && !explainExecutes(part)) {
      add({ name: "explain", class: "read" });
      return false; // its statement is planned, not run
    }
    for (const effect of effectsOfNode(part, parent)) add(effect);
    return true;
  });
  return [...found.values()];
}

/** The class of the gravest effect; `unknown` where there is none, since every statement has one. */
export function gravest(effects: readonly StatementEffect[]): StatementClass {
  const present = new Set(effects.map((effect) => effect.class));
  return statementClasses.find((name) => present.has(name)) ?? "unknown";
}

/** True when the EXPLAIN runs its statement: ANALYZE given and not plainly switched off. */
export function explainExecutes(explain: Part): boolean {
  return partsOf(explain.body["options"]).some((option) => {
    if (option.kind !== "DefElem" || stringField(option.body, "defname") !== "analyze") return false;
    const arg = partOf(option.body["arg"]);
    if (arg === undefined) return true;
    if (arg.kind === "Boolean") return arg.body["boolval"] === true;
    if (arg.kind === "Integer") return arg.body["ival"] !== undefined && arg.body["ival"] !== 0;
    // What is not plainly "no" counts as "yes": the server knows more spellings than need be listed.
    return !(arg.kind === "String" && ["off", "false", "no", "f", "n"].includes(stringField(arg.body, "sval").toLowerCase()));
  });
}

function effectsOfNode(part: Part, parent: Part | undefined): readonly StatementEffect[] {
  switch (part.kind) {
    case "SelectStmt":
      return selectEffects(part, parent);
    case "FuncCall":
      return functionEffects(part);
    case "VariableSetStmt":
      return parent === undefined ? [setEffect(part)] : []; // ALTER ROLE … SET and the like set nothing in this session
    case "TransactionStmt":
      return [transactionEffect(part)];
    case "GrantStmt":
      return [{ name: part.body["is_grant"] === true ? "grant" : "revoke", class: "privilege" }];
    case "GrantRoleStmt":
      return [{ name: part.body["is_grant"] === true ? "grant_role" : "revoke_role", class: "privilege" }];
    case "CopyStmt":
      return [part.body["is_from"] === true ? { name: "copy_from", class: "write" } : { name: "copy_to", class: "export" }];
    case "CreateTableAsStmt":
      return [createAsEffect(part)];
    case "DropStmt":
      return [dropEffect(part)];
    case "AlterTableStmt":
      return [{ name: alterName(part), class: "ddl" }, ...alterTableEffects(part)];
    case "RenameStmt":
      return [{ name: "rename", class: stringField(part.body, "renameType") === "OBJECT_ROLE" ? "privilege" : "ddl" }];
    case "VacuumStmt":
      return [{ name: part.body["is_vacuumcmd"] === true ? "vacuum" : "analyze", class: "admin" }];
    case "FetchStmt":
      return [{ name: part.body["ismove"] === true ? "move" : "fetch", class: "read" }];
    case "AlterFunctionStmt":
    case "CreateFunctionStmt":
      return [functionDefinitionEffect(part)];
    default: {
      const effect = statementKind(part.kind);
      if (effect !== undefined) return [effect];
      return mayStandInText(part.kind) ? [] : [UNMAPPED];
    }
  }
}

/** A construct that nobody has classified. */
const UNMAPPED: StatementEffect = { name: "unmapped", class: "unknown" };

function selectEffects(part: Part, parent: Part | undefined): readonly StatementEffect[] {
  const select = typed(part, "SelectStmt");
  const effects: StatementEffect[] = [];
  // INSERT … VALUES is written as a SELECT in the tree; it reads nothing of its own.
  const valuesOfInsert = select.valuesLists !== undefined && parent?.kind === "InsertStmt";
  if (!valuesOfInsert) effects.push({ name: "select", class: "read" });
  if (select.lockingClause !== undefined) effects.push({ name: "lock", class: "write" });
  if (select.intoClause !== undefined) effects.push({ name: "select_into", class: "ddl" });
  return effects;
}

function functionEffects(part: Part): readonly StatementEffect[] {
  const names = namesOf(part.body["funcname"]);
  const name = names.at(-1) ?? "";
  if (name === "set_config") return [setConfigEffect(part)];
  const effect = functionEffect(name);
  return effect === undefined ? [] : [effect];
}

function setConfigEffect(part: Part): StatementEffect {
  const setting = literalText(partsOf(part.body["args"])[0]);
  // A name that is computed may be any setting, the role too.
  return setting === null ? { name: "set_config", class: "privilege" } : setEffectOf(setting);
}

function setEffect(part: Part): StatementEffect {
  const kind = stringField(part.body, "kind");
  const name = stringField(part.body, "name");
  if (kind === "VAR_SET_MULTI") {
    return name === "SESSION CHARACTERISTICS"
      ? { name: "set", class: "session" }
      : { name: "set_transaction", class: "transaction" };
  }
  const effect = setEffectOf(name);
  return effect.class === "session" && kind.startsWith("VAR_RESET") ? { name: "reset", class: "session" } : effect;
}

function setEffectOf(setting: string): StatementEffect {
  switch (setting.toLowerCase()) {
    case "role":
      return { name: "set_role", class: "privilege" };
    case "session_authorization":
      return { name: "set_session_authorization", class: "privilege" };
    default:
      return { name: "set", class: "session" };
  }
}

function transactionEffect(part: Part): StatementEffect {
  const kind = stringField(part.body, "kind");
  switch (kind) {
    case "TRANS_STMT_BEGIN":
    case "TRANS_STMT_START":
      return { name: "begin", class: "transaction" };
    case "TRANS_STMT_COMMIT":
      return { name: "commit", class: "transaction" };
    case "TRANS_STMT_ROLLBACK":
      return { name: "rollback", class: "transaction" };
    case "TRANS_STMT_SAVEPOINT":
      return { name: "savepoint", class: "transaction" };
    case "TRANS_STMT_RELEASE":
      return { name: "release_savepoint", class: "transaction" };
    case "TRANS_STMT_ROLLBACK_TO":
      return { name: "rollback_to_savepoint", class: "transaction" };
    case "TRANS_STMT_PREPARE":
      return { name: "prepare_transaction", class: "admin" };
    case "TRANS_STMT_COMMIT_PREPARED":
      return { name: "commit_prepared", class: "admin" };
    case "TRANS_STMT_ROLLBACK_PREPARED":
      return { name: "rollback_prepared", class: "admin" };
    default:
      return UNMAPPED;
  }
}

function createAsEffect(part: Part): StatementEffect {
  if (part.body["objtype"] === "OBJECT_MATVIEW") return { name: "create_materialized_view", class: "ddl" };
  return { name: part.body["is_select_into"] === true ? "select_into" : "create_table_as", class: "ddl" };
}

function dropEffect(part: Part): StatementEffect {
  const type = objectName(stringField(part.body, "removeType"));
  return { name: `drop_${type}`, class: type === "policy" ? "privilege" : "ddl" };
}

function alterName(part: Part): string {
  const type = objectName(stringField(part.body, "objtype"));
  return `alter_${type === "" ? "table" : type}`;
}

function objectName(objectType: string): string {
  const type = objectType.replace(/^OBJECT_/, "").toLowerCase();
  return type === "matview" ? "materialized_view" : type;
}

/** ALTER TABLE … OWNER TO and the switches of row security change rights, not definitions. */
function alterTableEffects(part: Part): readonly StatementEffect[] {
  return partsOf(part.body["cmds"]).flatMap((command): readonly StatementEffect[] => {
    switch (stringField(command.body, "subtype")) {
      case "AT_ChangeOwner":
        return [{ name: "alter_owner", class: "privilege" }];
      case "AT_EnableRowSecurity":
      case "AT_DisableRowSecurity":
      case "AT_ForceRowSecurity":
      case "AT_NoForceRowSecurity":
        return [{ name: "alter_row_security", class: "privilege" }];
      default:
        return [];
    }
  });
}

/** SECURITY DEFINER gives the function's callers its owner's rights. */
function functionDefinitionEffect(part: Part): StatementEffect {
  const name = part.kind === "AlterFunctionStmt" ? "alter_function" : "create_function";
  const options = [...partsOf(part.body["options"]), ...partsOf(part.body["actions"])];
  const definer = options.some((option) => {
    const arg = fieldsOf(partOf(option.body["arg"]), "Boolean");
    return stringField(option.body, "defname") === "security" && arg?.boolval === true;
  });
  return { name, class: definer ? "privilege" : "ddl" };
}

/** The text of a string constant, cast or not; null for anything else. */
export function literalText(part: Part | undefined): string | null {
  if (part?.kind === "TypeCast") return literalText(partOf(part.body["arg"]));
  return constantText(part);
}
