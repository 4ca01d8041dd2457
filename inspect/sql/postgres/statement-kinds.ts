/**
 * What each statement kind of PostgreSQL's grammar does: one effect and its class. A kind that is not here is unknown, and so
 * refused; kinds whose effect depends on their content are refined in classify.ts. The table in the documentation is made from it.
 * Source: the production `stmt` of gram.y, PostgreSQL 18; a test holds it against the generated node types.
 */
import type { StatementClass, StatementEffect } from "../model.ts";

/** The effect of a statement node; `unknown` for a kind the table does not have. */
export function statementKind(kind: string): StatementEffect | undefined {
  if (Object.hasOwn(statementKinds, kind)) return statementKinds[kind];
  return kind.endsWith("Stmt") ? effect("unmapped", "unknown") : undefined;
}

function effect(name: string, effectClass: StatementClass): StatementEffect {
  return { name, class: effectClass };
}

export const statementKinds: Readonly<Record<string, StatementEffect>> = {
  // queries and data
  SelectStmt: effect("select", "read"),
  InsertStmt: effect("insert", "write"),
  UpdateStmt: effect("update", "write"),
  DeleteStmt: effect("delete", "write"),
  MergeStmt: effect("merge", "write"),
  TruncateStmt: effect("truncate", "write"),
  LockStmt: effect("lock_table", "write"),
  RefreshMatViewStmt: effect("refresh_materialized_view", "write"),
  CopyStmt: effect("copy_to", "export"),
  CreateTableAsStmt: effect("create_table_as", "ddl"),
  ExplainStmt: effect("explain", "read"),
  CallStmt: effect("call", "call"),
  DoStmt: effect("do", "unknown"),

  // names of the session
  PrepareStmt: effect("prepare", "session"),
  ExecuteStmt: effect("execute", "unknown"),
  DeallocateStmt: effect("deallocate", "session"),
  DeclareCursorStmt: effect("declare_cursor", "read"),
  FetchStmt: effect("fetch", "read"),
  ClosePortalStmt: effect("close_cursor", "session"),
  DiscardStmt: effect("discard", "session"),
  VariableSetStmt: effect("set", "session"),
  VariableShowStmt: effect("show", "session"),
  ListenStmt: effect("listen", "session"),
  UnlistenStmt: effect("unlisten", "session"),
  NotifyStmt: effect("notify", "session"),

  // transactions
  TransactionStmt: effect("transaction", "transaction"),
  ConstraintsSetStmt: effect("set_constraints", "transaction"),

  // rights
  GrantStmt: effect("grant", "privilege"),
  GrantRoleStmt: effect("grant_role", "privilege"),
  AlterDefaultPrivilegesStmt: effect("alter_default_privileges", "privilege"),
  CreateRoleStmt: effect("create_role", "privilege"),
  AlterRoleStmt: effect("alter_role", "privilege"),
  AlterRoleSetStmt: effect("alter_role", "privilege"),
  DropRoleStmt: effect("drop_role", "privilege"),
  DropOwnedStmt: effect("drop_owned", "privilege"),
  ReassignOwnedStmt: effect("reassign_owned", "privilege"),
  AlterOwnerStmt: effect("alter_owner", "privilege"),
  SecLabelStmt: effect("security_label", "privilege"),
  CreatePolicyStmt: effect("create_policy", "privilege"),
  AlterPolicyStmt: effect("alter_policy", "privilege"),
  CreateUserMappingStmt: effect("create_user_mapping", "privilege"),
  AlterUserMappingStmt: effect("alter_user_mapping", "privilege"),
  DropUserMappingStmt: effect("drop_user_mapping", "privilege"),

  // running the server
  VacuumStmt: effect("vacuum", "admin"),
  ReindexStmt: effect("reindex", "admin"),
  ClusterStmt: effect("cluster", "admin"),
  CheckPointStmt: effect("checkpoint", "admin"),
  AlterSystemStmt: effect("alter_system", "admin"),
  LoadStmt: effect("load", "admin"),

  // definitions
  CreateSchemaStmt: effect("create_schema", "ddl"),
  CreateStmt: effect("create_table", "ddl"),
  CreateForeignTableStmt: effect("create_foreign_table", "ddl"),
  ImportForeignSchemaStmt: effect("import_foreign_schema", "ddl"),
  AlterTableStmt: effect("alter_table", "ddl"),
  AlterTableMoveAllStmt: effect("alter_table", "ddl"),
  ReplicaIdentityStmt: effect("alter_table", "ddl"),
  DropStmt: effect("drop", "ddl"),
  RenameStmt: effect("rename", "ddl"),
  AlterObjectSchemaStmt: effect("alter_schema", "ddl"),
  AlterObjectDependsStmt: effect("alter_depends", "ddl"),
  CommentStmt: effect("comment", "ddl"),
  ViewStmt: effect("create_view", "ddl"),
  RuleStmt: effect("create_rule", "ddl"),
  IndexStmt: effect("create_index", "ddl"),
  CreateSeqStmt: effect("create_sequence", "ddl"),
  AlterSeqStmt: effect("alter_sequence", "ddl"),
  CreateStatsStmt: effect("create_statistics", "ddl"),
  AlterStatsStmt: effect("alter_statistics", "ddl"),
  CreateTrigStmt: effect("create_trigger", "ddl"),
  CreateEventTrigStmt: effect("create_event_trigger", "ddl"),
  AlterEventTrigStmt: effect("alter_event_trigger", "ddl"),
  CreateFunctionStmt: effect("create_function", "ddl"),
  AlterFunctionStmt: effect("alter_function", "ddl"),
  DefineStmt: effect("create_object", "ddl"),
  CompositeTypeStmt: effect("create_type", "ddl"),
  CreateEnumStmt: effect("create_type", "ddl"),
  CreateRangeStmt: effect("create_type", "ddl"),
  AlterEnumStmt: effect("alter_type", "ddl"),
  AlterTypeStmt: effect("alter_type", "ddl"),
  CreateDomainStmt: effect("create_domain", "ddl"),
  AlterDomainStmt: effect("alter_domain", "ddl"),
  AlterCollationStmt: effect("alter_collation", "ddl"),
  CreateCastStmt: effect("create_cast", "ddl"),
  CreateTransformStmt: effect("create_transform", "ddl"),
  CreateConversionStmt: effect("create_conversion", "ddl"),
  CreateOpClassStmt: effect("create_operator_class", "ddl"),
  CreateOpFamilyStmt: effect("create_operator_family", "ddl"),
  AlterOpFamilyStmt: effect("alter_operator_family", "ddl"),
  AlterOperatorStmt: effect("alter_operator", "ddl"),
  AlterTSDictionaryStmt: effect("alter_text_search", "ddl"),
  AlterTSConfigurationStmt: effect("alter_text_search", "ddl"),
  CreateAmStmt: effect("create_access_method", "ddl"),
  CreatePLangStmt: effect("create_language", "ddl"),
  CreateExtensionStmt: effect("create_extension", "ddl"),
  AlterExtensionStmt: effect("alter_extension", "ddl"),
  AlterExtensionContentsStmt: effect("alter_extension", "ddl"),
  CreateFdwStmt: effect("create_foreign_data_wrapper", "ddl"),
  AlterFdwStmt: effect("alter_foreign_data_wrapper", "ddl"),
  CreateForeignServerStmt: effect("create_server", "ddl"),
  AlterForeignServerStmt: effect("alter_server", "ddl"),
  CreateTableSpaceStmt: effect("create_tablespace", "ddl"),
  DropTableSpaceStmt: effect("drop_tablespace", "ddl"),
  AlterTableSpaceOptionsStmt: effect("alter_tablespace", "ddl"),
  CreatedbStmt: effect("create_database", "ddl"),
  DropdbStmt: effect("drop_database", "ddl"),
  AlterDatabaseStmt: effect("alter_database", "ddl"),
  AlterDatabaseSetStmt: effect("alter_database", "ddl"),
  AlterDatabaseRefreshCollStmt: effect("alter_database", "ddl"),
  CreatePublicationStmt: effect("create_publication", "ddl"),
  AlterPublicationStmt: effect("alter_publication", "ddl"),
  CreateSubscriptionStmt: effect("create_subscription", "ddl"),
  AlterSubscriptionStmt: effect("alter_subscription", "ddl"),
  DropSubscriptionStmt: effect("drop_subscription", "ddl"),

  // parts of function bodies and of analysed trees: no statements of their own
  ReturnStmt: effect("return", "read"),
  PLAssignStmt: effect("plpgsql_assignment", "unknown"),
  SetOperationStmt: effect("set_operation", "unknown"),
  RawStmt: effect("raw", "unknown"),
};
