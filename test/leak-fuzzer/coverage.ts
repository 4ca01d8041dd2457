/** What a campaign's statements were about and how many were answered: were most of them refused, equal bytes would say little. */
import type { Outcome } from "./sessions.ts";
import type { Statement } from "./statements.ts";
import { stepFeatures, textOf } from "./steps.ts";

interface Counts {
  written: number;
  permitted: number;
  rows: number;
}

/** Written to be refused, whoever asks. */
const refusedByDesign: ReadonlySet<string> = new Set([
  "function nobody knows",
  "xml export",
  "NATURAL JOIN",
  "DISTINCT",
  "FOR UPDATE",
  "names claimed by protocol",
]);

const RETURNS_ROWS = /^\(?(SELECT(?! i\.\* INTO)|WITH|COPY|FETCH|EXECUTE|EXPLAIN|SHOW)\b|RETURNING/;

export class Coverage {
  readonly features: Map<string, Counts> = new Map();
  /** Refusals by their sentence, with one example each. */
  readonly refusals: Map<string, { count: number; example: string }> = new Map();
  /** The same for the target's own errors. */
  readonly failures: Map<string, { count: number; example: string }> = new Map();
  work = 0;
  /** Of these, statements that return rows when they are permitted: no definitions, no plain INSERT. */
  returning = 0;
  withRows = 0;
  refused = 0;
  failed = 0;
  /** Sessions given up because one side could not be judged at that moment. */
  cutShort = 0;
  /** Sessions that the gateway ended. */
  ended = 0;

  add(statement: Statement, outcome: Outcome): void {
    if (!statement.work) return;
    this.work += 1;
    if (RETURNS_ROWS.test(textOf(statement))) {
      this.returning += 1;
      if (outcome.rows > 0) this.withRows += 1;
    }
    if (outcome.refusal !== null) {
      this.refused += 1;
      const known = this.refusals.get(outcome.refusal);
      if (known === undefined) this.refusals.set(outcome.refusal, { count: 1, example: textOf(statement) });
      else known.count += 1;
    } else if (outcome.failure !== null) {
      this.failed += 1;
      const known = this.failures.get(outcome.failure);
      if (known === undefined) this.failures.set(outcome.failure, { count: 1, example: textOf(statement) });
      else known.count += 1;
    }
    for (const feature of stepFeatures(statement)) {
      const counts = this.features.get(feature) ?? { written: 0, permitted: 0, rows: 0 };
      counts.written += 1;
      if (outcome.refusal === null && outcome.failure === null) counts.permitted += 1;
      if (outcome.rows > 0) counts.rows += 1;
      this.features.set(feature, counts);
    }
  }

  /** Of the statements that can return rows, those that were permitted and did. 0 to 1. */
  get answered(): number {
    return this.returning === 0 ? 0 : this.withRows / this.returning;
  }

  /** Features that were written often and never permitted. */
  get faults(): readonly string[] {
    return [...this.features]
      .filter(([feature, { written, permitted }]) => written >= 20 && permitted === 0 && !refusedByDesign.has(feature))
      .map(([feature]) => feature);
  }

  /** The table, and what was refused most. */
  lines(): readonly string[] {
    const rows = [...this.features]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(
        ([feature, { written, permitted, rows: withRows }]) =>
          `${feature.padEnd(44)}${String(written).padStart(8)}${String(permitted).padStart(10)}${String(withRows).padStart(10)}`,
      );
    return [
      `${"feature".padEnd(44)}${"written".padStart(8)}${"permitted".padStart(10)}${"with rows".padStart(10)}`,
      ...rows,
      "most refused:",
      ...most(this.refusals),
      "most failed:",
      ...most(this.failures),
    ];
  }
}

function most(reasons: ReadonlyMap<string, { readonly count: number }>): readonly string[] {
  return [...reasons]
    .sort(([, a], [, b]) => b.count - a.count)
    .slice(0, 12)
    .map(([text, { count }]) => `${String(count).padStart(8)}  ${text}`);
}
