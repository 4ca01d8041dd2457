/**
 * For tests: a shop's catalog with the objects that analysis treats differently, and shorthands to analyse a text against it.
 * Never imported by product code.
 */
import type { Catalog, CatalogFunction, CatalogRelation, CatalogType } from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import { loadModule, parseSync } from "libpg-query";
import { type CatalogIndex, indexCatalog } from "../catalog-index.ts";
import type { AnalysisSettings, SessionScope, StatementModel } from "../model.ts";
import { emptyScope } from "../scope.ts";
import { analyse } from "./analyse.ts";
import { type Part, partOf } from "./tree.ts";

await loadModule();

export const settings: AnalysisSettings = {
  bulkRowsMin: 10_000,
  bulkLimitMax: 1_000,
  safeFunctions: ["public.safe", "public.safe_procedure"],
};

let nextOid = 16_384;

export function relation(
  name: string,
  columns: string,
  more: Partial<Omit<CatalogRelation, "name" | "columns">> = {},
): CatalogRelation {
  const names = columns === "" ? [] : columns.split(" ");
  return {
    oid: nextOid++,
    schema: "public",
    name,
    kind: "table",
    system: false,
    columns: names.map((column, at) => ({ number: at + 1, name: column, typeOid: 25 })),
    parents: [],
    estimatedRows: 100,
    hiddenFunctions: [],
    ...more,
  };
}

function view(name: string, columns: string, definition: string, kind: "view" | "matview" = "view"): CatalogRelation {
  return relation(name, columns, { kind, definition, estimatedRows: kind === "view" ? -1 : 100 });
}

function system(name: string, schema = "pg_catalog"): CatalogRelation {
  return relation(name, "", { schema, system: true });
}

const events = relation("events", "id who secret at", { kind: "partitioned", estimatedRows: -1 });
const people = relation("people", "pname pid");

const relations: readonly CatalogRelation[] = [
  relation("customers", "id name email ssn card notes", { estimatedRows: 50_000 }),
  relation("orders", "id customer_id total status created_at"),
  relation("countries", "code label"),
  relation("accounts", "id owner balance", { hiddenFunctions: ["public.audit", "pg_catalog.now", "public.safe"] }),
  relation("orders", "id memo", { schema: "archive", estimatedRows: -1 }),
  view(
    "active_customers",
    "id name tax_id em",
    "SELECT c.id, c.name, c.ssn AS tax_id, substr(c.email, 1, 3) AS em FROM public.customers c WHERE (c.notes IS NOT NULL);",
  ),
  view(
    "nested",
    "id tax_id status",
    "SELECT a.id, a.tax_id, o.status FROM (public.active_customers a JOIN public.orders o ON ((o.customer_id = a.id)));",
  ),
  view("customer_count", "n", "SELECT count(*) AS n FROM public.customers;"),
  view("renamed", "a b", "SELECT countries.code, countries.label FROM public.countries;"),
  view("odd", "x", "SELECT public.leak(c.name) AS x FROM public.customers c;"),
  view("loop", "x", "SELECT loop.x FROM public.loop;"),
  view("broken", "x", "this is no SQL"),
  view(
    "customer_cards",
    "id ssn c",
    "SELECT customers.id, customers.ssn, upper(customers.card) AS c FROM public.customers;",
    "matview",
  ),
  events,
  relation("events_2024", "id who secret at", { parents: [events.oid], estimatedRows: 20_000 }),
  relation("events_2025", "id who secret at", { parents: [events.oid], estimatedRows: 10 }),
  people,
  relation("staff", "pname pid badge", { parents: [people.oid] }),
  relation("remote", "id secret", { kind: "foreign", estimatedRows: -1 }),
  relation("order_seq", "", { kind: "sequence", estimatedRows: 1 }),
  ...[
    "pg_class",
    "pg_namespace",
    "pg_attribute",
    "pg_attrdef",
    "pg_type",
    "pg_am",
    "pg_index",
    "pg_constraint",
    "pg_inherits",
  ].map((name) => system(name)),
  ...["pg_policy", "pg_statistic_ext", "pg_publication", "pg_publication_rel", "pg_publication_namespace", "pg_collation"].map(
    (name) => system(name),
  ),
  ...["pg_roles", "pg_trigger", "pg_rewrite", "pg_proc", "pg_stats", "pg_stat_activity", "pg_statistic", "pg_settings"].map(
    (name) => system(name),
  ),
  system("tables", "information_schema"),
  system("columns", "information_schema"),
  system("pg_toast_16384", "pg_toast"),
];

