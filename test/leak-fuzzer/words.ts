/**
 * The words the generator's parts share: chance, names in scope, and what an expression may be made of. A generator remembers
 * nothing between two seeds: the same seed gives the same statements.
 */
import { type SeededRandom, seededRandom } from "../support/seeded-random.ts";
import type { Column } from "./schema.ts";
import { leaf, type Node, type Sort } from "./tree.ts";

export interface Source {
  readonly alias: string;
  readonly columns: readonly Column[];
  /** A row of it holds something protected. */
  readonly guarded: boolean;
}

/** A WITH query or temporary relation, by its own name. */
export interface NamedRows {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly feature: string;
}

export interface Context {
  readonly sources: readonly Source[];
  /** WITH queries and temporary relations that can be named. */
  readonly named: readonly NamedRows[];
  /** Nothing protected may be named: what is written here would tell about it. */
  readonly clean: boolean;
  /** Only what cannot be noticed when it is evaluated: the branches of a condition on protected values. */
  readonly silent: boolean;
  /** Nothing that calls for a subquery. */
  readonly depth: number;
}

/** A query with what its output columns hold. */
export interface Query {
  readonly node: Node;
  readonly columns: readonly Column[];
}

export interface Options {
  /** Nothing protected anywhere: what comes back must come back unmasked. */
  readonly plain: boolean;
  /** How often, of a hundred, what policy refuses is written on purpose. */
  readonly daring: number;
}

export class Chance {
  readonly #random: SeededRandom;
  readonly options: Options;

  constructor(seed: number, options: Options) {
    this.#random = seededRandom(seed);
    this.options = options;
  }

  below(bound: number): number {
    return this.#random.below(bound);
  }

  pick<Item>(items: readonly Item[]): Item {
    return this.#random.pick(items);
  }

  /** True in `percent` of a hundred cases. */
  percent(percent: number): boolean {
    return this.#random.below(100) < percent;
  }

  daring(): boolean {
    return this.percent(this.options.daring);
  }

  /** A choice among weighted makers. */
  weighted<Item>(choices: readonly (readonly [number, Item])[]): Item {
    let left = this.#random.below(choices.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, item] of choices) {
      left -= weight;
      if (left < 0) return item;
    }
    return choices[0]![1]; // weights are not negative, so that the loop ends before
  }
}

/** The same context in which nothing protected may be named. */
export function cleaned(context: Context): Context {
  return context.clean ? context : { ...context, clean: true };
}

export function deeper(context: Context): Context {
  return { ...context, depth: context.depth - 1 };
}

/** A reference to a column of a source. */
export function reference(source: Source, column: Column): Node {
  const { written } = column;
  const named = written.startsWith("(") ? `(${source.alias}.${written.slice(1)}` : `${source.alias}.${written}`;
  return leaf(column.sort, named, column.guarded);
}

/** Columns of a sort that may be named here. */
export function candidates(context: Context, sort: Sort): readonly (readonly [Source, Column])[] {
  return context.sources.flatMap((source) =>
    source.columns
      .filter((column) => column.sort === sort && !(context.clean && column.guarded))
      .map((column): readonly [Source, Column] => [source, column]),
  );
}

/** None is a whole protected value of any database: equality with one is what policy allows to ask. */
export const constantTexts: readonly string[] = ["'5'", "'Z'", "'q'", "''", "'-'", "'Jq'", "E'\\x5a'", "$$x$$", "U&'\\007a'"];
