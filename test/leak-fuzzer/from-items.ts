/**
 * FROM clauses: base relations by every kind of name, subqueries, LATERAL, joins with ON, USING and NATURAL, functions, VALUES,
 * WITH queries, JSON_TABLE, with alias lists now and then.
 */
import type { Expressions } from "./expressions.ts";
import { type Column, type Relation, relations, tableFunctions } from "./schema.ts";
import { leaf, type Node, node, print, type Sort } from "./tree.ts";
import { type Chance, cleaned, type Context, deeper, type Query, type Source } from "./words.ts";

export interface From {
  readonly node: Node;
  readonly sources: readonly Source[];
}

export class FromItems {
  readonly #chance: Chance;
  readonly #expressions: Expressions;
  readonly #query: (context: Context, sorts: readonly Sort[]) => Query;
  #aliases = 0;

  constructor(chance: Chance, expressions: Expressions, query: (context: Context, sorts: readonly Sort[]) => Query) {
    this.#chance = chance;
    this.#expressions = expressions;
    this.#query = query;
  }

  /** One item or several. */
  some(context: Context): From {
    if (context.depth <= 0) return this.base(context);
    return this.#chance.weighted<() => From>([
      [10, () => this.base(context)],
      [3, () => this.#subquery(context)],
      [2, () => this.#lateral(context)],
      [3, () => this.#join(context)],
      [2, () => this.#using(context)],
      [1, () => this.#function(context)],
      [1, () => this.#values()],
      [1, () => this.#joinAlias(context)],
      [1, () => this.#jsonTable(context)],
    ])();
  }

  /** A relation, WITH query or temporary table by its name. */
  base(context: Context): From {
    if (context.named.length > 0 && this.#chance.percent(45)) {
      const known = this.#chance.pick(context.named);
      if (!(context.clean && known.columns.some((column) => column.guarded) && this.#chance.options.plain))
        return this.#aliased(leaf("from", known.name, false, known.feature), known.columns);
    }
    const relation: Relation = this.#chance.pick(relations);
    // A WITH query of that name would hide the table.
    const hidden = context.named.find((known) => known.name === relation.name);
    if (hidden !== undefined) return this.#aliased(leaf("from", hidden.name, false, hidden.feature), hidden.columns);
    const simple = /^\w+$/.test(relation.name);
    const sampled = simple && this.#chance.percent(1) ? " TABLESAMPLE system (100)" : "";
    return this.#aliased(leaf("from", relation.name, false, relation.feature), relation.columns, sampled);
  }

  /** With an alias, and now and then with a list of new column names. */
  #aliased(written: Node, columns: readonly Column[], after = ""): From {
    const alias = this.#alias();
    const renameable = columns.every((column) => /^\w+$/.test(column.written));
    const quoted = this.#chance.percent(4) ? `"A ${alias}"` : alias;
    if (renameable && this.#chance.percent(10) && this.#listsAll(written, columns)) {
      const renamed = columns.map((column, at) => ({ ...column, written: column.written === "id" ? "id" : `k${at}` }));
      const list = renamed.map((column) => column.written).join(", ");
      return {
        node: node("from", "alias list")`${written} AS ${quoted}(${list})${after}`,
        sources: [sourceOf(quoted, renamed)],
      };
    }
    return { node: node("from")`${written} AS ${quoted}${after}`, sources: [sourceOf(quoted, columns)] };
  }

  /** Only where the columns are listed in their order, from the first on. */
  #listsAll(written: Node, columns: readonly Column[]): boolean {
    const inOrder = [
      "customers",
      "hr.customers",
      "arch.customers",
      "people",
      "v_joined",
      "v_union",
      "m_parts",
      "staff",
      "orders",
    ];
    return inOrder.includes(print(written)) && columns[0]?.written === "id";
  }

  #subquery(context: Context): From {
    const inside = this.#query(deeper({ ...context, sources: [] }), this.#sorts());
    const alias = this.#alias();
    return { node: node("from", "subquery")`(${inside.node}) ${alias}`, sources: [sourceOf(alias, inside.columns)] };
  }

  #lateral(context: Context): From {
    const first = this.base(context);
    const alias = this.#alias();
    const inner: Context = { ...deeper(context), sources: first.sources };
    const value = this.#expressions.text({ ...inner, depth: Math.min(inner.depth, 2) });
    const column: Column = { written: "l", sort: "text", guarded: value.guarded };
    return {
      node: node("from", "LATERAL")`${first.node}, LATERAL (SELECT ${value} AS l) ${alias}`,
      sources: [...first.sources, sourceOf(alias, [column])],
    };
  }

  #join(context: Context): From {
    const left = this.base(context);
    const right = this.base(context);
    const both = [...left.sources, ...right.sources];
    const [a, b] = [left.sources[0]!, right.sources[0]!];
    const byId = hasId(a) && hasId(b);
    const dared = this.#chance.daring() ? context : cleaned(context);
    const on =
      byId && this.#chance.percent(85)
        ? leaf("truth", `${a.alias}.id = ${b.alias}.id`)
        : this.#expressions.truth({ ...dared, sources: both, depth: 1 });
    const how = this.#chance.pick(["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    return { node: node("from", "JOIN")`${left.node} ${byId ? how : "JOIN"} ${right.node} ON ${on}`, sources: both };
  }

  #using(context: Context): From {
    const left = this.base(context);
    const right = this.base(context);
    if (!hasId(left.sources[0]!) || !hasId(right.sources[0]!)) return left;
    const natural = this.#chance.daring() && this.#chance.percent(40);
    if (natural)
      return {
        node: node("from", "NATURAL JOIN")`${left.node} NATURAL JOIN ${right.node}`,
        sources: [...left.sources, ...right.sources],
      };
    const alias = this.#chance.percent(20) ? " AS u" : "";
    // A protected column in USING is compared: refused, so only now and then.
    const secret =
      !context.clean && this.#chance.percent(12) && [left, right].every(({ sources }) => hasColumn(sources[0]!, "ssn"));
    const column = secret ? "ssn" : "id";
    return {
      node: node(
        "from",
        "USING",
      )`${left.node} ${this.#chance.pick(["JOIN", "LEFT JOIN"])} ${right.node} USING (${column})${alias}`,
      sources: [...left.sources, ...right.sources],
    };
  }

  /** A join under one name, with new names for its first columns. */
  #joinAlias(context: Context): From {
    if (context.clean) return this.base(context);
    const alias = this.#alias();
    const columns: readonly Column[] = [
      { written: "id", sort: "number", guarded: false },
      { written: "j1", sort: "text", guarded: false },
      { written: "j2", sort: "text", guarded: false },
      { written: "j3", sort: "text", guarded: true },
    ];
    const how = this.#chance.pick(["LEFT JOIN (VALUES (7)) z ON true", "CROSS JOIN (VALUES (7)) z"]);
    return {
      node: node("from", "join with an alias")`(${leaf("from", "customers", true)} ${how}) AS ${alias}(id, j1, j2, j3)`,
      sources: [sourceOf(alias, columns)],
    };
  }

  #function(context: Context): From {
    if (this.#chance.percent(55)) {
      const relation = this.#chance.pick(tableFunctions);
      const alias = this.#alias();
      return {
        node: node("from", relation.feature)`${relation.name} AS ${alias}`,
        sources: [sourceOf(alias, relation.columns)],
      };
    }
    const first = this.base(context);
    const alias = this.#alias();
    const inner = this.#expressions.texts({ ...cleaned(context), sources: first.sources, depth: 1 });
    const ordinality = this.#chance.percent(40) ? " WITH ORDINALITY" : "";
    return {
      node: node("from", "function in FROM")`${first.node}, unnest(${inner})${ordinality} AS ${alias}(f)`,
      sources: [...first.sources, sourceOf(alias, [{ written: "f", sort: "text", guarded: false }])],
    };
  }