function userFunction(name: string, schema = "public"): CatalogFunction {
  return { schema, name, language: "plpgsql", volatility: "volatile", kind: "function" };
}

const userTypes: readonly CatalogType[] = [
  { schema: "public", name: "mood", kind: "enum" },
  { schema: "public", name: "zip", kind: "domain" },
  { schema: "public", name: "address", kind: "composite" },
  { schema: "public", name: "vector", kind: "base" },
];

/** Names that the tests call; a server has some 2,700. */
const builtinFunctions = `
  abs age any_value array_agg array_length array_remove array_to_string array_upper avg btrim ceil coalesce col_description concat concat_ws
  count current_setting date_part date_trunc encode every extract first_value format format_type generate_series greatest has_table_privilege
  hashtext json_agg json_build_object json_each_text json_object_agg jsonb_agg jsonb_array_elements jsonb_build_object jsonb_each_text
  jsonb_populate_record lag left length lo_export lo_get loread lower lpad max md5 min nextval now obj_description overlay percentile_cont
  pg_advisory_lock pg_backend_pid pg_encoding_to_char pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_partkeydef pg_get_statisticsobjdef_columns
  pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_get_function_sqlbody pg_notify pg_read_file pg_relation_is_publishable pg_relation_size
  pg_sleep pg_stat_get_activity pg_table_is_visible pg_terminate_backend pg_total_relation_size position query_to_xml random rank regexp_replace
  replace reverse right round row_number row_to_json set_config setval split_part string_agg string_to_array string_to_table substr substring sum
  table_to_xml text timezone to_char to_json to_jsonb to_tsvector trim ts_stat unnest upper version xmlagg bernoulli system array_to_json cardinality
  pg_get_ruledef pg_partition_ancestors ts_rewrite decode sha256 char_length quote_literal numeric like`.split(/\s+/);

export const catalog: Catalog = {
  epoch: "epoch-1" as CatalogEpoch, // tests mint their own
  protocol: "postgres",
  serverVersion: 150_018,
  relations,
  functions: [
    userFunction("leak"),
    userFunction("audit"),
    userFunction("safe"),
    userFunction("safe_procedure"),
    userFunction("lower", "evil"), // shadows a built-in one
    userFunction("audit_row"),
  ],
  builtinFunctions: builtinFunctions.filter((name) => name !== ""),
  userOperators: ["~~~"],
  userTypes,
  userCasts: [],
};

export const index: CatalogIndex = indexCatalog(catalog, parseSync);

/** The models of a text that must parse. */
export function models(
  text: string,
  scope: SessionScope = emptyScope,
  more: Partial<AnalysisSettings> = {},
): readonly StatementModel[] {
  const analysis = analyse(parseSync, text, index, scope, { ...settings, ...more });
  if (analysis.kind !== "ok") throw new Error(`${analysis.message}: ${text}`);
  return analysis.statements;
}

/** The model of a text of one statement; of several, the last one's. */
export function model(text: string, scope: SessionScope = emptyScope, more: Partial<AnalysisSettings> = {}): StatementModel {
  const last = models(text, scope, more).at(-1);
  if (last === undefined) throw new Error(`no statement: ${text}`);
  return last;
}

/** `name: origin, origin` for each output, `public.` left out, `!` behind exact ones. */
export function outputs(text: string, scope: SessionScope = emptyScope): string {
  const { columns, columnsKnown } = model(text, scope);
  if (columns === null) return "none";
  const texts = columns.map((column) => {
    const origins = column.origins.map(short).join(", ");
    return `${column.name}: ${origins}${column.exact ? "!" : ""}`.trimEnd();
  });
  return `${columnsKnown ? "" : "? "}${texts.join("; ")}`;
}

export function short(column: string): string {
  return column.replace(/^public\./, "");
}

/** The tree of a text of one statement. */
export function tree(text: string): Part {
  const part = partOf(parseSync(text).stmts?.[0]?.stmt);
  if (part === undefined) throw new Error(`no statement: ${text}`);
  return part;
}
