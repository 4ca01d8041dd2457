/**
 * Everything that a statement runs besides its own text: the views it reads, the SQL functions it calls, what those read and call in
 * turn, and what of it is undecided. Must never stop at a body: its effects, relations and functions count as the statement's own.
 */
import type { CatalogFunction } from "@sluice/core/catalog.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import type { AnalysisSettings, SessionScope, StatementEffect } from "../model.ts";
import { effectsOf } from "./classify.ts";
import { sqlBody } from "./function-bodies.ts";
import { functionFacts } from "./functions.ts";
import { Mentions } from "./mentions.ts";
import { definitionQuery } from "./relation-rows.ts";
import { namedRelations, type ReachedRelations, reachedRelations } from "./relations.ts";
import type { Part } from "./tree.ts";
import { unnamedCode } from "./unnamed-code.ts";

export interface ReachedCode {
  readonly relations: ReachedRelations;
  /** Effects of the bodies; those of the statement are not among them. */
  readonly effects: readonly StatementEffect[];
  readonly undecided: ReadonlySet<string>;
  /** Undecided too: what the schema's maker lets run whenever its relations are read. */
  readonly onReading: readonly string[];
  readonly escapes: ReadonlySet<string>;
  /** Qualified names of the functions whose bodies were taken for what a call does. */
  readonly followed: readonly string[];
}

interface Around {
  readonly index: CatalogIndex;
  readonly settings: AnalysisSettings;
  readonly scope: SessionScope;
}

/** `namesOnly`: the statement names functions and types without using them. */
export function reachedCode(statement: Part, around: Around, namesOnly: boolean): ReachedCode {
  const reach = new CodeReach(around);
  reach.add(statement, around.scope, around.scope, namesOnly);
  return reach.result(statement.kind, namesOnly);
}

class CodeReach {
  readonly #around: Around;
  readonly #views = new Set<number>();
  readonly #functions = new Map<string, CatalogFunction>();
  readonly #effects = new Map<string, StatementEffect>();
  readonly #undecided = new Set<string>();
  readonly #escapes = new Set<string>();
  readonly #mentions: Mentions;
  #relations: ReachedRelations | undefined;

  constructor(around: Around) {
    this.#around = around;
    this.#mentions = new Mentions(around.index);
  }

  /** `names`: what counts in the tree; `calling`: in bodies that it calls and that have no names of their own. */
  add(tree: Part, names: SessionScope, calling: SessionScope, namesOnly: boolean): void {
    const { index } = this.#around;
    const reached = reachedRelations(namedRelations(tree), index, names);
    this.#relations = this.#relations === undefined ? reached : merged(this.#relations, reached);
    this.#use(tree, names, calling, reached, namesOnly);
    const refreshed = tree.kind === "RefreshMatViewStmt" ? reached.direct.filter(({ kind }) => kind === "matview") : [];
    for (const view of [...reached.views, ...refreshed]) {
      const query = this.#views.has(view.oid) ? undefined : definitionQuery(view, index);
      this.#views.add(view.oid);
      // Views within the view are among the reached ones already.
      if (query !== undefined && !namesOnly)
        this.#use(query, { ...names, path: ["pg_catalog"], temporary: {} }, calling, reached, false);
    }
  }

  result(kind: string, namesOnly: boolean): ReachedCode {
    const relations = this.#relations ?? reachedRelations([], this.#around.index, this.#around.scope);
    const unnamed = unnamedCode(this.#mentions, relations, this.#around, { kind, namesOnly });
    for (const found of unnamed.undecided) this.#undecided.add(found);
    return {
      relations,
      effects: [...this.#effects.values()],
      undecided: this.#undecided,
      onReading: unnamed.onReading,
      escapes: this.#escapes,
      followed: [...new Set([...this.#functions.values()].map(qualifiedFunction))].sort(),
    };
  }

  #use(tree: Part, names: SessionScope, calling: SessionScope, reached: ReachedRelations, namesOnly: boolean): void {
    if (namesOnly) return;
    const { index, settings } = this.#around;
    // Asked for calls alone, which many statements have none of.
    let columns: ReadonlySet<string> | undefined;
    const isColumn = (name: string): boolean => {
      columns ??= new Set(reached.known.flatMap((relation) => relation.columns.map((column) => column.name)));
      return columns.has(name);
    };
    this.#mentions.add(tree, names);
    const facts = functionFacts(tree, index, settings, isColumn, names.path);
    for (const found of facts.undecided) this.#undecided.add(found);
    for (const found of facts.escapes) this.#escapes.add(found);
    for (const fn of facts.followed) this.#follow(fn, calling);
  }

  #follow(fn: CatalogFunction, scope: SessionScope): void {
    const key = `${fn.signature?.oid ?? 0} ${scope.path === null ? "anywhere" : "path"}`;
    const body = sqlBody(fn, this.#around.index);
    if (body === undefined || this.#functions.has(key)) return;
    this.#functions.set(key, fn);
    this.#mentions.assigns = true; // arguments and the result
    const bound: SessionScope = { ...scope, path: ["pg_catalog"], temporary: {} };
    // A body that is called within one with another path has that path: then a name means any relation of that name.
    const names = body.names === "bound" ? bound : body.names === "called" ? scope : { ...scope, path: null };
    const calling = body.names === "bound" ? scope : names;
    for (const statement of body.statements) {
      for (const effect of effectsOf(statement)) this.#effects.set(`${effect.class} ${effect.name}`, effect);
      this.add(statement, names, calling, false);
    }
    for (const value of body.defaults) this.add(value, bound, scope, false);
  }
}

function qualifiedFunction(fn: CatalogFunction): string {
  return `${fn.schema}.${fn.name}`;
}

function merged(a: ReachedRelations, b: ReachedRelations): ReachedRelations {
  const names = <T extends { readonly oid: number }>(first: readonly T[], second: readonly T[]): readonly T[] => [
    ...new Map([...first, ...second].map((relation) => [relation.oid, relation])).values(),
  ];
  const uses = [...a.uses, ...b.uses].map((use) => [`${use.access} ${use.name}`, use] as const);
  return {
    uses: [...new Map(uses).values()],
    known: names(a.known, b.known),
    direct: names(a.direct, b.direct),
    views: names(a.views, b.views),
    unknownNames: [...new Set([...a.unknownNames, ...b.unknownNames])],
    sensitive: [...new Set([...a.sensitive, ...b.sensitive])],
    undecided: [...new Set([...a.undecided, ...b.undecided])],
  };
}
