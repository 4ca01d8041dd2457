/** Runs every case of the corpus again. */
import { type Place, replay } from "./compare.ts";
import { readCorpus } from "./corpus.ts";
import { databasesOf, type FuzzGateway, type FuzzTarget } from "./installation.ts";
import { fromDifference } from "./normalise.ts";

/** A sentence for each case that shows a difference. */
export async function replayCorpus(fuzz: FuzzTarget, gateway: FuzzGateway): Promise<readonly string[]> {
  const faults: string[] = [];
  for (const { about, kind, statements } of readCorpus()) {
    const place: Place = { gateway, kind, databases: databasesOf(kind, 0), lastOid: fuzz.lastOid };
    const difference = await replay(place, statements);
    if (difference === undefined) continue;
    const sides = fromDifference(difference.left, difference.right);
    faults.push(`${about}: ${statements[difference.at]?.sql}\n    ${sides.join("\n    ")}`);
  }
  return faults;
}
