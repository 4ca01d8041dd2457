import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KeptDirectory } from "./kept-directory.ts";

let directory: string;
let file: string;
const log = { warn: () => undefined };
const gateway: DirectoryNode = {
  role: "gateway",
  name: "g1",
  region: "",
  addresses: { control: "10.0.0.1:7443", sessions: "10.0.0.1:7444", callers: {} },
  labels: {},
  slot: 1,
  capability: 2,
  draining: false,
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-directory-"));
  file = join(directory, "policy", "gateways.json");
});

afterEach(() => rm(directory, { recursive: true, force: true }));

test("gateways are found again after a restart, until there is newer word", async () => {
  const first = await KeptDirectory.open(file, log);
  expect(first.directory).toEqual([]);
  const link = new FakeLink();
  first.attach(link);
  const told: (readonly DirectoryNode[])[] = [];
  const stop = first.onDirectory((nodes) => void told.push(nodes));
  link.say([
    { ...gateway, draining: true },
    { ...gateway, role: "recorder", name: "r1" },
  ]);
  expect(first.directory.map(({ name }) => name)).toEqual(["g1", "r1"]);
  expect(told).toHaveLength(1);
  stop();
  await first.close();

  const second = await KeptDirectory.open(file, log);
  expect(second.directory).toEqual([gateway]);
  const next = new FakeLink();
  second.attach(next);
  expect(second.directory).toEqual([gateway]);
  next.say([{ ...gateway, name: "g2" }]);
  expect(second.directory.map(({ name }) => name)).toEqual(["g2"]);
  await second.close();
  expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject([{ name: "g2" }]);
});

test("a damaged file counts as empty, entry by entry", async () => {
  await (await KeptDirectory.open(file, log)).close();
  for (const [text, names] of [
    ["{", []],
    ["{}", []],
    [JSON.stringify([null, { ...gateway, addresses: null }, { ...gateway, name: "g3" }, { ...gateway, role: "agent" }]), ["g3"]],
  ] as const) {
    await writeFile(file, text);
    expect((await KeptDirectory.open(file, log)).directory.map(({ name }) => name)).toEqual(names);
  }
});

class FakeLink {
  directory: readonly DirectoryNode[] = [];
  #listener: ((nodes: readonly DirectoryNode[]) => void) | undefined;

  onDirectory(listener: (nodes: readonly DirectoryNode[]) => void): () => void {
    this.#listener = listener;
    return () => undefined;
  }

  say(nodes: readonly DirectoryNode[]): void {
    this.directory = nodes;
    this.#listener?.(nodes);
  }

  statusChanged(): void {}
}
