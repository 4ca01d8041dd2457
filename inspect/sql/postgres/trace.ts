/**
 * One pass of lineage over one statement: ties expressions, sources and queries together and gathers what they find. Must never
 * lose a column reference: those that no rule of the grammar led to are handed back, to be judged by name alone.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import type { AnalysisSettings, SessionScope } from "../model.ts";
import { changeRows } from "./changes.ts";
import { evaluateExpression } from "./expressions.ts";
import {
  emptyNames,
  type Lineage,
  type Origins,
  type RelationRows,
  type Rows,
  type Scope,
  UNKNOWN,
  unknownRows,
  type Value,
} from "./lineage.ts";
import { selectRows } from "./queries.ts";
import { relationRows, VIEW_DEPTH_MAX } from "./relation-rows.ts";
import { namedRows } from "./sources.ts";
import { type Fields, type Part, walk } from "./tree.ts";

/**
 * Expressions evaluated for one statement, those behind views counted. A text has at most as many as bytes; recursive queries
 * within recursive queries multiply. Ordinary statements need hundreds; the bound is reached in less than a second.
 */
const WORK_MAX = 500_000;

export class Trace implements Lineage {
  readonly index: CatalogIndex;
  readonly settings: AnalysisSettings;
  readonly session: SessionScope;
  readonly viewDepth: number;
  readonly influences: Map<string, "equality" | "other"> = new Map();
  readonly flows: Set<string> = new Set();
  readonly tells: Set<string> = new Set();
  readonly findings: Set<string> = new Set();
  readonly #seen = new WeakSet<Fields>();
  readonly #collectors: Set<string>[] = [];
  /** Shared with the passes over view definitions: each relation is followed once, null while that is under way. */
  readonly #relations: Map<number, Rows | null>;
  readonly #work: { left: number };

  constructor(index: CatalogIndex, settings: AnalysisSettings, session: SessionScope, around?: Trace) {
    this.index = index;
    this.settings = settings;
    this.session = session;
    this.viewDepth = around === undefined ? 0 : around.viewDepth + 1;
    this.#relations = around === undefined ? new Map() : around.#relations;
    this.#work = around === undefined ? { left: WORK_MAX } : around.#work;
  }

  evaluate(node: Part | undefined, scope: Scope): Value {
    if (--this.#work.left < 0) {
      throw new GatewayError("statement_too_long", "The statement is too complex to be analysed.", {
        hint: "Split it, or nest its queries less deeply.",
      });
    }
    return evaluateExpression(node, scope, this);
  }

  query(node: Part, scope: Scope): Rows {
    switch (node.kind) {
      case "SelectStmt":
        return selectRows(node, scope, this);
      case "InsertStmt":
      case "UpdateStmt":
      case "DeleteStmt":
      case "MergeStmt":
        return changeRows(node, scope, this);
      default:
        return unknownRows(UNKNOWN);
    }
  }

  relation(schema: string | undefined, name: string): RelationRows {
    return namedRows(
      this.index.find(schema, name).map((relation) => ({ ...this.#rowsOf(relation), schemas: [relation.schema] })),
    );
  }

  seen(reference: Part): void {
    this.#seen.add(reference.body);
  }

  influence(origins: Origins, form: "equality" | "other"): void {
    for (const origin of origins) {
      if (form === "other" || !this.influences.has(origin)) this.influences.set(origin, form);
      if (form === "other") for (const collector of this.#collectors) collector.add(origin);
    }
  }

  flow(origins: Origins): void {
    for (const origin of origins) this.flows.add(origin);
  }

  tell(origins: Origins): void {
    for (const origin of origins) this.tells.add(origin);
  }

  undecided(what: string): void {
    this.findings.add(what);
  }

  collecting<T>(work: () => T): { readonly result: T; readonly influences: Origins } {
    const collector = new Set<string>();
    this.#collectors.push(collector);
    try {
      return { result: work(), influences: collector };
    } finally {
      this.#collectors.pop();
    }
  }

  /** Column references of the tree that the pass did not come by. */
  leftOver(root: Part): readonly Part[] {
    const found: Part[] = [];
    walk(root, (part) => {
      if (part.kind === "ColumnRef" && !this.#seen.has(part.body)) found.push(part);
    });
    return found;
  }

  #rowsOf(relation: CatalogRelation): Rows {
    const known = this.#relations.get(relation.oid);
    if (known !== undefined) return known ?? unknownRows(UNKNOWN); // null: a view that reaches itself
    this.#relations.set(relation.oid, null);
    const rows = relationRows(relation, this.index, (query) => this.#follow(query));
    this.#relations.set(relation.oid, rows);
    return rows;
  }

  /** A view's own conditions are not the caller's: they are traced apart and dropped. */
  #follow(query: Part): Rows | undefined {
    if (this.viewDepth >= VIEW_DEPTH_MAX) return undefined;
    const inside = new Trace(this.index, this.settings, this.session, this);
    const rows = inside.query(query, emptyNames);
    for (const finding of inside.findings) this.findings.add(finding);
    return rows;
  }
}
