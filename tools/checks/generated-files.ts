/**
 * Files that are generated and committed are what their generator prints today. A generator is a script that
 * prints its product to standard output; the table below names both. A generator that is gone is a fault too.
 */
import { access, readFile } from "node:fs/promises";
import path from "node:path";
import { type CheckResult, fail, pass } from "../check-result.ts";
import { runProgram } from "../run-program.ts";

export interface Generated {
  readonly script: string;
  readonly product: string;
}

/** One line a generated file. */
const GENERATED: readonly Generated[] = [
  { script: "manifest/print-schema.ts", product: "docs/reference/manifest.schema.json" },
  { script: "tools/print-configuration.ts", product: "docs/reference/configuration.md" },
  { script: "tools/print-statements.ts", product: "docs/reference/statements.md" },
  { script: "tools/print-metrics.ts", product: "docs/reference/metrics.md" },
];

const TIMEOUT_MS = 60_000;

export async function checkGeneratedFiles(root: string): Promise<CheckResult> {
  const faults: string[] = [];
  for (const { script, product } of GENERATED) {
    const exists = await access(path.join(root, script)).then(
      () => true,
      () => false,
    );
    if (!exists) {
      faults.push(`${script}: the generator of ${product} is missing`);
      continue;
    }
    const printed = await runProgram(process.execPath, [script], { cwd: root, timeoutMs: TIMEOUT_MS });
    const committed = await readFile(path.join(root, product), "utf8").catch(() => "");
    if (printed.status !== 0) faults.push(`${script} failed: ${printed.output.trimEnd()}`);
    else if (normalise(product, printed.output) !== normalise(product, committed)) {
      faults.push(`${product} is not what ${script} prints today; write it anew (the script's first comment says how)`);
    }
  }
  return faults.length === 0 ? pass(`${GENERATED.length} generated files`) : fail(...faults);
}

/** JSON is compared as a value, since the formatter lays it out; everything else as text. */
function normalise(product: string, text: string): string {
  if (!product.endsWith(".json")) return text;
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return `not JSON: ${text}`;
  }
}
