/** The check of the contracts finds what it is there for, and finds nothing in the contracts as they are. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { checkContracts, findBreakingChanges, findGeneratedFaults, findLintFaults } from "./proto.ts";

const contracts = fileURLToPath(new URL("../proto", import.meta.url));
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "sluice-contracts-"));
  await cp(contracts, directory, { recursive: true, filter: (source) => !source.includes("node_modules") });
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function change(file: string, from: string, to: string): Promise<void> {
  const target = path.join(directory, file);
  const text = await readFile(target, "utf8");
  expect(text).toContain(from);
  await writeFile(target, text.replace(from, to));
}

it("finds nothing wrong", async () => {
  expect(await checkContracts(directory)).toEqual({ passed: 1, failed: 0, lines: [] });
});

it("finds a field that changed its type, and one that is gone", async () => {
  await change("sluice/link/v1/link.proto", "string database = 5;", "bytes database = 5;");
  await change("sluice/peer/v1/peer.proto", "bytes secret = 2;", "");
  const faults = (await findBreakingChanges(directory)).join("\n");
  expect(faults).toContain("this breaks nodes of the last version");
  expect(faults).toContain('"database"');
  expect(faults).toContain('"secret"');
});

it("takes a field that is new", async () => {
  await change("sluice/peer/v1/peer.proto", "bytes secret = 2;", "bytes secret = 2;\n  string added = 3;");
  expect(await findBreakingChanges(directory)).toEqual([]);
});

it("finds generated code that is not today's", async () => {
  await change("src/gen/sluice/peer/v1/peer_pb.ts", "processId", "processIdentity");
  expect(await findGeneratedFaults(directory)).toEqual([
    "src/gen/sluice/peer/v1/peer_pb.ts is not what is generated today; run: node tools/proto.ts generate",
  ]);
});

it("finds what the lint rules forbid", async () => {
  await change("sluice/peer/v1/peer.proto", "uint32 process_id = 1;", "uint32 process_id = 1;\n  uint32 badName = 9;");
  expect((await findLintFaults(directory)).join()).toContain("badName");
});
