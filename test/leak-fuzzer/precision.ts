/**
 * How much of what nobody protects is withheld: statements that name nothing protected, as a caller with masks and as one without.
 * The generator knows what it wrote; the second caller shows what there was to see.
 */
import type { RawClient } from "../support/raw-client.ts";
import { rowCells, type WireMessage } from "../support/wire-messages.ts";
import { CLEAR_DATABASE, type FuzzGateway, type FuzzTarget } from "./installation.ts";
import { exchange, outcomeOf } from "./sessions.ts";
import type { Statement } from "./statements.ts";
import { Steps, textOf } from "./steps.ts";
import { Chance } from "./words.ts";

/** Share of unprotected cells that may be withheld. */
const CEILING = 0.05;
/** Cells that one statement counts at most, so that no long result outweighs others. */
const STATEMENT_CELLS_MAX = 100;
const SESSION_STATEMENTS = 200;

export interface PrecisionOptions {
  readonly fuzz: FuzzTarget;
  readonly gateway: FuzzGateway;
  readonly seed: number;
  readonly statements: number;
}

export interface Precision {
  readonly share: number;
  readonly ceiling: number;
  readonly cells: number;
  readonly lines: readonly string[];
}

export async function measurePrecision({ gateway, seed, statements }: PrecisionOptions): Promise<Precision> {
  const tally = { cells: 0, masked: 0, refused: 0, statements: 0 };
  const causes = new Map<string, { count: number; example: string }>();
  for (let session = 0; tally.statements < statements; session++) {
    const steps = new Steps(new Chance(seed * 7919 + session, { plain: true, daring: 0 }));
    const masked = await gateway.connect("redacted", "redacted_twin");
    const clear = await gateway.connect("clear", CLEAR_DATABASE);
    try {
      for (let sent = 0; sent < SESSION_STATEMENTS && tally.statements < statements; ) {
        const batch: Statement[] = [];
        while (batch.length < 20) batch.push(...steps.next());
        sent += batch.length;
        const [withMasks, without] = await both(masked, clear, batch);
        for (const [at, statement] of batch.entries()) {
          const [got, there] = [withMasks[at], without[at]];
          if (!statement.work || got === undefined || there === undefined) continue;
          const cause = weigh(got, there, tally);
          if (cause === undefined) continue;
          const known = causes.get(cause);
          if (known === undefined) causes.set(cause, { count: 1, example: textOf(statement) });
          else known.count += 1;
        }
      }
    } finally {
      await Promise.all([masked.end(), clear.end()]);
    }
  }
  const share = tally.cells === 0 ? 1 : (tally.masked + tally.refused) / tally.cells;
  const lines = [
    `precision: ${(100 * share).toFixed(2)} % of ${tally.cells} unprotected cells withheld (${tally.masked} masked, ${tally.refused} in refused statements; ceiling ${100 * CEILING} %), ${tally.statements} statements`,
    ...[...causes]
      .sort(([, a], [, b]) => b.count - a.count)
      .slice(0, 10)
      .map(([cause, { count, example }]) => `${String(count).padStart(6)}  ${cause}: ${example.slice(0, 300)}`),
  ];
  return { share, ceiling: CEILING, cells: tally.cells, lines };
}

async function both(
  masked: RawClient,
  clear: RawClient,
  batch: readonly Statement[],
): Promise<readonly [readonly (readonly WireMessage[])[], readonly (readonly WireMessage[])[]]> {
  const texts = batch.map((statement) => ({ sql: textOf(statement), form: statement.form }));
  return await Promise.all([exchange(masked, texts), exchange(clear, texts)]);
}

/** Adds up cells; returns what withheld some of them. */
function weigh(
  got: readonly WireMessage[],
  there: readonly WireMessage[],
  tally: { cells: number; masked: number; refused: number; statements: number },
): string | undefined {
  const wanted = cellsOf(there);
  if (wanted.length === 0) return undefined;
  const seen = cellsOf(got);
  const scale = Math.min(1, STATEMENT_CELLS_MAX / wanted.length);
  tally.statements += 1;
  tally.cells += Math.round(wanted.length * scale);
  const { refusal } = outcomeOf(got);
  if (refusal !== null) {
    tally.refused += Math.round(wanted.length * scale);
    return refusal;
  }
  const lost = wanted.filter((cell, at) => cell !== seen[at]).length;
  tally.masked += Math.round(lost * scale);
  return lost === 0 ? undefined : "masked";
}

/** Cells of rows; a line of COPY counts as one. */
function cellsOf(messages: readonly WireMessage[]): readonly (string | null)[] {
  return messages.flatMap(({ type, body }) => {
    if (type === "D") return rowCells(body).map((cell) => cell?.toString("latin1") ?? null);
    return type === "d" ? [body.toString("latin1")] : [];
  });
}
