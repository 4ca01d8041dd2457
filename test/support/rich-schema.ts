/** More of the orders schema: protected values under other names, in other types and behind other objects. For comparing databases. */

/** Objects in which protected values come back under other names and types. Made once, filled by `richRows`. */
export const richObjects: readonly string[] = [
  "CREATE TABLE people (id int, full_name text, ssn text, area text GENERATED ALWAYS AS (left(ssn, 3)) STORED) PARTITION BY RANGE (id)",
  "CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (0) TO (100)",
  "CREATE TYPE contact AS (label text, ssn text)",
  "CREATE TABLE docs (id int, person contact, email jsonb, ssn text[], label text)",
  "CREATE DOMAIN known_text AS text CHECK (length(value) > 0)",
  "CREATE TABLE checked (id int, ssn known_text)",
  "CREATE TABLE base_people (id int, card text)",
  "CREATE TABLE staff (label text) INHERITS (base_people)",
  "CREATE VIEW v_parts AS SELECT c.id, left(c.ssn, 3) AS area, c.email AS contact, c.name, c AS whole FROM customers c",
  "CREATE VIEW v_joined AS SELECT o.id, o.total, c.card AS paid_with FROM orders o JOIN customers c ON c.id = o.customer_id",
  "CREATE MATERIALIZED VIEW m_parts AS SELECT id, substr(ssn, 5) AS rest, ssn AS number, name FROM customers WITH NO DATA",
  "CREATE FUNCTION ssn_of(wanted int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT ssn FROM customers WHERE id = wanted'",
  "CREATE SEQUENCE counter",
  "CREATE TABLE loot (id int, label text)",
];

/** Fills them from `customers`, after its values are set. */
export const richRows: readonly string[] = [
  "INSERT INTO people (id, full_name, ssn) SELECT id, name, ssn FROM customers ORDER BY id",
  "INSERT INTO docs SELECT id, ROW(name, ssn)::contact, jsonb_build_object('mail', email, 'n', id), string_to_array(ssn, '-'), name FROM customers ORDER BY id",
  "INSERT INTO checked SELECT id, ssn FROM customers ORDER BY id",
  "INSERT INTO staff SELECT id, card, name FROM customers ORDER BY id",
  "REFRESH MATERIALIZED VIEW m_parts",
];

export interface Table {
  readonly name: string;
  readonly texts: readonly string[];
}

/** Every table has an `id`. Names of text columns, protected or not. */
export const tables: readonly Table[] = [
  { name: "customers", texts: ["ssn", "email", "card", "name"] },
  { name: "customers", texts: ["ssn", "email", "card", "name"] },
  { name: "public.customers", texts: ["ssn", "name"] },
  { name: "customer_contacts", texts: ["contact", "name"] },
  { name: "people", texts: ["full_name", "ssn", "area"] },
  { name: "people_1", texts: ["ssn", "area"] },
  { name: "docs", texts: ["label", "(person).ssn", "(person).label", "ssn[1]", "email->>'mail'"] },
  { name: "checked", texts: ["ssn"] },
  { name: "base_people", texts: ["card"] },
  { name: "staff", texts: ["card", "label"] },
  { name: "v_parts", texts: ["area", "contact", "name", "(whole).ssn"] },
  { name: "v_joined", texts: ["paid_with"] },
  { name: "m_parts", texts: ["rest", "number", "name"] },
];
