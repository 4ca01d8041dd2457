/**
 * Expressions by sort. Each template is known as silent (evaluates to one value, whatever goes in), or as telling (may fail, or
 * multiply rows, for some values): telling ones are given protected values only now and then, since policy refuses that.
 */
import { candidates, type Chance, cleaned, constantTexts, type Context, deeper, reference } from "./words.ts";
import { leaf, type Node, node, type Sort } from "./tree.ts";

export interface Subqueries {
  /** A query of one column of the sort and at most one row. */
  scalar(sort: Sort, context: Context): Node;
  /** Any query without limits on its rows. */
  rows(context: Context): Node;
}

type Maker = () => Node;

export class Expressions {
  readonly #chance: Chance;
  readonly #subqueries: Subqueries;

  constructor(chance: Chance, subqueries: Subqueries) {
    this.#chance = chance;
    this.#subqueries = subqueries;
  }

  /** An expression of the sort. */
  of(sort: Sort, context: Context): Node {
    switch (sort) {
      case "text":
        return this.text(context);
      case "number":
        return this.number(context);
      case "truth":
        return this.truth(context);
      case "date":
        return this.#date(context);
      case "texts":
        return this.texts(context);
      case "json":
        return this.json(context);
      case "bytes":
        return this.#bytes(context);
      default:
        return this.#column(sort, context) ?? leaf("text", "NULL");
    }
  }

