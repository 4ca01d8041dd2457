/**
 * One pass of lineage over one statement: ties expressions, sources and queries together and gathers what they find. Must never
 * lose a column reference: those that no rule of the grammar led to are handed back, to be judged by name alone.
 */
import type { CatalogFunction, CatalogRelation } from "@sluice/core/catalog.ts";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import type { AnalysisSettings, SessionScope } from "../model.ts";
import { changeRows } from "./changes.ts";
import { evaluateExpression } from "./expressions.ts";
import { parameterScope, resultRows } from "./function-calls.ts";
import { inputsOf, type SqlBody, sqlBody } from "./function-bodies.ts";
import {
  type FollowedCall,
  emptyNames,
  type Lineage,
  type Origins,
  type RelationRows,
  type Rows,
  type Scope,
  type StoredIn,
  UNKNOWN,
  unknownRows,
  type Value,
} from "./lineage.ts";
import { selectRows } from "./queries.ts";
import { relationRows, VIEW_DEPTH_MAX } from "./relation-rows.ts";
import { namedRows } from "./sources.ts";
import { isSessionRelation } from "./temporary.ts";
import { type Fields, type Part, walk } from "./tree.ts";

/**
 * Expressions evaluated for one statement, those behind views counted. A text has at most as many as bytes; recursive queries
 * within recursive queries multiply. Ordinary statements need hundreds; the bound is reached in less than a second.
 */
const WORK_MAX = 500_000;

/** A value that is stored in a temporary relation: in this column, or (null) in any. */
export interface KeptValue {
  readonly target: StoredIn;
  readonly column: string | null;
  readonly value: Value;
}

/** Around a view or a function: whose names count there, and which functions have led to it. */
interface Calling {
  readonly session: SessionScope;
  readonly functions: readonly number[];
}

/** Definitions are printed with every name qualified that is not in pg_catalog. */
function boundNames(session: SessionScope): SessionScope {
  return { ...session, path: ["pg_catalog"], temporary: {} };
}

export class Trace implements Lineage {
  readonly index: CatalogIndex;
  readonly settings: AnalysisSettings;
  readonly session: SessionScope;
  readonly viewDepth: number;
  readonly influences: Map<string, "equality" | "other"> = new Map();
  readonly flows: Set<string> = new Set();
  readonly tells: Set<string> = new Set();
  readonly kept: KeptValue[] = [];
  readonly findings: Set<string> = new Set();
  readonly #seen = new WeakSet<Fields>();
  readonly #collectors: Set<string>[] = [];
  /** Shared with the passes over view definitions: each relation is followed once, null while that is under way. */
  readonly #relations: Map<number, Rows | null>;
  readonly #work: { left: number };
  /** What names mean in code that is looked up where it is called: not the session's own within a bound definition. */
  readonly #calling: SessionScope;
  /** Functions that are being followed around this pass. */
  readonly #functions: readonly number[];

  constructor(index: CatalogIndex, settings: AnalysisSettings, session: SessionScope, around?: Trace, calling?: Calling) {
    this.#calling = calling?.session ?? session;
    this.#functions = calling?.functions ?? [];
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
    const found = this.index.find(schema, name, this.session);
    const rows = namedRows(found.map((relation) => ({ ...this.#rowsOf(relation), schemas: [relation.schema] })));
    const own = found.find(isSessionRelation);
    if (own === undefined) return rows;
    const relation = own.temporary.kind === "view" ? null : own.temporary;
    return { ...rows, storedIn: { name, relation, alone: found.length === 1 } };
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

  keep(target: StoredIn, column: string | null, value: Value): void {
    if (value.origins.size > 0) this.kept.push({ target, column, value });
    // What a body stores is not followed into the session's relations.
    if (this.viewDepth > 0) this.flow(value.origins);
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

  follow(candidate: CatalogFunction, values: readonly Origins[], constant: boolean): FollowedCall {
    const body = sqlBody(candidate, this.index);
    const oid = candidate.signature?.oid ?? 0;
    if (body === undefined || this.#functions.includes(oid) || this.viewDepth >= VIEW_DEPTH_MAX) {
      this.influence(UNKNOWN, "other");
      return { rows: unknownRows(UNKNOWN), influences: UNKNOWN };
    }
    const session = this.#scopeOfBody(body);
    const calling: Calling = {
      session: body.names === "bound" ? this.#calling : session,
      functions: [...this.#functions, oid],
    };
    const inside = new Trace(this.index, this.settings, session, this, calling);
    const scope = parameterScope(candidate, this.#withDefaults(candidate, body, values));
    let last: Rows | undefined;
    for (const statement of body.statements) {
      last = inside.query(statement, scope);
      if (inside.leftOver(statement).length === 0) continue;
      inside.influence(UNKNOWN, "other");
      last = unknownRows(UNKNOWN);
    }
    this.#adopt(inside, inputsOf(candidate).length > 0, constant);
    const influences = new Set(
      [...inside.influences].flatMap(([origin, form]) => (form === "other" || !constant ? [origin] : [])),
    );
    return { rows: resultRows(candidate, last, this.index), influences };
  }

  /** What the pass over a body found. Conditions of a function without arguments are not the caller's, like a view's. */
  #adopt(inside: Trace, asked: boolean, constant: boolean): void {
    for (const finding of inside.findings) this.findings.add(finding);
    this.flow(inside.flows);
    this.kept.push(...inside.kept);
    if (!asked) return;
    this.tell(inside.tells);
    for (const [origin, form] of inside.influences) this.influence(new Set([origin]), constant ? form : "other");
  }

  #scopeOfBody(body: SqlBody): SessionScope {
    switch (body.names) {
      case "bound":
        return boundNames(this.session);
      case "called":
        return this.#calling;
      case "elsewhere":
        return { ...this.#calling, path: null }; // another path, or the same one for another role
      default:
        return assertNever(body.names);
    }
  }

  #withDefaults(candidate: CatalogFunction, body: SqlBody, values: readonly Origins[]): readonly Origins[] {
    const inputs = inputsOf(candidate);
    const bound = new Trace(this.index, this.settings, boundNames(this.session), this, {
      session: this.#calling,
      functions: this.#functions,
    });
    const all = inputs.map((_, at): Origins => {
      if (at < values.length) return values[at]!;
      const part = body.defaults[body.defaults.length - (inputs.length - at)];
      return part === undefined ? UNKNOWN : bound.evaluate(part, emptyNames).origins;
    });
    this.#adopt(bound, false, false);
    return all;
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
    const calling: Calling = { session: this.#calling, functions: this.#functions };
    const inside = new Trace(this.index, this.settings, boundNames(this.session), this, calling);
    const rows = inside.query(query, emptyNames);
    for (const finding of inside.findings) this.findings.add(finding);
    return rows;
  }
}
