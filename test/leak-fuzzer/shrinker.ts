/** Makes what showed a difference small: fewer statements, then less in each. Every step is tried on fresh sessions. */
import { type Difference, type Place, replay } from "./compare.ts";
import type { SentStatement } from "./sessions.ts";
import type { Statement } from "./statements.ts";
import { type Node, print, sizeOf, smaller } from "./tree.ts";

export interface Shrunk {
  readonly statements: readonly SentStatement[];
  readonly difference: Difference;
  readonly tries: number;
}

interface Part {
  readonly node: Node;
  readonly form: Statement["form"];
}

/** `found`: what the last of these statements showed. Returns at the latest when `triesMax` sessions were made. */
export async function shrink(
  place: Place,
  statements: readonly Statement[],
  found: Difference,
  triesMax: number,
): Promise<Shrunk> {
  let best: readonly Part[] = statements;
  let difference = found;
  const budget = { left: triesMax };
  const attempt = async (parts: readonly Part[]): Promise<boolean> => {
    if (budget.left <= 0 || parts.length === 0 || !leavesNothing(parts)) return false;
    budget.left -= 1;
    const seen = await replay(place, parts.map(sent)).catch(() => undefined);
    if (seen === undefined) return false;
    best = parts.slice(0, seen.at + 1);
    difference = seen;
    return true;
  };
  await attempt(best.slice(-1));
  for (let size = Math.max(1, Math.floor(best.length / 2)); best.length > 1; size = Math.floor(size / 2)) {
    for (let at = Math.max(0, best.length - 1 - size); at >= 0; at -= Math.max(size, 1)) {
      await attempt(best.filter((_, other) => other < at || other >= at + Math.max(size, 1)));
    }
    if (size <= 1) break;
  }
  let changed = true;
  while (changed && budget.left > 0) {
    changed = false;
    for (let at = 0; at < best.length && !changed; at++) {
      const part = best[at]!;
      if (part.form !== "simple" && (await attempt(best.with(at, { ...part, form: "simple" })))) changed = true;
      for (const node of [...smaller(part.node)].sort((a, b) => sizeOf(a) - sizeOf(b))) {
        if (changed || budget.left <= 0) break;
        changed = await attempt(best.with(at, { ...part, node }));
      }
    }
  }
  return { statements: best.map(sent), difference, tries: triesMax - budget.left };
}

/** Whatever is written is undone: what a try leaves behind in a database would be found by all that follow. */
function leavesNothing(parts: readonly Part[]): boolean {
  let open = false;
  for (const { node } of parts) {
    const text = print(node);
    if (/^(BEGIN|ROLLBACK$|COMMIT$)/.test(text)) open = text.startsWith("BEGIN");
    else if (!open && WRITES.test(text) && !/^(CREATE|SELECT).* TEMP /.test(text)) return false;
  }
  return true;
}

const WRITES = /\b(INSERT|UPDATE|DELETE|MERGE|CREATE)\b/;

function sent({ node, form }: Part): SentStatement {
  return { sql: print(node), form };
}
