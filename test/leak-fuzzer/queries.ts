/**
 * Queries in all their forms over the schema, with what their output columns hold: so that queries around them, views and temporary
 * tables can name them and it stays known where something protected may be.
 */
import { Expressions } from "./expressions.ts";
import { FromItems } from "./from-items.ts";
import type { Column } from "./schema.ts";
import { leaf, list, type Node, node, optional, print, type Sort } from "./tree.ts";
import { type Chance, cleaned, type Context, deeper, type NamedRows, type Query, type Source } from "./words.ts";

export class Queries {
  readonly #chance: Chance;
  readonly expressions: Expressions;
  readonly #from: FromItems;

  constructor(chance: Chance) {
    this.#chance = chance;
    this.expressions = new Expressions(chance, {
      scalar: (sort, context) => this.#scalar(sort, context),
      rows: (context) => this.#select(cleaned(context), undefined).node,
    });
    this.#from = new FromItems(chance, this.expressions, (context, sorts) => this.any(context, sorts));
  }

  /** A context outside of everything. */
  outermost(named: readonly NamedRows[], depth: number): Context {
    return { sources: [], named, clean: this.#chance.options.plain, silent: false, depth };
  }

  /** A query in any form. `sorts`: exactly these output columns, named c1, c2 … */
  any(context: Context, sorts?: readonly Sort[]): Query {
    if (context.depth <= 1) return this.#select(context, sorts);
    const wanted = sorts ?? this.#sorts();
    return this.#chance.weighted<() => Query>([
      [12, () => this.#select(context, sorts)],
      [3, () => this.#with(context, wanted)],
      [1, () => this.#recursive(context, sorts)],
      [2, () => this.#setOperation(context, wanted)],
      [1, () => this.#values(context, wanted)],
      [3, () => (sorts === undefined ? this.#aggregate(context) : this.#select(context, sorts))],
      [1, () => (sorts === undefined ? this.#groupingSets(context) : this.#select(context, sorts))],
      [1, () => (sorts === undefined ? this.#star(context) : this.#select(context, sorts))],
    ])();
  }

  /** FROM items and their names, for statements that change rows. */
  from(context: Context): { readonly node: Node; readonly sources: readonly Source[] } {
    return this.#from.some(context);
  }

  /** A condition that may be used: over what nobody masks, but for what is tried on purpose. */
  condition(context: Context): Node {
    const dared = this.#chance.daring() ? context : cleaned(context);
    return this.#chance.percent(60)
      ? this.#plainCondition(dared)
      : this.expressions.truth({ ...dared, depth: Math.min(dared.depth, 2) });
  }

  #select(context: Context, sorts: readonly Sort[] | undefined): Query {
    const from = this.#from.some(context);
    const inner: Context = { ...context, sources: [...from.sources, ...context.sources] };
    const own: Context = { ...context, sources: from.sources };
    const items = sorts === undefined ? this.#items(inner) : sorts.map((sort) => this.expressions.of(sort, deeper(inner)));
    const columns = items.map((item, at) => outputColumn(item, at));
    const named = items.map((item, at) => (item.sort === "item" ? item : node("item")`${item} AS ${columns[at]!.written}`));
    const where = this.#where(own);
    const tail = optional(this.#tail(own, sorts === undefined));
    const distinct = this.#chance.daring() && this.#chance.percent(30) ? leaf("clause", "DISTINCT ", false, "DISTINCT") : "";
    const locks =
      sorts === undefined && this.#chance.percent(2) ? optional(leaf("clause", " FOR UPDATE", false, "FOR UPDATE")) : "";
    const made = node("query")`SELECT ${distinct}${list("clause", named)} FROM ${from.node}${where}${tail}${locks}`;
    return { node: made, columns };
  }

  #sorts(): readonly Sort[] {
    return Array.from({ length: 1 + this.#chance.below(3) }, () =>
      this.#chance.pick(["text", "text", "number", "json"] as const),
    );
  }

  #items(context: Context): readonly Node[] {
    const count = 1 + this.#chance.below(4);
    return Array.from({ length: count }, () => this.#item(deeper(context)));
  }

  #item(context: Context): Node {
    const { expressions } = this;
    return this.#chance.weighted<() => Node>([
      [8, () => expressions.text(context)],
      [3, () => expressions.number(context)],
      [2, () => expressions.truth({ ...context, depth: Math.min(context.depth, 2) })],
      [2, () => expressions.texts(context)],
      [2, () => expressions.json(context)],
      [2, () => this.#special(context)],
      [2, () => expressions.row(context)],
      [2, () => expressions.windowed(context)],
      [1, () => this.#setReturning(cleaned(context))],
    ])();
  }

  /** Columns of unusual types as they are, and casts of whole columns. */
  #special(context: Context): Node {
    const sorts = ["bytes", "range", "mood", "date", "row"] as const;
    const found = context.sources.flatMap((source) =>
      source.columns
        .filter((column) => sorts.some((sort) => sort === column.sort) && !(context.clean && column.guarded))
        .map((column) => ({ source, column })),
    );
    if (found.length === 0) return this.#castColumn(context);
    const { source, column } = this.#chance.pick(found);
    const written = column.written.startsWith("(")
      ? `(${source.alias}.${column.written.slice(1)}`
      : `${source.alias}.${column.written}`;
    return leaf(column.sort, written, column.guarded, `${column.sort} column`);
  }

  #castColumn(context: Context): Node {
    const type = this.#chance.pick(["int", "numeric", "date", "jsonb", "uuid", "varchar", "name", "bytea"]);
    return node("item", "conversion of a whole column")`(${this.expressions.text({ ...context, depth: 0 })})::${type}`;
  }

  #setReturning(context: Context): Node {
    return this.#chance.weighted<() => Node>([
      [1, () => node("item", "set-returning function")`unnest(${this.expressions.texts(context)})`],
      [1, () => node("item", "set-returning function")`generate_series(1, 2)`],
      [1, () => node("item", "set-returning function")`regexp_split_to_table(${this.expressions.text(context)}, '-')`],
      [
        1,
        () =>
          node("item", "set-returning function")`jsonb_object_keys(jsonb_build_object('k', ${this.expressions.text(context)}))`,
      ],
    ])();
  }

  #where(context: Context): Node {
    return optional(node("clause")` WHERE ${this.condition(context)}`);
  }

  #plainCondition(context: Context): Node {
    const numbers = context.sources.filter((source) => source.columns.some(({ written }) => written === "id"));
    if (numbers.length === 0) return leaf("truth", "true");
    const { alias } = numbers[0]!;
    return leaf(
      "truth",
      this.#chance.pick([`${alias}.id = 1`, `${alias}.id < 3`, `${alias}.id IN (1, 3)`, `${alias}.id BETWEEN 1 AND 4`]),
    );
  }

  /** ORDER BY, LIMIT, OFFSET. Without an order rows come as they are stored, which is alike. */
  #tail(context: Context, limited: boolean): Node {
    const dared = this.#chance.daring() ? context : cleaned(context);
    const order = this.#chance.percent(15)
      ? optional(node("clause", "ORDER BY")` ORDER BY ${this.expressions.number({ ...dared, depth: 1 })}`)
      : "";
    const limit = limited || this.#chance.percent(20) ? ` LIMIT ${1 + this.#chance.below(9)}` : "";
    const offset = this.#chance.percent(5) ? " OFFSET 1" : "";
    return node("clause")`${order}${limit}${offset}`;
  }

  #with(context: Context, sorts: readonly Sort[]): Query {
    const chance = this.#chance;
    const inside = this.any(deeper(context), sorts);
    // Now and then it takes the name of a table, which it then hides.
    const hidden = chance.percent(40) ? chance.pick(hideable) : undefined;
    const name = hidden?.name ?? `w${chance.below(9)}`;
    const renames = hidden !== undefined || chance.percent(30);
    const columns = inside.columns.map((column, at) =>
      renames ? { ...column, written: hidden?.columns[at] ?? `r${at}` } : column,
    );
    const shape = renames ? `(${columns.map(({ written }) => written).join(", ")})` : "";
    const feature = hidden !== undefined ? "CTE that hides a table" : "CTE";
    const outer = this.any(
      { ...deeper(context), named: [{ name, columns, feature }, ...context.named.filter((known) => known.name !== name)] },
      sorts,
    );
    const how = chance.pick(["", "MATERIALIZED ", "NOT MATERIALIZED "]);
    // A second WITH needs a query of its own around it.
    const inner = print(outer.node).startsWith("WITH") ? node("query")`SELECT * FROM (${outer.node}) o` : outer.node;
    return {
      node: node("query", feature)`WITH ${name}${shape} AS ${how}(${inside.node}) ${inner}`,
      columns: outer.columns,
    };
  }

