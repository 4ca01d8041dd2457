/**
 * Built-in functions that do more than compute from their arguments. Must never list a function as harmless: what is not here
 * is judged by its arguments, and what is not built in at all is undecided. Source: PostgreSQL 15 to 18, "Functions and Operators".
 */
import type { StatementEffect } from "../model.ts";

/** An effect beyond reading that calling the function has; undefined for none. */
export function functionEffect(name: string): StatementEffect | undefined {
  if (name === "nextval" || name === "setval") return { name, class: "write" };
  if (name === "pg_notify") return { name: "notify", class: "session" };
  if (largeObjectWriters.has(name)) return { name: "large_object_write", class: "write" };
  if (name === "pg_logical_emit_message") return { name, class: "write" };
  if (serverControl.has(name) || matchesAny(name, serverControlPrefixes)) return { name: "server_control", class: "admin" };
  return undefined;
}

/** True for functions that carry values past the result, run text as SQL, or reach files, other servers and other sessions. */
export function isEscape(name: string): boolean {
  return (
    escapes.has(name) ||
    (matchesAny(name, escapePrefixes) && name !== "pg_stat_get_backend_idset") ||
    /^pg_(create|drop|copy|alter)_.*slot$/.test(name)
  );
}

/** True for the functions that turn whole tables, schemas or the results of a text into one value. */
export function isWholeRelationExport(name: string): boolean {
  return /^(query|table|schema|database|cursor)_to_xml/.test(name);
}

/** True for built-in functions that return rows: how many there are tells about what they are given. */
export function returnsRows(name: string): boolean {
  return rowReturning.has(name) || /^(pg_ls_|pg_show_|pg_stat_get_)/.test(name);
}

/** PostgreSQL 18's functions with `proretset` that take values (pg_proc); those that only read the server's state are left out. */
const rowReturning: ReadonlySet<string> = new Set(
  `_pg_expandarray aclexplode generate_series generate_subscripts json_array_elements json_array_elements_text json_each
  json_each_text json_object_keys json_populate_recordset json_to_recordset jsonb_array_elements jsonb_array_elements_text
  jsonb_each jsonb_each_text jsonb_object_keys jsonb_path_query jsonb_path_query_tz jsonb_populate_recordset
  jsonb_to_recordset pg_extension_update_paths pg_get_multixact_members pg_get_publication_tables pg_mcv_list_items pg_options_to_table
  pg_partition_ancestors pg_partition_tree pg_snapshot_xip pg_tablespace_databases regexp_matches regexp_split_to_table string_to_table ts_debug
  ts_parse ts_stat ts_token_type txid_snapshot_xip unnest`.split(/\s+/),
);

/** Aggregates that keep every value they are given. */
export function isCollectingAggregate(name: string): boolean {
  return name.includes("_agg") || name === "xmlagg";
}

/** Aggregates whose one result row tells a figure of its input. */
export const plainAggregates: ReadonlySet<string> = new Set([
  "count",
  "sum",
  "avg",
  "min",
  "max",
  "bool_and",
  "bool_or",
  "every",
  "bit_and",
  "bit_or",
  "bit_xor",
  "any_value",
  "stddev",
  "stddev_pop",
  "stddev_samp",
  "variance",
  "var_pop",
  "var_samp",
  "corr",
  "covar_pop",
  "covar_samp",
  "regr_avgx",
  "regr_avgy",
  "regr_count",
  "regr_intercept",
  "regr_r2",
  "regr_slope",
  "regr_sxx",
  "regr_sxy",
  "regr_syy",
  "mode",
  "percentile_cont",
  "percentile_disc",
]);

/** Functions whose arguments stay behind somewhere others can read: settings, channels, sequences, lock tables. */
export function keepsArguments(name: string): boolean {
  return keepers.has(name) || name.startsWith("pg_advisory_") || name.startsWith("pg_try_advisory_");
}

/** Set-returning functions that return exactly one column. */
export const singleColumnFunctions: ReadonlySet<string> = new Set([
  "generate_series",
  "generate_subscripts",
  "regexp_split_to_table",
  "regexp_matches",
  "string_to_table",
  "json_array_elements",
  "json_array_elements_text",
  "jsonb_array_elements",
  "jsonb_array_elements_text",
  "json_object_keys",
  "jsonb_object_keys",
  "jsonb_path_query",
]);

/** Built-in functions with named OUT parameters, which name the columns of their rows whatever the alias. */
export const builtinColumns: ReadonlyMap<string, readonly string[]> = new Map([
  ["json_array_elements", ["value"]],
  ["json_array_elements_text", ["value"]],
  ["jsonb_array_elements", ["value"]],
  ["jsonb_array_elements_text", ["value"]],
  ["json_each", ["key", "value"]],
  ["json_each_text", ["key", "value"]],
  ["jsonb_each", ["key", "value"]],
  ["jsonb_each_text", ["key", "value"]],
  ["pg_options_to_table", ["option_name", "option_value"]],
]);

