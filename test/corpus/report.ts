/** The figures of a corpus run as a page for people: counts, what is not known and why, what failed, what was slow. */
import type { Tally } from "./tally.ts";

const EXAMPLES_MAX = 6;
const SLOWEST = 8;

/** Markdown; one section for the given title. */
export function reportOf(title: string, tally: Tally): string {
  const { columns } = tally;
  const ms = tally.times.map((time) => time.ms).sort((a, b) => a - b);
  const at = (part: number): string => (ms[Math.min(ms.length - 1, Math.floor(ms.length * part))] ?? 0).toFixed(3);
  return `## ${title}

${tally.statements} texts. Crashes: ${tally.crashes.length}. Analysis (parse, classify, lineage) in milliseconds: median ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)}.

| class | statements |
|---|---:|
${rows(tally.classes, (count) => String(count))}

Output columns: ${columns.exact} exactly a base column, ${columns.derived} derived from base columns, ${columns.clean} from none, ${columns.unknown} not to be known (\`*\`).

### Class unknown, and why

| effect: reason | statements | for example |
|---|---:|---|
${[...tally.unknown].map(([reason, places]) => `| ${reason} | ${places.length} | ${examples(places)} |`).join("\n")}

### Undecided, and why

| reason | statements |
|---|---:|
${rows(tally.undecided, (count) => String(count))}

### Refused before or while analysed

${tally.refused.size === 0 ? "None." : [...tally.refused].map(([code, places]) => `- \`${code}\`: ${places.length} (${examples(places)})`).join("\n")}

### Not accepted by the grammar

${tally.unparsed.length} texts, ${new Set(tally.unparsed.map(({ place }) => place.split(":")[0])).size} scripts. Most often: ${messages(tally)}.

### Slowest

${[...tally.times]
  .sort((a, b) => b.ms - a.ms)
  .slice(0, SLOWEST)
  .map(({ place, ms: took }) => `- ${place}: ${took.toFixed(1)} ms`)
  .join("\n")}
${tally.crashes.map(({ place, error }) => `\nCRASH ${place}: ${error}`).join("")}`;
}

function rows(counts: ReadonlyMap<string, number>, show: (count: number) => string): string {
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => `| ${name} | ${show(count)} |`)
    .join("\n");
}

function examples(places: readonly string[]): string {
  return places.slice(0, EXAMPLES_MAX).join(", ") + (places.length > EXAMPLES_MAX ? " …" : "");
}

function messages(tally: Tally): string {
  const kinds = new Map<string, number>();
  for (const { message } of tally.unparsed) {
    const kind = message.replace(/ at or near .*/s, "");
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return [...kinds]
    .sort((a, b) => b[1] - a[1])
    .slice(0, EXAMPLES_MAX)
    .map(([kind, count]) => `${kind} (${count})`)
    .join(", ");
}