  #values(): From {
    const alias = this.#alias();
    const columns: readonly Column[] = [
      { written: "id", sort: "number", guarded: false },
      { written: "v", sort: "text", guarded: false },
    ];
    return { node: node("from", "VALUES")`(VALUES (1, 'a'), (2, 'b')) ${alias}(id, v)`, sources: [sourceOf(alias, columns)] };
  }

  #jsonTable(context: Context): From {
    const first = this.base(context);
    const alias = this.#alias();
    const json = this.#expressions.json({ ...cleaned(context), sources: first.sources, depth: 1 });
    const columns: readonly Column[] = [{ written: "t", sort: "text", guarded: false }];
    return {
      node: node("from", "JSON_TABLE")`${first.node}, JSON_TABLE(${json}, '$' COLUMNS (t text PATH '$.ssn')) AS ${alias}`,
      sources: [...first.sources, sourceOf(alias, columns)],
    };
  }

  #sorts(): readonly Sort[] {
    return Array.from({ length: 1 + this.#chance.below(3) }, () =>
      this.#chance.pick(["text", "text", "number", "json"] as const),
    );
  }

  #alias(): string {
    this.#aliases += 1;
    return `s${this.#aliases % 97}`;
  }
}

function sourceOf(alias: string, columns: readonly Column[]): Source {
  return { alias, columns, guarded: columns.some((column) => column.guarded) };
}

function hasId(source: Source): boolean {
  return hasColumn(source, "id");
}

function hasColumn(source: Source, name: string): boolean {
  return source.columns.some((column) => column.written === name);
}