const keepers: ReadonlySet<string> = new Set(["set_config", "pg_notify", "setval", "setseed", "pg_logical_emit_message"]);

/**
 * Volatile functions, and those that not everybody may call, which were looked at and only tell about the server or the session:
 * sizes, positions, counters, locks, clocks, random numbers. A check compares the list with pg_proc of real servers.
 */
export function isHarmless(name: string): boolean {
  return harmless.has(name) || (name.startsWith("pg_stat_get_") && counters.has(name.slice("pg_stat_get_".length)));
}

const harmless: ReadonlySet<string> = new Set(
  `amvalidate array_sample array_shuffle clock_timestamp current_query currtid2 currval gen_random_uuid lastval pg_blocking_pids
  pg_collation_actual_version pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system pg_current_wal_flush_lsn
  pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_collation_actual_version pg_database_size pg_get_aios
  pg_get_loaded_modules pg_get_multixact_members pg_get_sequence_data pg_get_shmem_allocations pg_get_shmem_allocations_numa
  pg_get_wait_events pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused pg_isolation_test_session_is_blocked
  pg_jit_available pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
  pg_lock_status pg_notification_queue_usage pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_relation_size
  pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_show_replication_origin_status pg_sleep pg_sleep_for pg_sleep_until
  pg_stat_clear_snapshot pg_stat_force_next_flush pg_stat_have_stats pg_table_size pg_tablespace_size pg_total_relation_size
  pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status random random_normal timeofday txid_status uuidv4
  uuidv7`.split(/\s+/),
);

/** What of `pg_stat_get_` in versions 15 and 18 only counts; those that take another session's number or show what it does are escapes. */
const counters: ReadonlySet<string> = new Set(
  `analyze_count archiver autoanalyze_count autovacuum_count backend_idset bgwriter_buf_written_checkpoints
  bgwriter_buf_written_clean bgwriter_maxwritten_clean bgwriter_requested_checkpoints bgwriter_stat_reset_time
  bgwriter_timed_checkpoints blocks_fetched blocks_hit buf_alloc buf_fsync_backend buf_written_backend
  checkpoint_sync_time checkpoint_write_time checkpointer_buffers_written checkpointer_num_performed
  checkpointer_num_requested checkpointer_num_timed checkpointer_restartpoints_performed
  checkpointer_restartpoints_requested checkpointer_restartpoints_timed checkpointer_slru_written
  checkpointer_stat_reset_time checkpointer_sync_time checkpointer_write_time db_active_time db_blk_read_time
  db_blk_write_time db_blocks_fetched db_blocks_hit db_checksum_failures db_checksum_last_failure db_conflict_all
  db_conflict_bufferpin db_conflict_lock db_conflict_logicalslot db_conflict_snapshot db_conflict_startup_deadlock
  db_conflict_tablespace db_deadlocks db_idle_in_transaction_time db_numbackends db_parallel_workers_launched
  db_parallel_workers_to_launch db_session_time db_sessions db_sessions_abandoned db_sessions_fatal db_sessions_killed
  db_stat_reset_time db_temp_bytes db_temp_files db_tuples_deleted db_tuples_fetched db_tuples_inserted db_tuples_returned
  db_tuples_updated db_xact_commit db_xact_rollback dead_tuples function_calls function_self_time function_total_time
  ins_since_vacuum io last_analyze_time last_autoanalyze_time last_autovacuum_time last_vacuum_time lastscan live_tuples
  mod_since_analyze numscans recovery_prefetch slru snapshot_timestamp subscription_stats total_analyze_time
  total_autoanalyze_time total_autovacuum_time total_vacuum_time tuples_deleted tuples_fetched tuples_hot_updated
  tuples_inserted tuples_newpage_updated tuples_returned tuples_updated vacuum_count wal xact_blocks_fetched
  xact_blocks_hit xact_function_calls xact_function_self_time xact_function_total_time xact_numscans xact_tuples_deleted
  xact_tuples_fetched xact_tuples_hot_updated xact_tuples_inserted xact_tuples_newpage_updated xact_tuples_returned
  xact_tuples_updated`.split(/\s+/),
);

const largeObjectWriters: ReadonlySet<string> = new Set([
  "lo_create",
  "lo_creat",
  "lo_from_bytea",
  "lo_import",
  "lo_open",
  "lo_put",
  "lo_truncate",
  "lo_truncate64",
  "lo_unlink",
  "lowrite",
]);

