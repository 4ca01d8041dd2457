/**
 * Prepared statements and portals of one session, as the target knows them. The promise: a name never resolves to another text
 * than the target runs under it. Changes are tentative until the target confirms them; a name with an unconfirmed change from
 * before a Sync is `unsettled`, because an error may have made the target skip that change. Between two Syncs a failed change
 * makes the target skip what uses it too, so there the tentative value is safe.
 */
import type { ColumnPlan, FieldDescription, SessionNaming, StatementPlan } from "../judgement.ts";
import type { Format } from "./messages.ts";

export interface PreparedStatement {
  readonly name: string;
  readonly text: string;
  /** Errors of its Bind and Describe may hold protected values. */
  readonly scrub: boolean;
  /** From the target's own description; as declared in Parse until that has come. */
  parameterTypes: readonly number[];
  /** What names meant when it was parsed: its description speaks of those. */
  readonly names?: SessionNaming | undefined;
  /** Undefined until described; null when it returns no rows. */
  fields: readonly FieldDescription[] | null | undefined;
}

export interface Portal {
  readonly statement: PreparedStatement;
  readonly parameterFormats: readonly Format[];
  readonly parameters: readonly (Buffer | null)[];
  readonly resultFormats: readonly Format[];
  /** What names meant when it was bound: its text has been read by those, anew where they are not the statement's. */
  readonly names?: SessionNaming | undefined;
  /** Rows released so far, over all its Executes. */
  rows: number;
  /** The columns' edits, remembered for the plan they were made from. */
  columns?: { readonly plan: StatementPlan; readonly edits: ColumnPlan };
}

/** One tentative change: held by the expected answer that confirms it. */
export interface NameChange<Value> {
  readonly name: string;
  /** Null: the name goes away. */
  readonly value: Value | null;
  /** Counts Syncs; changes of one segment fail together. */
  readonly segment: number;
}

export type Resolved<Value> =
  | { readonly kind: "known"; readonly value: Value }
  | { readonly kind: "unknown" }
  | { readonly kind: "unsettled" };

export class NameTable<Value> {
  readonly #confirmed = new Map<string, Value>();
  /** The latest tentative change of each name. */
  readonly #tentative = new Map<string, NameChange<Value>>();

  resolve(name: string, segment: number): Resolved<Value> {
    const change = this.#tentative.get(name);
    if (change !== undefined && change.segment !== segment) return { kind: "unsettled" };
    const value = change === undefined ? this.#confirmed.get(name) : change.value;
    return value === undefined || value === null ? { kind: "unknown" } : { kind: "known", value };
  }

  /** No other name may be added: `max` are there or may be soon. */
  isFull(max: number): boolean {
    if (this.#confirmed.size + this.#tentative.size < max) return false;
    let names = this.#confirmed.size;
    for (const { name, value } of this.#tentative.values()) {
      if (value === null) names -= this.#confirmed.has(name) ? 1 : 0;
      else names += this.#confirmed.has(name) ? 0 : 1;
    }
    return names >= max;
  }

  has(name: string): boolean {
    return this.#confirmed.has(name) || this.#tentative.has(name);
  }

  propose(change: NameChange<Value>): void {
    this.#tentative.set(change.name, change);
  }

  confirm(change: NameChange<Value>): void {
    if (change.value === null) this.#confirmed.delete(change.name);
    else this.#confirmed.set(change.name, change.value);
    this.drop(change);
  }

  /** The target skipped or refused the change. */
  drop(change: NameChange<Value>): void {
    if (this.#tentative.get(change.name) === change) this.#tentative.delete(change.name);
  }

  /** Forgets confirmed names: what the target runs under them is no longer known. */
  forget(which: "all" | "named"): void {
    const unnamed = which === "named" ? this.#confirmed.get("") : undefined;
    this.#confirmed.clear();
    if (unnamed !== undefined) this.#confirmed.set("", unnamed);
  }
}
