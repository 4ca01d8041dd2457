/**
 * What statements other than queries carry to places where it stays or from where it leaves: definitions that compute from
 * columns, names and families that change under a label, files, programs, other servers. Must never treat a definition it does
 * not read (a function's body) as harmless.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import { columnOrigins } from "./temporary.ts";
import { type Part, partsOf, stringField } from "./tree.ts";

/** Statement kinds that reach outside the database or load code, by the words people know them by. */
export function escapeOf(statement: Part): string | undefined {
  const { body } = statement;
  switch (statement.kind) {
    case "CopyStmt":
      if (body["is_program"] === true) return "COPY PROGRAM";
      return stringField(body, "filename") === "" ? undefined : "COPY with a server file";
    case "TransactionStmt":
      return body["kind"] === "TRANS_STMT_PREPARE" ? "PREPARE TRANSACTION" : undefined;
    default:
      return escapingKinds.get(statement.kind);
  }
}

const escapingKinds: ReadonlyMap<string, string> = new Map([
  ["LoadStmt", "LOAD"],
  ["CreatePublicationStmt", "CREATE PUBLICATION"],
  ["AlterPublicationStmt", "ALTER PUBLICATION"],
  ["CreateSubscriptionStmt", "CREATE SUBSCRIPTION"],
  ["AlterSubscriptionStmt", "ALTER SUBSCRIPTION"],
  ["CreateFdwStmt", "CREATE FOREIGN DATA WRAPPER"],
  ["AlterFdwStmt", "ALTER FOREIGN DATA WRAPPER"],
  ["CreateForeignServerStmt", "CREATE SERVER"],
  ["AlterForeignServerStmt", "ALTER SERVER"],
  ["CreateForeignTableStmt", "CREATE FOREIGN TABLE"],
  ["ImportForeignSchemaStmt", "IMPORT FOREIGN SCHEMA"],
  ["CreateUserMappingStmt", "CREATE USER MAPPING"],
  ["AlterUserMappingStmt", "ALTER USER MAPPING"],
  ["CreateExtensionStmt", "CREATE EXTENSION"],
  ["AlterExtensionStmt", "ALTER EXTENSION"],
  ["AlterExtensionContentsStmt", "ALTER EXTENSION"],
  ["CreatePLangStmt", "CREATE LANGUAGE"],
]);

/**
 * Columns that a definition carries along. `leftOver`: origins of the column references in its expressions. `relations`: those
 * it names and what is behind them.
 */
export function definitionFlows(
  statement: Part,
  leftOver: ReadonlySet<string>,
  relations: readonly CatalogRelation[],
): ReadonlySet<string> {
  const flows = new Set(leftOver);
  switch (statement.kind) {
    case "CreateFunctionStmt":
    case "DoStmt":
      flows.add("*"); // a body may copy anything
      break;
    case "CreatedbStmt":
      // A template is copied whole, under a name that no label knows.
      if (partsOf(statement.body["options"]).some((option) => stringField(option.body, "defname") === "template")) flows.add("*");
      break;
    case "RuleStmt":
    case "CreateTrigStmt":
    case "CreatePolicyStmt": // its condition may look into any relation, and shows which rows meet it
    case "AlterPolicyStmt":
    case "AlterObjectSchemaStmt":
      addColumns(flows, relations);
      break;
    case "RenameStmt":
      // Labels may hang on the old name.
      if (stringField(statement.body, "renameType") === "OBJECT_SCHEMA") flows.add("*");
      else addColumns(flows, relations);
      break;
    case "CreateStmt":
      if (statement.body["inhRelations"] !== undefined) addColumns(flows, relations);
      break;
    case "AlterTableStmt":
      if (partsOf(statement.body["cmds"]).some((command) => familyCommands.has(stringField(command.body, "subtype")))) {
        addColumns(flows, relations);
      }
      break;
    default:
  }
  return flows;
}

/** ALTER TABLE commands after which rows show under another relation or another type. */
const familyCommands: ReadonlySet<string> = new Set([
  "AT_AttachPartition",
  "AT_DetachPartition",
  "AT_DetachPartitionFinalize",
  "AT_AddInherit",
  "AT_DropInherit",
  "AT_AddOf",
  "AT_AlterColumnType",
  "AT_GenericOptions",
]);

function addColumns(flows: Set<string>, relations: readonly CatalogRelation[]): void {
  for (const relation of relations) {
    if (relation.kind === "view" || relation.kind === "sequence") continue;
    for (const column of relation.columns) for (const origin of columnOrigins(relation, column)) flows.add(origin);
  }
}
