/**
 * Seeded random statements over the orders schema and the objects of rich-schema.ts: mostly well-typed, mostly about protected columns, wrapped in
 * whatever the grammar offers. The same seed gives the same statements. Made to be run twice, so nothing in them depends on time.
 */

import { tables } from "./rich-schema.ts";

/** One message or pipeline. `names`: gives the statement's name p and the portal's name c to it by protocol, and runs nothing. */
export interface GeneratedStatement {
  readonly sql: string;
  readonly form: "simple" | "extended" | "binary" | "names";
}

interface Source {
  readonly alias: string;
  readonly texts: readonly string[];
  /** The alias is a row that functions can take. */
  readonly row: boolean;
}

export class StatementGenerator {
  #state: number;
  #names = 0;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** The statements of one step, in order; those that write come in a transaction that is undone. */
  next(): readonly GeneratedStatement[] {
    const form = this.#pick(["simple", "simple", "extended", "binary"] as const);
    const undone = (...sqls: string[]): GeneratedStatement[] =>
      ["BEGIN", ...sqls, "ROLLBACK"].map((sql) => ({ sql, form: "simple" }));
    switch (this.#below(24)) {
      case 0:
        return undone(`DECLARE c CURSOR FOR ${this.#query(2)}`, "FETCH 2 FROM c", "MOVE 1 FROM c", "FETCH ALL FROM c");
      case 1:
        return [
          { sql: `PREPARE p AS ${this.#query(2)}`, form: "simple" },
          { sql: "EXECUTE p", form },
          { sql: "DEALLOCATE p", form: "simple" },
        ];
      case 2:
        return [
          {
            sql: `EXPLAIN ${this.#pick(["", "(VERBOSE) ", "(ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "])}${this.#query(2)}`,
            form,
          },
        ];
      case 3:
        return undone(`INSERT INTO loot (id, label) ${this.#pairs()} RETURNING id, label`, "SELECT id, label FROM loot");
      case 4:
        return undone(`CREATE TEMP TABLE kept AS ${this.#query(1)}`, "SELECT * FROM kept LIMIT 5");
      case 5:
        return undone(this.#update(), "SELECT id, name, balance FROM customers WHERE id < 9 ORDER BY id");
      case 6:
        return undone(
          `DELETE FROM loot USING ${this.#from([]).sql} RETURNING loot.id`,
          `DELETE FROM orders WHERE ${this.#truth([], 1)} AND id = 1`,
        );
      case 7:
        return undone(
          `MERGE INTO loot l USING (SELECT 1 AS id, ${this.#text(this.#one(), 1)} AS v FROM customers k WHERE k.id = 1) s ON l.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)`.replaceAll(
            /\bs0\b/g,
            "k",
          ),
          "SELECT id, label FROM loot",
        );
      case 8:
        return [
          { sql: this.#effect(), form },
          { sql: "SELECT current_setting('app.kept', true)", form: "simple" },
        ];
      case 9:
        return undone(`CREATE VIEW seen AS ${this.#query(1)}`, "SELECT * FROM seen LIMIT 3");
      case 10:
        return undone(
          "CREATE AGGREGATE count(text) (sfunc = textcat, stype = text, initcond = '')",
          this.#query(2),
          `INSERT INTO loot ${this.#pairs()}`,
        );
      case 11: {
        const simple = (sql: string): GeneratedStatement => ({ sql, form: "simple" });
        return [
          simple("PREPARE p AS SELECT name FROM customers WHERE id = 1"),
          simple("BEGIN"),
          simple("DECLARE c CURSOR FOR SELECT name FROM customers LIMIT 3"),
          simple("COMMIT"),
          simple("BEGIN"),
          { sql: this.#query(1), form: "names" },
          { sql: this.#pick(["EXECUTE p", "FETCH ALL FROM c"]), form },
          simple("ROLLBACK"),
          simple("DEALLOCATE ALL"),
        ];
      }
      default:
        return [{ sql: this.#query(3), form }];
    }
  }

  #pairs(): string {
    const from = this.#from([]);
    return `SELECT ${this.#number(from.sources, 2)}, ${this.#text(from.sources, 2)} FROM ${from.sql} WHERE ${this.#plain(from.sources)}`;
  }

  #update(): string {
    const source: Source = { alias: "customers", texts: ["ssn", "email", "name"], row: true };
    const column = this.#pick(["name", "ssn", "email"]);
    const value = this.#pick(["'n'", column, this.#text([source], 2), this.#text([source], 1)]);
    const guard = this.#pick(["id = 1", "id < 3", `id = 1 AND ${this.#truth([source], 1)}`]);
    return `UPDATE customers SET ${column} = ${value} WHERE ${guard} RETURNING id, ${this.#text([source], 2)}`;
  }

  /** Calls that leave something behind for others, or for later, when they are evaluated at all. */
  #effect(): string {
    const from = this.#from([]);
    const call = this.#pick([
      "set_config('app.kept', 'yes', false)",
      "nextval('counter')::text",
      "pg_notify('channel', 'yes')::text",
      "pg_try_advisory_xact_lock(1)::text",
      "(1 / 0)::text",
      `set_config('app.kept', ${this.#text(from.sources, 1)}, false)`,
    ]);
    const wrapped = this.#pick([
      `CASE WHEN ${this.#truth(from.sources, 2)} THEN ${call} END`,
      `coalesce(nullif(${this.#text(from.sources, 1)}, ${this.#constant()}), ${call})`,
      `(SELECT ${call} WHERE ${this.#truth(from.sources, 1)})`,
      `${this.#truth(from.sources, 1)} AND ${call} IS NOT NULL`,
    ]);
    return `SELECT ${wrapped} FROM ${from.sql} WHERE ${this.#plain(from.sources)}`;
  }

  /** A SELECT in one of its forms. */
  #query(depth: number): string {
    if (depth > 1) {
      switch (this.#below(14)) {
        case 0:
          return `WITH w AS ${this.#pick(["", "MATERIALIZED "])}(${this.#select(depth - 1, true)}) SELECT ${this.#item([{ alias: "w", texts: ["t"], row: true }], 2)}, w.i FROM w LIMIT 9`;
        case 1:
          return `${this.#select(depth - 1, true)} ${this.#pick(["UNION ALL", "UNION ALL", "UNION", "EXCEPT", "INTERSECT"])} ${this.#select(depth - 1, true)}`.replaceAll(
            " LIMIT 9",
            "",
          );
        case 2:
          return `SELECT ${this.#pick(["count(*)", "count(q.t)", "max(q.t)", "string_agg(q.t, ',')", "q.*", "q", "to_jsonb(q)"])} FROM (${this.#select(depth - 1, true)}) q`;
        case 3:
          return `VALUES ((${this.#scalar()}), 1), ('v', 2)`;
        case 4:
          return `WITH RECURSIVE r(n, t) AS (SELECT 1, ${this.#text(this.#one(), 1)} FROM customers s0 WHERE s0.id = 1 UNION ALL SELECT n + 1, t FROM r WHERE n < 3) SELECT n, ${this.#text([{ alias: "r", texts: ["t"], row: true }], 1)} FROM r`;
        case 5:
          return this.#aggregate();
        default:
      }
    }
    return this.#select(depth, false);
  }

  #one(): readonly Source[] {
    return [{ alias: "s0", texts: ["ssn", "email", "card", "name"], row: true }];
  }

  /** `uniform`: exactly a text `t` and a number `i`. */
  #select(depth: number, uniform: boolean): string {
    const from = this.#from([]);
    const { sources } = from;
    const items = uniform
      ? `${this.#text(sources, depth)} AS t, ${this.#pick(["1", `${sources[0]!.alias}.id`])} AS i`
      : Array.from({ length: 1 + this.#below(3) }, () => this.#item(sources, depth)).join(", ");
    const distinct = this.#below(16) === 0 ? "DISTINCT " : "";
    const extra = this.#below(10) === 0 ? ` AND ${this.#truth(sources, 2)}` : "";
    const order = this.#below(8) === 0 ? ` ORDER BY ${this.#pick(["1", `${sources[0]!.alias}.id`, this.#text(sources, 1)])}` : "";
    return `SELECT ${distinct}${items} FROM ${from.sql} WHERE ${this.#plain(sources)}${extra}${order} LIMIT 9`;
  }

  #aggregate(): string {
    const from = this.#from([]);
    const { sources } = from;
    const text = (): string => this.#text(sources, 2);
    const call = (): string =>
      this.#pick([
        () => `count(${text()})`,
        () => `count(CASE WHEN ${this.#truth(sources, 2)} THEN 1 END)`,
        () => `count(*) FILTER (WHERE ${this.#truth(sources, 1)})`,
        () => `max(${text()})`,
        () => `sum(${this.#number(sources, 2)})`,
        () => `array_agg(${text()})`,
        () => `string_agg(${text()}, ',')`,
        () => `json_object_agg(${text()}, 1)`,
        () => `bool_or(${this.#truth(sources, 2)})`,
        () => `jsonb_agg(${sources[0]!.alias})`,
        () => `percentile_disc(0.5) WITHIN GROUP (ORDER BY ${text()})`,
        () => "count(*)",
      ])();
    const having = this.#below(8) === 0 ? ` HAVING ${call()} IS NOT NULL` : "";
    const grouped = this.#below(6) === 0 ? ` GROUP BY ${this.#text(sources, 1)}` : "";
    return `SELECT ${call()}, ${call()} FROM ${from.sql} WHERE ${this.#plain(sources)}${grouped}${having}`;
  }

  #scalar(): string {
    const from = this.#from([]);
    return `SELECT ${this.#text(from.sources, 1)} FROM ${from.sql} WHERE ${this.#plain(from.sources)} LIMIT 1`;
  }

  /** FROM items and what they bring into scope. */
  #from(outer: readonly Source[]): { readonly sql: string; readonly sources: readonly Source[] } {
    const table = this.#pick(tables);
    const alias = `s${this.#names++ % 7}`;
    const source: Source = { alias, texts: table.texts, row: true };
    const first = { sql: `${table.name} ${alias}`, sources: [...outer, source] };
    const other = `j${this.#names++ % 7}`;
    switch (this.#below(9)) {
      case 0:
        return {
          sql: `${first.sql}, LATERAL (SELECT ${this.#text([source], 2)} AS l) ${other}`,
          sources: [source, { alias: other, texts: ["l"], row: true }],
        };
      case 1:
        return {
          sql: `${first.sql} ${this.#pick(["JOIN", "LEFT JOIN"])} orders ${other} ON ${other}.id = ${alias}.id`,
          sources: [source, { alias: other, texts: ["state::text"], row: true }],
        };
      case 2:
        return {
          sql: `(SELECT ${alias}.id, ${this.#text([source], 2)} AS x FROM ${first.sql} WHERE ${alias}.id < 4) ${other}`,
          sources: [{ alias: other, texts: ["x"], row: true }],
        };
      case 3:
        return {
          sql: `${first.sql} JOIN customers ${other} USING (id)`,
          sources: [source, { alias: other, texts: ["ssn", "name"], row: true }],
        };
      case 4:
        return this.#below(3) === 0
          ? { sql: `${first.sql}, generate_series(1, least(${this.#number([source], 1)}, 20)) g`, sources: [source] }
          : first;
      default:
        return first;
    }
  }

  /** A condition that may be used: over what nobody masks. */
  #plain(sources: readonly Source[]): string {
    const { alias } = sources[0]!;
    return this.#pick([`${alias}.id = 1`, `${alias}.id < 3`, `${alias}.id IN (1, 3)`, `${alias}.id BETWEEN 1 AND 2`]);
  }

  #item(sources: readonly Source[], depth: number): string {
    const { alias } = this.#pick(sources);
    const text = (): string => this.#text(sources, depth);
    return this.#pick([
      text,
      text,
      text,
      () => this.#number(sources, depth),
      () => this.#truth(sources, depth),
      () => this.#array(sources, depth),
      () => this.#json(sources, depth),
      () => `${alias}.*`,
      () => alias,
      () => `ROW(${text()}, 1)`,
      () => `xmlelement(name a, ${text()})`,
      () => `unnest(${this.#array(sources, 1)})`,
      () => `generate_series(1, least(${this.#number(sources, 1)}, 20))`,
      () => `regexp_split_to_table(${text()}, '-')`,
      () => `row_number() OVER (ORDER BY ${text()})`,
      () => `lag(${text()}) OVER ()`,
      () => `first_value(${text()}) OVER (PARTITION BY ${alias}.id)`,
      () => `to_tsvector('simple', ${text()})`,
      () => `ssn_of(1)`,
      () => `(${text()})::bytea`,
      () => `(json_populate_record(NULL::contact, to_json(${alias}))).ssn`,
    ])();
  }

  #text(sources: readonly Source[], depth: number): string {
    const source = this.#pick(sources);
    const column = (): string => (source === undefined ? this.#constant() : qualified(source.alias, this.#pick(source.texts)));
    if (depth <= 0 || this.#below(4) === 0) return this.#below(6) === 0 ? this.#constant() : column();
    const text = (): string => this.#text(sources, depth - 1);
    const number = (): string => this.#number(sources, depth - 1);
    return this.#pick([
      () => `substr(${text()}, ${this.#small()}, ${this.#small()})`,
      () => `left(${text()}, ${this.#small()})`,
      () => `reverse(${text()})`,
      () => `upper(${text()})`,
      () => `(${text()} || ${text()})`,
      () => `coalesce(${text()}, ${text()})`,
      () => `nullif(${text()}, ${text()})`,
      () => `CASE WHEN ${this.#truth(sources, depth - 1)} THEN ${text()} ELSE ${text()} END`,
      () => `CASE WHEN ${this.#truth(sources, depth - 1)} THEN ${text()} END`,
      () => `CASE ${text()} WHEN ${text()} THEN ${text()} END`,
      () => `md5(${text()})`,
      () => `(${number()})::text`,
      () => `(${this.#array(sources, depth - 1)})[${this.#small()}]`,
      () => `format('%s-%s', ${text()}, ${text()})`,
      () => `translate(${text()}, '0123456789', 'abcdefghij')`,
      () => `regexp_replace(${text()}, '[0-5]', '', 'g')`,
      () => `split_part(${text()}, '-', ${this.#small()})`,
      () => `concat_ws('-', ${text()}, ${text()})`,
      () => `greatest(${text()}, ${text()})`,
      () => `repeat(${text()}, least(${number()}, 20))`,
      () => `lpad('x', least(${number()}, 99), 'y')`,
      () => `chr(${number()})`,
      () => `(${this.#json(sources, depth - 1)} ->> 'ssn')`,
      () => `(SELECT ${text()})`,
      () => `(SELECT ${text()} WHERE ${this.#truth(sources, depth - 1)})`,
      () => `(SELECT max(k.ssn) FROM customers k WHERE k.id < 3)`,
      () => `encode(sha256(convert_to(${text()}, 'UTF8')), 'hex')`,
      () => `(ARRAY[${text()}, ${text()}])[1]`,
      () => `substring(${text()} from '^[0-9]')`,
      () => `overlay(${text()} placing 'q' from 2)`,
      () => `array_to_string(${this.#array(sources, depth - 1)}, '')`,
    ])();
  }

  #number(sources: readonly Source[], depth: number): string {
    if (depth <= 0 || this.#below(5) === 0) return this.#pick([`${sources[0]?.alias ?? "s0"}.id`, "1", "2"]);
    const text = (): string => this.#text(sources, depth - 1);
    const number = (): string => this.#number(sources, depth - 1);
    return this.#pick([
      () => `length(${text()})`,
      () => `ascii(${text()})`,
      () => `strpos(${text()}, ${this.#constant()})`,
      () => `(${number()} + ${number()})`,
      () => `(${number()} - 53)`,
      () => `(1 / ${number()})`,
      () => `num_nulls(${text()}, ${text()})`,
      () => `cardinality(${this.#array(sources, depth - 1)})`,
      () => `(left(${text()}, 1))::int`,
      () => `hashtext(${text()})`,
      () => `CASE WHEN ${this.#truth(sources, depth - 1)} THEN 1 ELSE 2 END`,
      () => `CASE WHEN ${this.#truth(sources, depth - 1)} THEN ${number()} END`,
      () =>
        `(SELECT count(*) FROM customers k WHERE ${this.#truth([{ alias: "k", texts: ["ssn", "name"], row: true }], 1)})::int`,
      () => `(SELECT count(${text()}))::int`,
      () => `pg_column_size(${text()})`,
    ])();
  }

  #truth(sources: readonly Source[], depth: number): string {
    const text = (): string => this.#text(sources, depth - 1);
    const truth = (): string => this.#truth(sources, depth - 1);
    if (depth <= 0) return this.#pick([`${text()} LIKE '5%'`, `${text()} > '4'`, `${text()} IS NULL`, "true"]);
    return this.#pick([
      () => `${text()} LIKE ${this.#pick(["'5%'", "'%2'", "'_2%'"])}`,
      () => `${text()} > ${this.#constant()}`,
      () => `${text()} = ${text()}`,
      () => `${text()} ~ '^[0-5]'`,
      () => `${text()} IS NULL`,
      () => `${text()} IN ('5', ${text()})`,
      () => `(${truth()} AND ${truth()})`,
      () => `(${truth()} OR ${truth()})`,
      () => `NOT ${truth()}`,
      () => `${this.#number(sources, depth - 1)} < 11`,
      () => `EXISTS (SELECT 1 FROM customers k WHERE k.ssn LIKE '5%')`,
      () => `${text()} = ANY (${this.#array(sources, depth - 1)})`,
      () => `starts_with(${text()}, '5')`,
    ])();
  }

  #array(sources: readonly Source[], depth: number): string {
    const text = (): string => this.#text(sources, depth - 1);
    return this.#pick([
      () => `string_to_array(${text()}, ${this.#pick(["'-'", "'5'", "NULL"])})`,
      () => `ARRAY[${text()}, ${text()}]`,
      () => `regexp_split_to_array(${text()}, '[2-4]')`,
      () => `(ARRAY[${text()}] || ${text()})`,
      () => `ARRAY(SELECT k.email FROM customers k WHERE k.id < 3)`,
      () => `regexp_match(${text()}, '^5.')`,
    ])();
  }

  #json(sources: readonly Source[], depth: number): string {
    const text = (): string => this.#text(sources, depth - 1);
    const row = sources.find((source) => source.row)?.alias ?? "s0";
    return this.#pick([
      () => `to_jsonb(${row})`,
      () => `jsonb_build_object('ssn', ${text()})`,
      () => `to_jsonb(${text()})`,
      () => `jsonb_build_object(${text()}, 1)`,
      () => `to_jsonb(${this.#array(sources, depth - 1)})`,
    ])();
  }

  /** None of them is a whole protected value of any of the databases: equality with one is what policy allows to ask. */
  #constant(): string {
    return this.#pick(["'5'", "'52'", "'q'", "''", "'-'", "'3'"]);
  }

  #small(): string {
    return String(1 + this.#below(4));
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[this.#below(items.length)]!;
  }

  /** mulberry32. */
  #below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  }
}

/** `(person).ssn` of alias `d` is `(d.person).ssn`; what is computed goes into brackets. */
function qualified(alias: string, name: string): string {
  const written = name.startsWith("(") ? `(${alias}.${name.slice(1)}` : `${alias}.${name}`;
  return /->|::/.test(written) ? `(${written})` : written;
}
