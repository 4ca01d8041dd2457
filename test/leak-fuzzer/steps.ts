/**
 * Steps of a session: one statement, or several that belong together (a cursor, a prepared statement, a transaction that is
 * undone, a temporary table and what is read from it). What a step leaves behind in the session is remembered for the next ones.
 */
import { ChangingSteps } from "./changing-steps.ts";
import { Queries } from "./queries.ts";
import {
  aside,
  asStatement,
  control,
  kept,
  ask,
  type Form,
  SessionState,
  type Statement,
  type Step,
  undone,
  work,
} from "./statements.ts";
import { featuresOf, leaf, list, type Node, node, print } from "./tree.ts";
import { type Chance, cleaned, type Context } from "./words.ts";

export class Steps {
  readonly #chance: Chance;
  readonly #queries: Queries;
  readonly #session = new SessionState();
  readonly #changing: ChangingSteps;

  constructor(chance: Chance) {
    this.#chance = chance;
    this.#queries = new Queries(chance);
    this.#changing = new ChangingSteps(chance, this.#queries, this.#session);
  }

  next(): Step {
    if (this.#chance.options.plain) return this.#plainStep();
    return this.#chance.weighted<() => Step>([
      [72, () => [this.#query(3)]],
      [6, () => this.#cursor()],
      [5, () => this.#prepared()],
      [4, () => [this.#explain()]],
      [7, () => [this.#copy()]],
      [5, () => this.#changing.writing()],
      [4, () => this.#changing.merging()],
      [4, () => this.#changing.temporaryTable()],
      [5, () => this.#changing.temporaryUse()],
      [4, () => this.#searchPath()],
      [2, () => this.#errors()],
      [3, () => this.#channels()],
      [2, () => this.#settings()],
      [3, () => this.#effects()],
      [2, () => this.#batch()],
      [1, () => this.#definitions()],
      [1, () => this.#sameNames()],
    ])();
  }

  /** Steps of which every output must come back as it is. */
  #plainStep(): Step {
    return this.#chance.weighted<() => Step>([
      [30, () => [this.#query(3)]],
      [3, () => this.#cursor()],
      [3, () => this.#prepared()],
      [4, () => [this.#copy()]],
      [3, () => this.#changing.writing()],
    ])();
  }

  #context(depth: number): Context {
    return this.#queries.outermost(this.#session.temporary, depth);
  }

  #query(depth: number): Statement {
    const form = this.#chance.weighted<Form>([
      [5, "simple"],
      [4, "extended"],
      [3, "binary"],
      [1, "sliced"],
      [1, "named"],
    ]);
    return work(this.#queries.any(this.#context(depth)).node, form);
  }

  #cursor(): Step {
    const name = this.#session.name("c");
    const kind = this.#chance.pick(["", "SCROLL ", "NO SCROLL "]);
    const declared = node("statement", "cursor")`DECLARE ${name} ${kind}CURSOR FOR ${this.#queries.any(this.#context(2)).node}`;
    const fetches = [`FETCH 2 FROM ${name}`, `MOVE 1 FROM ${name}`, `FETCH ALL FROM ${name}`];
    const [first, ...rest] = fetches.map((sql) => leaf("statement", sql, false, "FETCH"));
    return undone(work(declared, "simple"), work(first!, "simple"), ...rest.map(aside)); // three are written above
  }

  #prepared(): Step {
    const name = this.#session.name("p");
    const query = this.#queries.any(this.#context(2)).node;
    const form = this.#chance.pick<Form>(["simple", "extended", "binary"]);
    return [
      aside(node("statement", "PREPARE")`PREPARE ${name} AS ${query}`),
      work(leaf("statement", `EXECUTE ${name}`, false, "EXECUTE"), form),
      aside(leaf("statement", `DEALLOCATE ${name}`)),
    ];
  }

  #explain(): Statement {
    const how = this.#chance.pick([
      "",
      "(VERBOSE) ",
      "(FORMAT JSON) ",
      "(FORMAT XML, VERBOSE) ",
      "(FORMAT YAML) ",
      "(ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ",
    ]);
    return work(node("statement", "EXPLAIN")`EXPLAIN ${how}${this.#queries.any(this.#context(2)).node}`, "simple");
  }

  #copy(): Statement {
    const format = this.#chance.pick([
      "",
      " (FORMAT csv)",
      " (FORMAT csv, HEADER, FORCE_QUOTE *)",
      " (FORMAT binary)",
      " (DELIMITER ';', NULL 'none')",
    ]);
    const plain = this.#chance.options.plain;
    const tables = plain
      ? ["orders", "loot"]
      : ["customers", "customers (id, name, ssn)", "people_1", "docs", "kinds", "staff", "orders (id, total)"];
    const what: Node = this.#chance.percent(40)
      ? leaf("query", this.#chance.pick(tables), !plain)
      : node("query")`(${this.#queries.any(this.#context(2)).node})`;
    return work(
      node(
        "statement",
        `COPY${format.replaceAll(/[(),;']|FORMAT|HEADER.*|none|NULL/g, "").trimEnd()}`,
      )`COPY ${what} TO STDOUT${format}`,
      "simple",
    );
  }

  #searchPath(): Step {
    const path = this.#chance.pick([
      "hr",
      "arch",
      "hr, public",
      "arch, public",
      "public, hr",
      '"$user", public',
      "pg_catalog, hr",
    ]);
    const item = (): Node => this.#sameName();
    return this.#chance.weighted<() => Step>([
      [2, () => [control(`SET search_path = ${path}`), item(), item(), "RESET search_path"].map(asStatement)],
      [
        2,
        () =>
          [control("BEGIN"), control(`SET LOCAL search_path = ${path}`), item(), control("ROLLBACK"), item()].map(asStatement),
      ],
      [
        2,
        () =>
          [
            control("BEGIN"),
            control("SAVEPOINT s"),
            control(`SET search_path = ${path}`),
            item(),
            control("ROLLBACK TO s"),
            item(),
            control("COMMIT"),
          ].map(asStatement),
      ],
      [
        1,
        () =>
          [control(`SELECT set_config('search_path', '${path.replaceAll("'", "")}', false)`), item(), "RESET ALL"].map(
            asStatement,
          ),
      ],
      [
        1,
        () =>
          [control("BEGIN"), control(`SET search_path = ${path}`), control("SELECT 1/0"), control("ROLLBACK"), item()].map(
            asStatement,
          ),
      ],
    ])();
  }

  /** A name that means another relation in each schema. */
  #sameName(): Node {
    const item = this.#chance.pick(["name", "upper(name)", "left(name, 2)", "name || region", "c", "ssn", "reverse(ssn)", "c.*"]);
    return node("statement", "search_path")`SELECT id, ${leaf("text", item, true)} FROM customers c WHERE id < 4`;
  }

  #errors(): Step {
    const clean = this.#chance.pick([
      "SELECT 1/0",
      "SELECT 'x'::int",
      "SELECT nothing FROM customers",
      "SELECT * FROM absent",
      "SELEC 1",
      "SELECT name::int FROM customers",
    ]);
    const guarded = this.#chance.pick([
      "SELECT ssn::int FROM customers",
      "SELECT card::date, name FROM customers WHERE id = 1",
      "SELECT id FROM customers WHERE email::uuid IS NULL",
      "INSERT INTO customers SELECT * FROM customers WHERE id = 1",
      "SELECT (email ->> 'mail')::int FROM docs",
      "UPDATE customers SET id = 1",
      "UPDATE kinds SET card = '' WHERE id = 1",
      "SELECT 1 / (ascii(ssn) - 90) FROM customers WHERE id = 1",
      "SELECT (left(ssn, 1))::int FROM people WHERE id = 3",
      "SELECT 1 / strpos(card, 'Z') AS n FROM staff",
      "SELECT generate_series(1, length(ssn)) FROM hr.customers WHERE id = 1",
      "SELECT id, unnest(string_to_array(email, 'q')) FROM customers",
      "SELECT CASE WHEN ssn LIKE 'Z%' THEN 1 / (id - id) END FROM customers",
    ]);
    return undone(
      control("SAVEPOINT e"),
      work(
        leaf("statement", this.#chance.percent(50) ? clean : guarded, true, "error on purpose"),
        this.#chance.pick<Form>(["simple", "extended"]),
      ),
      control("ROLLBACK TO e"),
      this.#query(1),
    );
  }

  #channels(): Step {
    const text = this.#queries.any({ ...this.#context(1), named: [] }, ["text"]);
    const notify = this.#chance.pick<Node>([
      leaf("statement", "NOTIFY ear, 'payload'", false, "NOTIFY"),
      node("statement", "pg_notify")`SELECT pg_notify('ear', n.c1) FROM (${text.node}) n(c1)`,
      leaf("statement", "SELECT pg_notify('ear', name) FROM customers WHERE id = 1", false, "pg_notify"),
    ]);
    const loud = leaf(
      "statement",
      this.#chance.pick([
        "SELECT shout(ssn) FROM customers",
        "SELECT shout(name), left(ssn, 2) FROM customers",
        "DO $$ BEGIN RAISE NOTICE 'x'; END $$",
      ]),
      true,
      "notice",
    );
    return [control("LISTEN ear"), work(notify, "simple"), work(loud, "simple"), control("UNLISTEN *")].map(asStatement);
  }

  #settings(): Step {
    const text = this.#queries.any({ ...this.#context(1), named: [] }, ["text"]);
    return [
      work(node("statement", "set_config")`SELECT set_config('app.kept', n.c1, false) FROM (${text.node}) n(c1)`, "simple"),
      work(leaf("statement", "SELECT current_setting('app.kept', true)", false, "current_setting"), "simple"),
      work(
        leaf("statement", this.#chance.pick(["SHOW search_path", "SHOW server_encoding", "SHOW app.kept"]), false, "SHOW"),
        "simple",
      ),
      control("SET application_name = 'fuzz'"),
    ];
  }

  /** Calls that leave something behind when they are evaluated at all. */
  #effects(): Step {
    const context = this.#context(2);
    const from = this.#queries.from(context);
    // Mostly refused where something protected decides; that it is, is what this is for.
    const dared = this.#chance.percent(30) ? context : cleaned(context);
    const inner: Context = { ...dared, sources: from.sources, depth: 2 };
    const { expressions } = this.#queries;
    const call = this.#chance.pick([
      "nextval('counter')::text",
      "set_config('app.kept', 'yes', false)",
      "pg_notify('ear', 'yes')::text",
      "(1 / (random() * 0)::int)::text",
    ]);
    const wrapped = this.#chance.weighted<() => Node>([
      [4, () => node("text")`CASE WHEN ${expressions.truth({ ...inner, silent: true })} THEN ${call} END`],
      [1, () => node("text")`coalesce(nullif(${expressions.text(inner)}, 'q'), ${call})`],
      [1, () => node("text")`(SELECT ${call} WHERE ${expressions.truth(inner)})`],
    ])();
    return [
      ...kept(work(node("statement", "effect under a condition")`SELECT ${wrapped} FROM ${from.node} LIMIT 4`, "simple")),
      ...kept(ask("SELECT nextval('counter'), current_setting('app.kept', true)")),
    ];
  }

  /** Several statements in one text. */
  #batch(): Step {
    const parts = [this.#queries.any(this.#context(1)).node, this.#queries.any(this.#context(1)).node];
    return [
      work(
        list(
          "statement",
          [node("statement", "several statements in one text")`${parts[0]!}`, node("statement")`${parts[1]!}`],
          "; ",
        ),
        "simple",
      ),
    ];
  }

  /** Names that are given by SQL and by protocol: which of the two a later EXECUTE or FETCH means must not be taken for the other. */
  #sameNames(): Step {
    const claimed = this.#queries.any(this.#context(1)).node;
    const later = this.#chance.pick(["EXECUTE p", "FETCH ALL FROM c"]);
    return [
      control("PREPARE p AS SELECT name FROM customers WHERE id = 1"),
      control("BEGIN"),
      control("DECLARE c CURSOR FOR SELECT name FROM customers LIMIT 3"),
      ...(this.#chance.percent(50) ? [control("COMMIT"), control("BEGIN")] : []),
      { node: node("statement", "names claimed by protocol")`${claimed}`, form: "claims", work: false },
      work(leaf("statement", later, true, "names claimed by protocol"), this.#chance.pick<Form>(["simple", "extended"])),
      control("ROLLBACK"),
      control("DEALLOCATE ALL"),
    ];
  }

  /** Definitions, undone. Few: each makes the gateway read the catalog again. */
  #definitions(): Step {
    const query = this.#queries.any(this.#context(2), ["number", "text"]);
    if (this.#chance.percent(30)) {
      const shadowing = "CREATE AGGREGATE count(text) (sfunc = textcat, stype = text, initcond = '')";
      return undone(work(leaf("statement", shadowing, false, "aggregate that shadows a built-in"), "simple"), this.#query(2));
    }
    const made = node("statement", "CREATE VIEW")`CREATE VIEW seen AS ${query.node}`;
    return undone(work(made, "simple"), work(leaf("statement", "SELECT * FROM seen LIMIT 3", query.node.guarded), "simple"));
  }
}

/** What a step is about. */
export function stepFeatures(statement: Statement): ReadonlySet<string> {
  const found = new Set(featuresOf(statement.node));
  if (statement.work && statement.form !== "simple") found.add(`sent as ${statement.form}`);
  return found;
}

export function textOf(statement: Statement): string {
  return print(statement.node);
}