  #recursive(context: Context, sorts: readonly Sort[] | undefined): Query {
    const start = this.#select(deeper(context), ["text", "text"]);
    // What goes round swaps places and takes on more in each round.
    const step = this.#chance.pick(["r.b, r.a", "r.a, r.b", "r.b || r.a, 'k'", "r.a, left(r.b, 2)"]);
    const guarded = start.columns.some((column) => column.guarded);
    const columns: readonly Column[] = ["a", "b"].map((written) => ({ written, sort: "text", guarded }));
    const made = node(
      "query",
      "recursive CTE",
    )`WITH RECURSIVE r(n, a, b) AS (SELECT 1, s.c1, s.c2 FROM (${start.node}) s(c1, c2) UNION ALL SELECT r.n + 1, ${step} FROM r WHERE r.n < 3) `;
    const context2: Context = { ...context, sources: [{ alias: "r", columns, guarded }, ...context.sources] };
    const outputs = sorts?.map((sort) => this.expressions.of(sort, { ...context2, depth: 1 })) ?? [
      this.expressions.text({ ...context2, depth: 1 }),
    ];
    const outs = outputs.map((item, at) => outputColumn(item, at));
    const items = outputs.map((item, at) => node("item")`${item} AS ${outs[at]!.written}`);
    return { node: node("query")`${made}SELECT ${list("clause", items)} FROM r LIMIT 9`, columns: outs };
  }

  #setOperation(context: Context, sorts: readonly Sort[]): Query {
    const all = this.#chance.percent(70);
    // All but UNION ALL compare rows, which tells.
    const inner = deeper(all || this.#chance.percent(20) ? context : cleaned(context));
    const left = this.#select(inner, sorts);
    const right = this.#select(inner, sorts);
    const how = all ? "UNION ALL" : this.#chance.pick(["UNION", "EXCEPT", "INTERSECT", "EXCEPT ALL"]);
    return {
      node: node("query", all ? "UNION ALL" : "set operation that compares")`(${left.node}) ${how} (${right.node})`,
      columns: left.columns.map((column, at) => ({ ...column, guarded: column.guarded || right.columns[at]!.guarded })),
    };
  }

  #values(context: Context, sorts: readonly Sort[]): Query {
    const row = (): Node =>
      list(
        "clause",
        sorts.map((sort) => this.#valueOf(sort, deeper(context))),
      );
    const rows = [row(), row()];
    const inside = node("query", "VALUES")`VALUES (${rows[0]!}), (${rows[1]!})`;
    const names = sorts.map((_, at) => `c${at + 1}`).join(", ");
    const guarded = inside.guarded;
    return {
      node: node("query")`SELECT * FROM (${inside}) v(${names})`,
      columns: sorts.map((sort, at) => ({ written: `c${at + 1}`, sort, guarded })),
    };
  }

  #valueOf(sort: Sort, context: Context): Node {
    if (sort === "text" || sort === "number") return node(sort, "scalar subquery")`(${this.#scalar(sort, context)})`;
    return this.expressions.of(sort, context);
  }

  #aggregate(context: Context): Query {
    const from = this.#from.some(context);
    const inner: Context = { ...deeper(context), sources: from.sources };
    const items = [this.#aggregateCall(inner), this.#aggregateCall(inner)];
    const dared = this.#chance.daring() ? inner : cleaned(inner);
    const key = this.#chance.percent(30) ? this.expressions.column("text", dared) : undefined;
    const group = key === undefined ? "" : optional(node("clause", "GROUP BY")` GROUP BY upper(${key})`);
    const having = this.#chance.percent(15)
      ? optional(node("clause", "HAVING")` HAVING count(${this.expressions.text({ ...dared, depth: 1 })}) > 0`)
      : "";
    const made = node(
      "query",
      "aggregate",
    )`SELECT ${list("clause", items)} FROM ${from.node}${this.#where({ ...context, sources: from.sources })}${group}${having}`;
    return { node: made, columns: items.map((item, at) => outputColumn(item, at)) };
  }

  #aggregateCall(context: Context): Node {
    const inner: Context = { ...context, depth: Math.min(context.depth, 2) };
    const text = (): Node => this.expressions.text(inner);
    const truth = (): Node => this.expressions.truth({ ...inner, depth: 1 });
    const row = context.sources.find((source) => !(context.clean && source.guarded));
    return this.#chance.weighted<() => Node>([
      [2, () => node("item")`${this.#chance.pick(["min", "max"])}(${text()})`],
      [3, () => node("item")`count(${text()})`],
      [1, () => leaf("item", "count(*)")],
      [1, () => node("item", "FILTER")`count(*) FILTER (WHERE ${this.condition(inner)})`],
      [1, () => node("item")`sum(${this.expressions.number(cleaned(inner))})`],
      [2, () => node("item")`string_agg(${text()}, ',')`],
      [1, () => node("item")`array_agg(${this.expressions.text({ ...inner, depth: 0 })})`],
      [3, () => node("item", "count of a condition")`count(CASE WHEN ${truth()} THEN 1 END)`],
      [1, () => node("item")`bool_or(${truth()})`],
      [1, () => node("item")`count(DISTINCT ${this.expressions.text(cleaned(inner))})`],
      [
        1,
        () =>
          node(
            "item",
            "ordered aggregate",
          )`string_agg(${text()}, ',' ORDER BY ${this.expressions.number(cleaned({ ...inner, depth: 0 }))})`,
      ],
      [1, () => node("item", "ordered-set aggregate")`mode() WITHIN GROUP (ORDER BY ${this.expressions.text(cleaned(inner))})`],
      [
        1,
        () =>
          row === undefined
            ? leaf("item", "count(*)")
            : node("item", "whole row")`jsonb_agg(${leaf("row", row.alias, row.guarded)})`,
      ],
    ])();
  }

  #groupingSets(context: Context): Query {
    const from = this.#from.some(context);
    const own: Context = { ...context, sources: from.sources, depth: 0 };
    const dared = this.#chance.daring() ? own : cleaned(own);
    const [a, b] = [this.expressions.column("text", dared), this.expressions.column("number", dared)];
    if (a === undefined || b === undefined) return this.#select(context, undefined);
    const how = this.#chance.pick(["ROLLUP", "CUBE", "GROUPING SETS"]);
    const made = node(
      "query",
      "GROUPING SETS",
    )`SELECT ${a}, ${b}, count(*), max(${this.expressions.text(own)}) FROM ${from.node} GROUP BY ${how} ((${a}), (${b})) ORDER BY 1, 2`;
    return { node: made, columns: [] };
  }

  #star(context: Context): Query {
    const from = this.#from.some(context);
    const usable = from.sources.every((source) => !(context.clean && source.guarded));
    if (!usable) return this.#select(context, undefined);
    const one = this.#chance.pick(from.sources);
    const guarded = from.sources.some((source) => source.guarded);
    const items = this.#chance.pick(["*", `${one.alias}.*`, `${one.alias}.*, 1 AS x`, one.alias]);
    const made = node(
      "query",
      "star",
    )`SELECT ${leaf("clause", items, guarded)} FROM ${from.node}${this.#where({ ...context, sources: from.sources })} LIMIT 9`;
    return { node: made, columns: [] };
  }

  #scalar(sort: Sort, context: Context): Node {
    const from = this.#from.base(context);
    const inner: Context = { ...context, sources: [...from.sources, ...context.sources], depth: Math.min(context.depth, 1) };
    const where = this.#plainCondition({ ...context, sources: from.sources });
    return node("query")`SELECT ${this.expressions.of(sort, inner)} FROM ${from.node} WHERE ${where} LIMIT 1`;
  }
}

/** What the query returns in this place, under a name that queries around it can use. */
function outputColumn(item: Node, at: number): Column {
  return { written: `c${at + 1}`, sort: item.sort === "item" ? "mood" : item.sort, guarded: item.guarded };
}

/** Tables that WITH queries take the name of, and unprotected columns of theirs. */
const hideable: readonly { readonly name: string; readonly columns: readonly string[] }[] = [
  { name: "customers", columns: ["name", "region", "balance"] },
  { name: "orders", columns: ["remark", "id", "total"] },
  { name: "people", columns: ["full_name", "id"] },
];
