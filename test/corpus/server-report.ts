/** The figures of a corpus run on a server, as a section for people: what was compared, what was not, every fault. */
import type { PlacedFault, ServerTally } from "./server-run.ts";

const EXAMPLES_MAX = 5;
const REASONS_MAX = 12;

/** Markdown; one section for the given title. */
export function serverReportOf(title: string, tally: ServerTally): string {
  const { columns, names, unparsed } = tally;
  return `## ${title}

${tally.texts} texts sent, ${tally.failed} of them refused by the server (the scripts mean most of that), ${tally.copied} with data for COPY. The
catalog was read ${tally.catalogReads} times. Crashes: ${tally.crashes.length}.

| | |
|---|---:|
| results compared with their models | ${tally.results} |
| … of them views, against what the server says of their definitions | ${tally.views} |
| output columns in them | ${columns.all} |
| the wire names a base column | ${columns.named} |
| … and lineage says exactly that one | ${columns.exact} |
| … it is among the origins | ${columns.among} |
| … lineage says \`*\` | ${columns.unknown} (${share(columns.unknown, columns.named)}) |
| of a view, a temporary or a system relation: nothing to compare | ${columns.otherRelation} |
| the wire names nothing, lineage says \`*\` | ${columns.unnamedUnknown} |
| results whose number of columns lineage does not know | ${columns.countUnknown} (${share(columns.countUnknown, tally.results)}) |
| results that no rows were expected of (a rule returns them): every column counts as \`*\` | ${columns.unexpected} |
| times that path, role and temporary relations were compared | ${names.compared} |
| … after code that lineage does not know | ${names.afterUnknownCode} |
| … the path was not known | ${names.pathUnknown} |
| sessions that such code really made lost | ${names.lost} |

### Faults

${tally.faults.length === 0 ? "None." : tally.faults.map(shown).join("\n")}

### \`*\`, though the wire names a base column

${table("why", "columns", byCount(tally.unknownBecause))}

### Not accepted by the grammar

${unparsed.refused} texts are syntax errors to the server too. ${unparsed.accepted.length} are not:

${unparsed.accepted.length === 0 ? "None." : unparsed.accepted.map(shown).join("\n")}

### Left out

${table(
  "what",
  "texts",
  [...tally.leftOut].map(([name, count]) => [name, count, ""] as const),
)}

### Results that were not compared

${table(
  "why",
  "results",
  [...tally.notCompared].map(([name, count]) => [name, count, ""] as const),
)}

### Scripts that did not come to their end

${endings(tally)}
${tally.crashes.map(({ place, error }) => `\nCRASH ${place}: ${error}`).join("")}`;
}

function shown({ kind, place, what, text }: PlacedFault): string {
  return `- ${kind}, ${place}: ${what}: \`${text.replaceAll(/\s+/g, " ")}\``;
}

/** One line for each reason. */
function endings({ ended }: ServerTally): string {
  const groups = new Map<string, string[]>();
  for (const { script, why } of ended) groups.set(why, [...(groups.get(why) ?? []), script]);
  return groups.size === 0 ? "None." : [...groups].map(([why, scripts]) => `- ${why}: ${scripts.join(", ")}`).join("\n");
}

function share(part: number, whole: number): string {
  return `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`;
}

function byCount(lists: ReadonlyMap<string, readonly string[]>): readonly (readonly [string, number, string])[] {
  return [...lists]
    .map(([name, places]) => [name, places.length, [...new Set(places)].slice(0, EXAMPLES_MAX).join(", ")] as const)
    .sort((a, b) => b[1] - a[1])
    .slice(0, REASONS_MAX);
}

function table(what: string, unit: string, rows: readonly (readonly [string, number, string])[]): string {
  if (rows.length === 0) return "None.";
  const lines = [...rows].sort((a, b) => b[1] - a[1]).map(([name, count, places]) => `| ${name} | ${count} | ${places} |`);
  return [`| ${what} | ${unit} | for example |`, "|---|---:|---|", ...lines].join("\n");
}
