/**
 * What is gathered while a statement's changes to temporary relations are followed: the relations as they are by then, and what
 * loses the session. Must never take a name for a temporary relation that can mean another.
 */
import type { CatalogIndex } from "../catalog-index.ts";
import type { ScopeChange, SessionScope, TemporaryRelation } from "../model.ts";
import type { Lineage, Origins, Rows } from "./lineage.ts";
import type { ReachedRelations } from "./relations.ts";
import { isSessionRelation, type SessionRelation, temporaryOf } from "./temporary.ts";
import type { KeptValue } from "./trace.ts";
import { type Fields, type Part, stringField } from "./tree.ts";

export interface TemporaryInput {
  readonly statement: Part;
  readonly scope: SessionScope;
  readonly index: CatalogIndex;
  readonly lineage: Lineage;
  readonly kept: readonly KeptValue[];
  readonly reached: ReachedRelations;
  /** What the statement's query returns. */
  readonly rows: Rows | undefined;
  /** Origins of what lineage did not come by: they may be in any column. */
  readonly leftOver: Origins;
}

export class TemporaryWork {
  readonly #scope: SessionScope;
  readonly #index: CatalogIndex;
  readonly #changes = new Map<string, TemporaryRelation | null>();
  readonly #lost = new Set<string>();
  readonly #undecided = new Set<string>();
  only = false;

  constructor({ scope, index }: TemporaryInput) {
    this.#scope = scope;
    this.#index = index;
  }

  get isIdle(): boolean {
    return !this.only && this.#changes.size === 0 && this.#lost.size === 0 && this.#undecided.size === 0;
  }

  current(name: string): TemporaryRelation | undefined {
    const changed = this.#changes.get(name);
    return changed === undefined ? temporaryOf(this.#scope, name) : (changed ?? undefined);
  }

  set(name: string, relation: TemporaryRelation | null): void {
    this.#changes.set(name, relation);
  }

  lose(why: string): void {
    this.#lost.add(why);
  }

  /** Code that nobody has looked at, or another table, has a part in what is stored from here on. */
  unknown(what: string): void {
    this.#undecided.add(what);
    this.#lost.add(what);
  }

  /** Every temporary relation but these. */
  others(but: ReadonlySet<string>): readonly (readonly [string, TemporaryRelation])[] {
    return Object.entries(this.#scope.temporary).filter(([name]) => !but.has(name));
  }

  /** The temporary relation that a definition is about, by its name; undefined for another. In doubt the session is lost. */
  changed(relation: Fields): string | undefined {
    const schema = stringField(relation, "schemaname");
    return this.changedName(schema === "" ? undefined : schema, stringField(relation, "relname"));
  }

  changedName(schema: string | undefined, name: string): string | undefined {
    const { own, alone } = this.resolve(schema, name);
    if (own === undefined) return undefined;
    if (alone) {
      this.only = true;
      return name;
    }
    this.lose(`${name} may be temporary or not`);
    return undefined;
  }

  resolve(schema: string | undefined, name: string): { readonly own: SessionRelation | undefined; readonly alone: boolean } {
    const found = this.#index.find(schema, name);
    return { own: found.find(isSessionRelation), alone: found.length === 1 };
  }

  result(): { readonly changes: readonly ScopeChange[]; readonly undecided: readonly string[]; readonly only: boolean } {
    const changes = [...this.#changes].map(([name, relation]): ScopeChange => ({ kind: "temporary", name, relation }));
    const lost = [...this.#lost].map((why): ScopeChange => ({ kind: "lost", why }));
    return { changes: [...changes, ...lost], undecided: [...this.#undecided], only: this.only && this.#lost.size === 0 };
  }
}

export function originsOf(relation: TemporaryRelation): readonly string[] {
  return [...new Set([...relation.origins, ...(relation.columns ?? []).flatMap((column) => column.origins)])].sort();
}

/** Storing into any column may fail for some values. */
export function takingNothing(relation: TemporaryRelation): TemporaryRelation {
  return { ...relation, takes: Object.fromEntries((relation.columns ?? []).map(({ name }) => [name, "none"])) };
}

export function fieldsIn(body: Fields, name: string): Fields {
  const value = body[name];
  return typeof value === "object" && value !== null ? (value as Fields) : {}; // unwrapped in the tree
}
