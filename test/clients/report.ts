/** `node test/clients/report.ts`: writes docs/compatibility.md from the kept results of the clients and of the foreign suites. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { explanations } from "../foreign/differences.ts";
import { repository } from "../support/sluice.ts";
import { neverRun } from "./catalogue.ts";
import { type ClientResult, compatibilityText, type ForeignRun } from "./report-text.ts";

const clients = await read<readonly ClientResult[]>("test/clients/results/clients.json");
const folder = "test/foreign/results";
const foreign: ForeignRun[] = [];
for (const name of (await readdir(join(repository, folder))).filter((each) => each.endsWith(".json")).sort()) {
  const [, version = "", schedule = ""] = /^regression-(\d+)-(\w+)\.json$/.exec(name) ?? [];
  const kept = await read<Pick<ForeignRun, "scripts" | "total">>(join(folder, name));
  const command = `node test/foreign/regression.ts --version ${version} --schedule ${schedule}`;
  foreign.push({ title: `PostgreSQL ${version}, ${schedule}`, command, ...kept });
}
await writeFile(join(repository, "docs/compatibility.md"), compatibilityText(clients, foreign, explanations, neverRun));

/** What the commands beside this one wrote, in the shape that they write. */
async function read<Kept>(path: string): Promise<Kept> {
  return JSON.parse(await readFile(join(repository, path), "utf8")) as Kept;
}
