/**
 * The closed list of differences between a direct connection and one through a gateway that allows everything. A difference that
 * nothing here explains fails the suite; an explanation names the scripts it may be used in.
 */
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";

export interface Hunk {
  readonly direct: string;
  readonly gateway: string;
  /** As `diff` prints it. */
  readonly text: string;
}

export interface Explanation {
  readonly name: string;
  readonly scripts: readonly string[];
  /** What the differing lines must look like on each side. */
  readonly direct: RegExp;
  readonly gateway: RegExp;
  /** For people. */
  readonly why: string;
}

/** What else may differ beside the gateway's own lines: PostgreSQL's detail or hint, and the place that it points to. */
const POINTED = /^(?:(?:(?:HINT|DETAIL): {2}.*|LINE \d+: .*|\s*\^)\n?)*$/;

export const explanations: readonly Explanation[] = [
  {
    name: "syntax error said by the gateway",
    scripts: [
      "aggregates",
      "collate",
      "collate.icu.utf8",
      "constraints",
      "copyselect",
      "create_am",
      "create_index",
      "create_operator",
      "create_table",
      "errors",
      "foreign_key",
      "generated",
      "merge",
      "namespace",
      "numerology",
      "psql",
      "publication",
      "rowsecurity",
      "stats_ext",
      "strings",
      "subscription",
      "tablesample",
      "triggers",
      "vacuum",
    ],
    direct: POINTED,
    gateway:
      /^(?:(?:LINE \d+: .*|\s*\^)\n)*DETAIL: {2}\{"code":"denied","decision":"d_[\w-]+","rule":"builtin\/unparsed"\}\nHINT: {2}The gateway could not parse this statement, so it was not sent to the database\.(?:\n(?:LINE \d+: .*|\s*\^))*$/,
    why: "What PostgreSQL's grammar does not accept is refused by the gateway with the grammar's own message, place and SQLSTATE 42601; DETAIL and HINT are the gateway's. PostgreSQL's own DETAIL or HINT is lost, and a place that the server does not point to may be pointed to.",
  },
  {
    name: "words of the newest grammar",
    scripts: ["foreign_key"],
    direct: /^ERROR: {2}FOREIGN KEY constraints cannot be marked NOT VALID/,
    gateway: /^ERROR: {2}constraints cannot be altered to be NOT VALID[^]*"rule":"builtin\/unparsed"/,
    why: "The gateway reads statements of every version with the grammar of PostgreSQL 18, whose message for this fault has other words than that of 15.",
  },
  {
    name: "settings that decide how statements are read stay as they are",
    scripts: ["strings"],
    direct:
      /^$|^ off$|nonstandard use of \\\\|^ +f1 +\||unsafe use of string constant with Unicode escapes|String constants with Unicode escapes cannot be used/,
    gateway:
      /^ on$|^invalid command \\$|"rule":"builtin\/session-setting"|^ERROR: {2}invalid Unicode escape|"rule":"builtin\/unparsed"|^ (?:data|dat\\\+000061|tricky) *\n/,
    why: "standard_conforming_strings cannot be switched off through a gateway, which would then read other texts than the server; the statements after it are read with it on.",
  },
];

/** The explanation of a difference in a script, if it has one. */
export function explain(script: string, hunk: Hunk): Explanation | undefined {
  return explanations.find(
    ({ scripts, direct, gateway }) => scripts.includes(script) && direct.test(hunk.direct) && gateway.test(hunk.gateway),
  );
}

/** Differences of two files, with `same` words (one a side) taken for equal. */
export async function hunksOf(direct: string, gateway: string, same: readonly [string, string]): Promise<readonly Hunk[]> {
  const [first, second] = [await readFile(direct, "latin1"), await readFile(gateway, "latin1")];
  const alike = second.replaceAll(same[1], same[0]);
  if (first === alike) return [];
  await writeFile(`${gateway}.alike`, alike, "latin1");
  const printed = await new Promise<string>((resolve, reject) => {
    const options = { maxBuffer: 256 * 1024 * 1024, encoding: "latin1" } as const;
    execFile("diff", ["-a", "-U0", direct, `${gateway}.alike`], options, (error, stdout) => {
      if (error !== null && error.code !== 1)
        reject(error); // 1: they differ
      else resolve(stdout);
    });
  });
  return printed
    .split(/^@@ /m)
    .slice(1)
    .map((text) => {
      const lines = text.split("\n").slice(1);
      const side = (sign: string): string =>
        lines
          .filter((line) => line.startsWith(sign))
          .map((line) => line.slice(1))
          .join("\n");
      return { direct: side("-"), gateway: side("+"), text: `@@ ${text.trimEnd()}` };
    });
}
