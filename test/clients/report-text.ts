/** The text of docs/compatibility.md, from kept results. Pure: the same results give the same text. */
import { columnsOfFeatures } from "./expected.ts";

export type ClientResult =
  | { readonly name: string; readonly from: string; readonly reason: string }
  | {
      readonly name: string;
      readonly from: string;
      readonly target: number;
      readonly role: string;
      readonly version: string;
      /** By feature: `ok`, `known: …` for a gap, else what was seen. */
      readonly features: Readonly<Record<string, string>>;
    };

export interface ForeignRun {
  readonly title: string;
  readonly command: string;
  readonly scripts: readonly { readonly script: string; readonly outcome: string; readonly reasons: readonly string[] }[];
  /** Scripts of the suite that this run did not reach. */
  readonly total: number;
}

export interface Explained {
  readonly name: string;
  readonly scripts: readonly string[];
  readonly why: string;
}

type Ran = Exclude<ClientResult, { readonly reason: string }>;

export function compatibilityText(
  clients: readonly ClientResult[],
  foreign: readonly ForeignRun[],
  explained: readonly Explained[],
  neverRun: Readonly<Record<string, string>>,
): string {
  const ran = clients.filter((each): each is Ran => "features" in each);
  const names = [...new Set(ran.map(({ name }) => name))];
  const libraries = names.filter((name) => ran.some((each) => each.name === name && "verify" in each.features));
  const tools = names.filter((name) => !libraries.includes(name));
  const targets = [...new Set(ran.map(({ target }) => target))].sort((a, b) => a - b);
  const columns = Object.keys(columnsOfFeatures);
  return `# Compatibility

Produced by \`node test/clients/report.ts\` from what \`npm run test:clients\` and \`node test/foreign/regression.ts\` kept. Do not edit.

## Client libraries

Each row was run through \`sluice up\` against PostgreSQL ${targets.join(" and ")}, as a caller who may do everything and as one who sees masks.
\`yes\`: as expected in all of these runs, and nothing protected was ever printed for the masked caller. \`-\`: the program does not try it
(the driver has no such thing, or it is the same code as another's). Command: \`npm run test:clients\`.

| client | version | from | ${columns.join(" | ")} |
|---|---|---|${columns.map(() => "---|").join("")}
${libraries.map((name) => row(name, ran)).join("\n")}

A masked caller hears notifications without their payload, since nobody can say where it comes from.

## Tools

| tool | version | what was done | as expected |
|---|---|---|---|
${tools.map((name) => toolRow(name, ran)).join("\n")}

\`pg_dump\` is refused for callers who see masks. For others its output is compared with a direct dump.

## What is not as expected

${gaps(ran)}

## What could not be run

${[
  ...clients.flatMap((each) => ("reason" in each ? [`- ${each.name}: ${each.reason}.`] : [])),
  ...Object.entries(neverRun).map(([name, reason]) => `- ${name}: ${reason}.`),
].join("\n")}

## PostgreSQL's regression suite

Each script is run with psql directly and, on an identical fresh cluster, through a gateway whose policy allows everything. Outputs are
compared byte for byte.

${foreign.map(foreignText).join("\n\n")}

### The closed list of differences

A difference that is not of these kinds, in these scripts, fails the command.

${explained.map(({ name, scripts, why }) => `- **${name}** (${scripts.join(", ")}): ${why}`).join("\n")}
`;
}

function row(name: string, ran: readonly Ran[]): string {
  const own = ran.filter((each) => each.name === name);
  const cells = Object.values(columnsOfFeatures).map((features) => {
    const seen = own.flatMap((each) => features.flatMap((feature) => each.features[feature] ?? []));
    if (seen.length === 0) return "-";
    return seen.every((each) => each === "ok") ? "yes" : "no";
  });
  return `| ${name} | ${own[0]?.version ?? ""} | ${own[0]?.from ?? ""} | ${cells.join(" | ")} |`;
}

function toolRow(name: string, ran: readonly Ran[]): string {
  const own = ran.filter((each) => each.name === name);
  const seen = own.flatMap(({ features }) => Object.values(features));
  const what = [...new Set(own.flatMap(({ features }) => Object.keys(features)))].join(", ");
  return `| ${name} | ${own[0]?.version ?? ""} | ${what} | ${seen.filter((each) => each === "ok").length} of ${seen.length} |`;
}

function gaps(ran: readonly Ran[]): string {
  const found = new Map<string, string[]>();
  for (const { name, target, role, features } of ran)
    for (const [feature, seen] of Object.entries(features)) {
      if (seen === "ok") continue;
      const what = seen.replace(/^known: /, "").replaceAll("\n", " ");
      found.set(what, [...(found.get(what) ?? []), `${name}, ${feature}, PostgreSQL ${target}, ${role}`]);
    }
  if (found.size === 0) return "Nothing.";
  return [...found].map(([what, where]) => `- ${what} (${where.join("; ")})`).join("\n");
}

function foreignText({ title, command, scripts, total }: ForeignRun): string {
  const count = (outcome: string): number => scripts.filter((each) => each.outcome === outcome).length;
  const others = scripts.filter(({ outcome }) => outcome !== "identical" && outcome !== "explained").map(({ script }) => script);
  const missed = total - scripts.length;
  return [
    `${title}: ${scripts.length} scripts, ${count("identical")} identical, ${count("explained")} with differences of the list below, ${others.length} others${others.length > 0 ? ` (${others.join(", ")})` : ""}.`,
    ...(missed > 0 ? [`${missed} of the suite's ${total} scripts are not in this run.`] : []),
    `Command: \`${command}\`.`,
  ].join(" ");
}
