/**
 * Settings of a session that matter to judging, each with what it would change. Went through: every setting of PostgreSQL 15 to 18 that a
 * session may change (pg_settings, context `user` and `superuser`). What is not here changes values, formats, limits, plans or
 * logging, and so nothing that the analysis rests on; search_path, role and session_authorization are followed by the session's names.
 *
 * Looked at and left free: array_nulls, bytea_output, DateStyle, IntervalStyle, TimeZone, xmloption, extra_float_digits, lc_* (how values
 * are read and shown, the same for a whole value); transform_null_equals (`= NULL` counts as a condition of its own); quote_all_identifiers,
 * escape_string_warning (texts of the server alone); row_security (off: an error where a policy applies, never more rows);
 * check_function_bodies, plpgsql.* (bodies are read from the catalog, and PL/pgSQL is not followed); default_table_access_method, *tablespaces
 * (where rows lie); client_min_messages, debug_*, auto_explain.* (notices are scrubbed); enable_*, *_cost (plans: what may fail tells).
 */

/** What a caller may say about itself. */
export const declarable: readonly string[] = ["sluice.wait", "sluice.grant", "sluice.task", "sluice.purpose", "sluice.step"];

/** Which values of a setting keep the analysis of a text true. */
const readerSettings: ReadonlyMap<string, (value: string) => boolean> = new Map([
  // off: a backslash in a plain literal escapes, so that a literal ends elsewhere
  ["standard_conforming_strings", (value: string) => ["on", "true", "yes", "1"].includes(value)],
  // on: \' in an escape string also in encodings in which a backslash may be half a character
  ["backslash_quote", (value: string) => ["safe_encoding", "off", "false", "no", "0"].includes(value)],
  // in others a quote may be half a character
  ["client_encoding", (value: string) => ["utf8", "unicode"].includes(value.replaceAll(/[^a-z0-9]/g, ""))],
]);

/** For everybody: with such a value another statement would run than was judged. `null`: RESET, or a value that cannot be known. */
export function changesReading(setting: string, value: string | null): boolean {
  const keeps = readerSettings.get(setting);
  return keeps !== undefined && (value === null || !keeps(value.toLowerCase()));
}

/** For callers with masks: setting to what it would change. */
export const guardedSettings: ReadonlyMap<string, string> = new Map([
  ["role", "whose rights the target applies"],
  ["session_authorization", "whose rights the target applies"],
  ["session_replication_role", "which triggers and rules the target runs"],
  ["allow_system_table_mods", "whether the target's catalogs may be written"],
  ["dynamic_library_path", "which code the target loads"],
  ["local_preload_libraries", "which code the target loads"],
  ["session_preload_libraries", "which code the target loads"],
  ["lo_compat_privileges", "who may read large objects"],
]);
