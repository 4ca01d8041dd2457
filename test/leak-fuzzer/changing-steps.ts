/**
 * Steps that write: INSERT, UPDATE, DELETE and MERGE with RETURNING, undone; temporary tables, which take protected values with
 * their labels and are read later.
 */
import type { Queries } from "./queries.ts";
import type { Column } from "./schema.ts";
import { ask, type Form, type SessionState, kept, type Statement, type Step, undone, work } from "./statements.ts";
import { leaf, type Node, node } from "./tree.ts";
import { type Chance, cleaned, type Context, type NamedRows } from "./words.ts";

export class ChangingSteps {
  readonly #chance: Chance;
  readonly #queries: Queries;
  readonly #session: SessionState;

  constructor(chance: Chance, queries: Queries, session: SessionState) {
    this.#chance = chance;
    this.#queries = queries;
    this.#session = session;
  }

  /** INSERT, UPDATE and DELETE with RETURNING, undone. */
  writing(): Step {
    const context = this.#queries.outermost(this.#session.temporary, 2);
    // Something protected that is written is refused: mostly it is only returned.
    const values = this.#chance.daring() ? context : cleaned(context);
    const source = this.#queries.any(values, ["number", "text"]);
    const { expressions } = this.#queries;
    const customers: Context = {
      ...context,
      depth: 1,
      sources: [
        {
          alias: "t",
          guarded: true,
          columns: [
            { written: "id", sort: "number", guarded: false },
            { written: "name", sort: "text", guarded: false },
            { written: "ssn", sort: "text", guarded: true },
            { written: "email", sort: "text", guarded: true },
          ],
        },
      ],
    };
    const from = this.#queries.from(cleaned(context));
    const written = this.#chance.daring() ? customers : cleaned(customers);
    const statement = this.#chance.weighted<() => Node>([
      [2, () => node("statement", "INSERT … SELECT")`INSERT INTO loot (id, label) ${source.node} RETURNING id, label`],
      [
        2,
        () =>
          node(
            "statement",
            "UPDATE … RETURNING",
          )`UPDATE customers t SET name = ${expressions.text(written)} WHERE t.id < 3 RETURNING t.id, ${expressions.text(customers)}, ${expressions.text(customers)}`,
      ],
      [
        1,
        () =>
          node(
            "statement",
            "UPDATE … FROM",
          )`UPDATE orders t SET total = 7 FROM ${from.node} WHERE t.id = 1 RETURNING t.id, ${expressions.text({ ...customers, sources: from.sources, clean: customers.clean })}`,
      ],
      [
        1,
        () =>
          node(
            "statement",
            "DELETE … RETURNING",
          )`DELETE FROM customers t WHERE t.id = 2 RETURNING ${expressions.text(customers)}, t.name`,
      ],
      [
        1,
        () =>
          node(
            "statement",
            "data-modifying CTE",
          )`WITH w AS (UPDATE customers t SET region = 'r' WHERE t.id = 1 RETURNING t.id, t.name, ${expressions.text(customers)} AS x) SELECT w.id, upper(w.x) AS y, w.name FROM w`,
      ],
      [
        1,
        () =>
          node(
            "statement",
            "ON CONFLICT",
          )`INSERT INTO customers AS t (id, name) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET name = ${expressions.text(written)} RETURNING t.id, ${expressions.text(customers)}`,
      ],
      [
        1,
        () =>
          node(
            "statement",
            "RETURNING old and new",
          )`UPDATE customers t SET name = 'n' WHERE t.id = 1 RETURNING old.name, new.name, ${this.#chance.options.plain ? "t.id" : leaf("text", "old.ssn || new.email", true)}`,
      ],
    ])();
    return undone(
      work(statement, this.#chance.pick<Form>(["simple", "extended"])),
      ask("SELECT id, label FROM loot ORDER BY id"),
      ask("SELECT id, name, region FROM customers WHERE id < 4"),
    );
  }

  merging(): Step {
    const context = this.#queries.outermost(this.#session.temporary, 2);
    const source = this.#queries.any(this.#chance.daring() ? context : cleaned(context), ["number", "text"]);
    const back = this.#chance.options.plain ? "" : this.#chance.pick(["", " RETURNING merge_action(), l.id, l.label"]);
    const merge = node(
      "statement",
      "MERGE",
    )`MERGE INTO loot l USING (${source.node}) s(id, v) ON l.id = s.id WHEN MATCHED THEN UPDATE SET label = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)${back}`;
    const customers = node(
      "statement",
      "MERGE … RETURNING",
    )`MERGE INTO customers c USING (VALUES (1)) s(id) ON c.id = s.id WHEN MATCHED THEN UPDATE SET region = 'm' RETURNING c.id, ${leaf("text", "upper(c.ssn)", true)}, s.id`;
    return undone(work(this.#chance.percent(60) ? merge : customers, "simple"), ask("SELECT id, label FROM loot ORDER BY id"));
  }

  temporaryTable(): Step {
    const name = this.#chance.percent(25) ? this.#chance.pick(["customers", "orders"]) : this.#session.name("t");
    const query = this.#queries.any(
      { ...this.#queries.outermost(this.#session.temporary, 2), named: [] },
      this.#chance.pick([["number", "text"], ["text"], ["text", "json"]] as const),
    );
    const columns: readonly Column[] = query.columns.map((column, at) => ({
      ...column,
      written: column.written === "" ? `c${at + 1}` : column.written,
    }));
    const hides = /^[co]/.test(name) && name.length > 4;
    const feature = hides ? "temporary table that hides a table" : "temporary table";
    const isView = this.#chance.percent(20);
    const made = this.#chance.weighted<() => Node>([
      [isView ? 0 : 3, () => node("statement", feature)`CREATE TEMP TABLE ${name} AS ${query.node}`],
      [isView ? 1 : 0, () => node("statement", "temporary view")`CREATE TEMP VIEW ${name} AS ${query.node}`],
      [isView ? 0 : 1, () => node("statement", "SELECT INTO TEMP")`SELECT i.* INTO TEMP ${name} FROM (${query.node}) i`],
    ])();
    const rows: NamedRows = { name, columns, feature };
    // One that hides a table stays for a step; others for the rest of the session.
    const read = this.#fromNamed(rows);
    if (hides || this.#session.temporary.length > 3 || this.#chance.percent(60)) {
      // What is written through a view is stored elsewhere.
      const stored = isView ? [] : [this.#intoNamed(rows), this.#fromNamed(rows)];
      return undone(work(made, "simple"), read, ...stored);
    }
    this.#session.temporary = [...this.#session.temporary, rows];
    return [...kept(work(made, "simple")), read];
  }

  temporaryUse(): Step {
    const rows = this.#session.temporary.length === 0 ? undefined : this.#chance.pick(this.#session.temporary);
    if (rows === undefined) return this.temporaryTable();
    return [this.#fromNamed(rows)];
  }

  #fromNamed(rows: NamedRows): Statement {
    const guarded = rows.columns.some((column) => column.guarded);
    const context: Context = {
      ...this.#queries.outermost(this.#session.temporary, 2),
      sources: [{ alias: "n", columns: rows.columns, guarded }],
    };
    const { expressions } = this.#queries;
    const item = this.#chance.percent(20) ? leaf("item", "n.*", guarded) : expressions.text(context);
    const sql = node(
      "statement",
      `${rows.feature} read`,
    )`SELECT ${item}, ${expressions.text(context)} FROM ${rows.name} n LIMIT 9`;
    return work(sql, this.#chance.pick<Form>(["simple", "extended", "binary"]));
  }

  /** What comes in later: from something protected, into a column that was none. */
  #intoNamed(rows: NamedRows): Statement {
    const column = rows.columns.find(({ sort }) => sort === "text");
    if (column === undefined) return ask("SELECT 1");
    const text = this.#queries.any({ ...this.#queries.outermost(this.#session.temporary, 1), named: [] }, ["text"]);
    return work(
      node("statement", "INSERT into a temporary table")`INSERT INTO ${rows.name} (${column.written}) ${text.node}`,
      "simple",
    );
  }
}