  text(context: Context): Node {
    if (context.depth <= 0 || this.#chance.percent(30)) return this.#column("text", context) ?? this.#constant();
    const inner = deeper(context);
    const text = (): Node => this.text(inner);
    const telling = this.#tellingly(inner);
    const chance = this.#chance;
    const makers: (readonly [number, Maker])[] = [
      [3, () => node("text")`substr(${text()}, ${this.#small()}, ${this.#small()})`],
      [2, () => node("text")`left(${text()}, ${this.#small()})`],
      [
        2,
        () => node("text")`${chance.pick(["upper", "lower", "reverse", "md5", "initcap", "btrim", "quote_literal"])}(${text()})`,
      ],
      [3, () => node("text")`(${text()} || ${text()})`],
      [2, () => node("text")`concat_ws('-', ${text()}, ${text()})`],
      [1, () => node("text")`format('%s-%s', ${text()}, ${text()})`],
      [1, () => node("text")`translate(${text()}, '0123456789Zq', 'abcdefghijkl')`],
      [1, () => node("text")`replace(${text()}, 'q', 'p')`],
      [1, () => node("text")`${chance.pick(["greatest", "least"])}(${text()}, ${text()})`],
      [2, () => node("text", "cast")`(${this.number(inner)})::text`],
      [
        1,
        () =>
          node(
            "text",
            "cast",
          )`CAST(${this.of(chance.pick(["date", "texts", "json"]), inner)} AS ${chance.pick(["text", "varchar"])})`,
      ],
      [1, () => node("text", "collation")`(${text()} COLLATE "C")`],
      [1, () => node("text")`lpad('x', 3, ${text()})`],
      [2, () => node("text", "json operator")`(${this.json(inner)} ->> ${chance.pick(["'ssn'", "'mail'", "0", "'name'"])})`],
      [1, () => node("text")`array_to_string(${this.texts(inner)}, '')`],
      [2, () => node("text", "subscript")`(${this.texts(inner)})[${this.#small()}]`],
      [1, () => node("text")`encode(sha256(convert_to(${this.text(cleaned(inner))}, 'UTF8')), 'hex')`],
      [1, () => node("text")`nullif(${text()}, ${text()})`],
    ];
    if (!context.silent) {
      makers.push(
        [3, () => this.#case("text", inner)],
        [2, () => this.#coalesce(inner)],
        [1, () => node("text")`regexp_replace(${text()}, '[0-5]', '', 'g')`],
        [1, () => node("text")`split_part(${text()}, '-', ${this.#small()})`],
        [1, () => node("text")`substring(${text()} from '^[A-Z0-9]')`],
        [1, () => node("text")`overlay(${text()} placing 'q' from 2)`],
        [2, () => node("text")`encode(${this.#bytes(inner)}, ${chance.pick(["'hex'", "'base64'", "'escape'"])})`],
        [1, () => node("text")`chr(65 + abs(${this.number(cleaned(telling))})::int % 20)`],
        [1, () => node("text")`repeat(${this.text(telling)}, least(abs(${this.number(cleaned(telling))})::int, 3))`],
        [3, () => node("text", "scalar subquery")`(${this.#subqueries.scalar("text", inner)})`],
        [1, () => node("text", "SQL function")`area_of(${text()})`],
        [1, () => this.#lookUp(context)],
        [1, () => node("text", "declared function that raises a notice")`shout(${text()})`],
        [1, () => node("text", "xml")`xmlserialize(CONTENT xmlelement(name a, ${text()}) AS text)`],
        [1, () => this.#ofRow(inner)],
      );
      if (!chance.options.plain && chance.daring()) {
        makers.push([4, () => node("text", "function nobody knows")`mystery(${text()})`]);
        makers.push([2, () => node("text", "xml export")`query_to_xml('SELECT 1', true, true, '')::text`]);
      }
    }
    return chance.weighted(makers)();
  }

  number(context: Context): Node {
    if (context.depth <= 0 || this.#chance.percent(30))
      return this.#column("number", context) ?? leaf("number", this.#chance.pick(["1", "2", "3.5"]));
    const inner = deeper(context);
    const text = (): Node => this.text(inner);
    const telling = this.#tellingly(inner);
    const makers: (readonly [number, Maker])[] = [
      [
        3,
        () => node("number")`${this.#chance.pick(["length", "ascii", "octet_length", "hashtext", "pg_column_size"])}(${text()})`,
      ],
      [1, () => node("number")`strpos(${text()}, 'q')`],
      [1, () => node("number")`num_nulls(${text()}, ${text()})`],
      [1, () => node("number")`cardinality(${this.texts(inner)})`],
      [1, () => node("number")`nullif(${this.number(inner)}, 1)`],
    ];
    if (!context.silent) {
      makers.push(
        [2, () => node("number")`(${this.number(telling)} ${this.#chance.pick(["+", "-", "*"])} ${this.number(telling)})`],
        [1, () => node("number", "error on purpose")`(1 / ${this.number(telling)})`],
        [1, () => node("number", "error on purpose")`(${this.text(telling)})::int`],
        [2, () => this.#case("number", inner)],
        [1, () => node("number")`extract(year from ${this.#date(inner)})`],
        [1, () => node("number")`(${this.#date(telling)} - date '2020-01-01')`],
        [2, () => node("number", "scalar subquery")`(${this.#subqueries.scalar("number", inner)})`],
      );
    }
    return this.#chance.weighted(makers)();
  }

  truth(context: Context): Node {
    if (context.depth <= 0) {
      const column = this.#column("text", context) ?? this.#constant();
      return node("truth")`${column} ${this.#chance.pick(["LIKE 'Z%'", "> '5'", "IS NULL", "LIKE '%q'", "IS NOT NULL"])}`;
    }
    const inner = deeper(context);
    const text = (): Node => this.text(inner);
    const truth = (): Node => this.truth(inner);
    const makers: (readonly [number, Maker])[] = [
      [2, () => node("truth")`${text()} LIKE ${this.#chance.pick(["'Z%'", "'%q%'", "'5%'", "'_2%'"])}`],
      [2, () => node("truth")`${text()} ${this.#chance.pick([">", "<=", "<>", "="])} ${text()}`],
      [2, () => node("truth")`${this.number(inner)} ${this.#chance.pick([">", "<=", "<>", "="])} ${this.number(inner)}`],
      [1, () => node("truth")`${text()} IN ('5', ${text()})`],
      [
        1,
        () =>
          node(
            "truth",
          )`(${this.truth({ ...inner, silent: true })} ${this.#chance.pick(["AND", "OR"])} ${this.truth({ ...inner, silent: true })})`,
      ],
      [1, () => node("truth")`NOT ${truth()}`],
      [1, () => node("truth")`(${truth()}) IS ${this.#chance.pick(["TRUE", "NOT TRUE", "UNKNOWN"])}`],
      [1, () => node("truth")`${text()} BETWEEN 'K' AND 'V'`],
      [1, () => node("truth")`${text()} IS DISTINCT FROM ${text()}`],
      [1, () => node("truth")`starts_with(${text()}, 'Z')`],
      [1, () => node("truth")`${text()} = ANY (${this.texts(inner)})`],
      [1, () => node("truth")`${this.json(inner)} @> '{"n": 1}'`],
    ];
    if (!context.silent) {
      makers.push(
        [1, () => node("truth")`${text()} ~ '^[0-5]'`],
        [1, () => node("truth")`${this.#date(inner)} < date '1980-01-01'`],
        [1, () => node("truth", "EXISTS")`EXISTS (${this.#subqueries.rows(inner)})`],
        [1, () => node("truth", "IN subquery")`${text()} IN (${this.#subqueries.scalar("text", inner)})`],
      );
    }
    return this.#chance.weighted(makers)();
  }

  texts(context: Context): Node {
    const inner = deeper(context);
    if (context.depth <= 0) return this.#column("texts", context) ?? node("texts")`ARRAY[${this.text(context)}]`;
    const makers: (readonly [number, Maker])[] = [
      [2, () => node("texts")`string_to_array(${this.text(inner)}, ${this.#chance.pick(["'-'", "'q'", "' '"])})`],
      [2, () => this.#column("texts", context) ?? node("texts")`ARRAY[${this.text(inner)}]`],
      [2, () => node("texts", "array constructor")`ARRAY[${this.#column("text", context) ?? this.#constant()}, 'z']`],
    ];
    if (!context.silent) {
      makers.push(
        [1, () => node("texts", "array subquery")`ARRAY(${this.#subqueries.scalar("text", cleaned(inner))})`],
        [1, () => node("texts")`regexp_split_to_array(${this.text(inner)}, '[2-4q]')`],
        [1, () => node("texts")`regexp_match(${this.text(inner)}, '^(.)(.)')`],
      );
    }
    return this.#chance.weighted(makers)();
  }

  json(context: Context): Node {
    const column = this.#column("json", context);
    if (column !== undefined && this.#chance.percent(35)) return column;
    const inner = deeper(context);
    const text = (): Node => this.text(inner);
    const row = this.#row(context);
    const makers: (readonly [number, Maker])[] = [
      [2, () => node("json", "json constructor")`jsonb_build_object('ssn', ${text()}, 'n', ${this.number(inner)})`],
      [1, () => node("json", "json constructor")`jsonb_build_array(${text()}, ${text()})`],
      [1, () => node("json", "json constructor")`to_jsonb((${text()})::text)`],
    ];
    if (row !== undefined) makers.push([3, () => node("json", "whole row")`to_jsonb(${row})`]);
    if (!context.silent) {
      makers.push(
        [1, () => node("json", "SQL/JSON")`JSON_OBJECT('ssn': ${text()} RETURNING jsonb)`],
        [1, () => node("json", "SQL/JSON")`JSON_ARRAY(${text()}, ${text()} RETURNING jsonb)`],
      );
    }
    return this.#chance.weighted(makers)();
  }

  /** A whole row: the alias of a source. */
  #row(context: Context): Node | undefined {
    const rows = context.sources.filter((source) => !(context.clean && source.guarded));
    if (rows.length === 0) return undefined;
    const source = this.#chance.pick(rows);
    return leaf("row", source.alias, source.guarded);
  }

  /** A whole row by any of the forms that the grammar has for it. */
  row(context: Context): Node {
    const row = this.#row(context);
    if (row === undefined) return node("item")`ROW(${this.text(context)}, 1)`;
    return this.#chance.weighted([
      [3, () => node("item", "whole row")`${row}`],
      [1, () => node("item", "whole row")`row_to_json(${row})`],
      [1, () => node("item", "whole row")`${row}::text`],
      [1, () => node("item", "row constructor")`ROW(${this.text(context)}, 1)`],
      [1, () => node("item", "row constructor")`ROW(${row}.*)`],
    ])();
  }

  /** `ssn(c)`: a column written as a call, or the field of a row that JSON was made of. */
  #ofRow(context: Context): Node {
    const columns = candidates(context, "text").filter(([, column]) => /^[a-z_]{4,}$/.test(column.written));
    if (columns.length === 0) return this.#constant();
    const [source, column] = this.#chance.pick(columns);
    if (this.#chance.percent(50) || (context.clean && source.guarded))
      return leaf("text", `${column.written}(${source.alias})`, column.guarded, "functional notation");
    return leaf("text", `(row_to_json(${source.alias}) ->> '${column.written}')`, source.guarded, "whole row");
  }

  /** A function that reads a table. */
  #lookUp(context: Context): Node {
    const name = context.clean ? "name_of" : this.#chance.pick(["name_of", "ssn_of"]);
    return leaf("text", `${name}(${this.#small()})`, name === "ssn_of", "SQL function");
  }

  #case(sort: "text" | "number", context: Context): Node {
    const condition = this.truth(context);
    // Under a condition on protected values only what nobody notices may be evaluated; now and then something else is tried.
    const branch: Context = condition.guarded || !context.clean ? { ...context, silent: !this.#chance.daring() } : context;
    const value = (): Node => this.of(sort, branch);
    return this.#chance.weighted([
      [2, () => node(sort, "CASE")`CASE WHEN ${condition} THEN ${value()} ELSE ${value()} END`],
      [2, () => node(sort, "CASE")`CASE WHEN ${condition} THEN ${value()} END`],
      [
        1,
        () =>
          node(
            sort,
            "CASE",
          )`CASE ${this.text(context)} WHEN ${this.text({ ...branch, silent: true })} THEN ${value()} ELSE ${value()} END`,
      ],
    ])();
  }

  #coalesce(context: Context): Node {
    const rest: Context = { ...context, silent: !this.#chance.daring() };
    return node("text", "COALESCE")`coalesce(${this.text(context)}, ${this.text(rest)})`;
  }

  #date(context: Context): Node {
    return this.#column("date", context) ?? leaf("date", "date '1977-07-07'");
  }

  #bytes(context: Context): Node {
    return this.#column("bytes", context) ?? leaf("bytes", "'\\x5a5b'::bytea");
  }

  /** Calls over a window: only for output columns, since nowhere else are they allowed. */
  windowed(context: Context): Node {
    const inner = deeper(context);
    const over = (): Node => this.#window(inner);
    return this.#chance.weighted([
      [2, () => node("item", "window function")`first_value(${this.text(inner)}) OVER (${over()})`],
      [1, () => node("item", "window function")`lag(${this.text(inner)}, 1) OVER (${over()})`],
      [1, () => node("item", "window function")`count(${this.text(inner)}) OVER (${over()})`],
      [1, () => node("item", "window function")`string_agg(${this.text(inner)}, ',') OVER (${over()})`],
      [1, () => node("item", "window function")`row_number() OVER (${over()})`],
      [1, () => node("item", "window function")`sum(${this.number(cleaned(inner))}) OVER (${over()} ROWS 1 PRECEDING)`],
    ])();
  }

  #window(context: Context): Node {
    const parts: Node[] = [];
    if (this.#chance.percent(40))
      parts.push(node("clause")`PARTITION BY ${this.text(this.#tellingly({ ...context, depth: 0 }))}`);
    if (this.#chance.percent(60)) parts.push(node("clause")`ORDER BY ${this.number(this.#tellingly({ ...context, depth: 0 }))}`);
    return node("clause")`${parts[0] ?? ""} ${parts[1] ?? ""}`;
  }

  /** For what tells about its arguments: nothing protected in it, but for what is tried on purpose. */
  #tellingly(context: Context): Context {
    return this.#chance.daring() ? context : cleaned(context);
  }

  /** A column as it is, which unlike a constant can be grouped by. */
  column(sort: Sort, context: Context): Node | undefined {
    return this.#column(sort, context);
  }

  #column(sort: Sort, context: Context): Node | undefined {
    const found = candidates(context, sort);
    if (found.length === 0) return undefined;
    // Protected columns are what this is about: they come up more often than there are of them.
    const guarded = found.filter(([, column]) => column.guarded);
    const [source, column] = this.#chance.pick(guarded.length > 0 && this.#chance.percent(50) ? guarded : found);
    return reference(source, column);
  }

  #constant(): Node {
    return leaf("text", this.#chance.pick(constantTexts));
  }

  #small(): string {
    return String(1 + this.#chance.below(4));
  }
}