const serverControl: ReadonlySet<string> = new Set([
  "pg_backup_start",
  "pg_backup_stop",
  "pg_start_backup",
  "pg_stop_backup",
  "pg_cancel_backend",
  "pg_terminate_backend",
  "pg_create_restore_point",
  "pg_export_snapshot",
  "pg_extension_config_dump",
  "pg_import_system_collations",
  "pg_log_backend_memory_contexts",
  "pg_log_standby_snapshot",
  "pg_nextoid",
  "pg_promote",
  "pg_reload_conf",
  "pg_rotate_logfile",
  "pg_rotate_logfile_old",
  "pg_switch_wal",
  "pg_wal_replay_pause",
  "pg_wal_replay_resume",
  "pg_sync_replication_slots",
  "pg_stop_making_pinned_objects",
  "brin_summarize_new_values",
  "brin_summarize_range",
  "brin_desummarize_range",
  "gin_clean_pending_list",
]);

const serverControlPrefixes: readonly string[] = [
  "pg_stat_reset",
  "pg_replication_origin_",
  "pg_logical_",
  "pg_create_",
  "pg_drop_",
  "pg_copy_",
  "pg_restore_",
  "pg_clear_",
  "binary_upgrade_",
];

const escapes: ReadonlySet<string> = new Set([
  "ts_stat",
  "ts_rewrite",
  "loread",
  "lowrite",
  "pg_read_file",
  "pg_read_file_old",
  "pg_read_binary_file",
  "pg_stat_file",
  "pg_file_write",
  "pg_file_rename",
  "pg_file_unlink",
  "pg_file_sync",
  "pg_logdir_ls",
  "pg_current_logfile",
  "pg_hba_file_rules",
  "pg_ident_file_mappings",
  "pg_show_all_file_settings",
  "pg_config",
  "pg_available_wal_summaries",
  "pg_wal_summary_contents",
  "pg_get_backend_memory_contexts", // texts of prepared statements are among the names
  "plpgsql_validator",
  "pg_stat_get_activity",
  "pg_stat_get_progress_info",
  "pg_stat_get_replication_slot",
  "pg_stat_get_subscription",
  "pg_stat_get_wal_receiver", // with what it connects by
  "pg_stat_get_wal_senders",
  "pg_prepared_statement",
  "pg_cursor",
  "pg_mcv_list_items",
  "pg_stat_statements",
  "pg_export_snapshot",
  "pg_reload_conf",
  "pg_terminate_backend",
  "pg_cancel_backend",
  "pg_create_restore_point",
  "pg_get_replication_slots",
  "pg_sync_replication_slots",
  "pg_promote",
  "tuple_data_split",
  "fsm_page_contents",
  "get_raw_page",
  "page_header",
  "page_checksum",
  "xpath_table",
  "crosstab",
  "connectby",
]);

const escapePrefixes: readonly string[] = [
  "dblink",
  "lo_",
  "pg_ls_",
  "pg_logical_",
  "pg_replication_",
  "pg_stat_get_backend_",
  "pg_walfile",
  "pg_walinspect",
  "pg_get_wal_",
  "query_to_xml",
  "table_to_xml",
  "schema_to_xml",
  "database_to_xml",
  "cursor_to_xml",
  "heap_page_",
  "heap_tuple_",
  "bt_page_",
  "bt_multi_",
  "bt_metap",
  "brin_page_",
  "brin_metapage",
  "brin_revmap",
  "gin_page_",
  "gin_metapage",
  "gin_leafpage",
  "gist_page_",
  "hash_page_",
  "hash_bitmap",
  "hash_metapage",
  "binary_upgrade_",
];

function matchesAny(name: string, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) => name.startsWith(prefix));
}

/** System relations that hold samples of data, other sessions' statements, or secrets. */
export function isSensitiveCatalog(schema: string, name: string): boolean {
  // A TOAST table holds the long values of the table it belongs to.
  return schema.startsWith("pg_toast") || sensitiveCatalogs.has(name);
}

const sensitiveCatalogs: ReadonlySet<string> = new Set([
  "pg_statistic",
  "pg_stats",
  "pg_stats_ext",
  "pg_stats_ext_exprs",
  "pg_statistic_ext_data",
  "pg_stat_activity",
  "pg_stat_statements",
  "pg_largeobject",
  "pg_authid",
  "pg_shadow",
  "pg_user_mapping",
  "pg_user_mappings",
  "pg_prepared_statements",
  "pg_cursors",
  "pg_hba_file_rules",
  "pg_ident_file_mappings",
  "pg_file_settings",
  "pg_config",
  "pg_subscription",
  "pg_replication_slots",
  "user_mapping_options",
  "_pg_user_mappings",
]);
