/** `recordings verify` on real recordings: whole ones, changed ones, open ones, with the right keys, others, and none. */
import { generateKeyPairSync } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import { closedRecord, openedRecord, releasedRecord, testSessionId } from "@sluice/events/testing.ts";
import { beginChain, extendChain } from "@sluice/recorder/format/chain.ts";
import { keyIdOf, type Signer } from "@sluice/recorder/format/checkpoint.ts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runCli } from "../program.ts";
import { createTestContext } from "../testing-context.ts";

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const signer: Signer = { keyId: keyIdOf(privateKey), privateKey };
let directory = "";

async function recording(session: number, records: readonly SessionRecord[]): Promise<Buffer> {
  const begun = beginChain(testSessionId(session), 5, signer);
  const extension = await extendChain(begun.state, records, signer, 4_096);
  return Buffer.concat([...begun.pieces, ...extension.pieces]);
}

async function run(...args: readonly string[]): Promise<{ status: number; out: string; err: string }> {
  const context = createTestContext({ workingDirectory: directory });
  const status = await runCli(["recordings", "verify", ...args], context);
  return { status, ...context.written };
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-recordings-"));
  const whole = await recording(1, [openedRecord(1), releasedRecord(1, 1), closedRecord(1, 2)]);
  const changed = Buffer.from(whole);
  changed.writeUInt8(changed.readUInt8(200) ^ 1, 200);
  await mkdir(join(directory, "store", "aa"), { recursive: true });
  await mkdir(join(directory, "changed"));
  await mkdir(join(directory, "empty"));
  await writeFile(join(directory, "store", "aa", `${testSessionId(1)}.slr`), whole);
  await writeFile(join(directory, "changed", `${testSessionId(1)}.slr`), changed);
  await writeFile(join(directory, `${testSessionId(2)}.slr`), whole);
  await writeFile(join(directory, "open.slr"), await recording(3, [openedRecord(3), releasedRecord(3, 1)]));
  await writeFile(join(directory, "keys.pem"), publicKey.export({ type: "spki", format: "pem" }));
  const other = generateKeyPairSync("ed25519").publicKey;
  await writeFile(join(directory, "other.pem"), other.export({ type: "spki", format: "pem" }));
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

it("says that a whole recording is whole, by file and by directory", async () => {
  const file = `store/aa/${testSessionId(1)}.slr`;
  expect(await run(file, "--keys", "keys.pem")).toMatchObject({
    status: 0,
    err: "",
    out: expect.stringContaining("whole and untouched"),
  });
  const json = await run("store", "--keys", "keys.pem", "--json");
  expect([json.status, json.err]).toEqual([0, ""]);
  expect(JSON.parse(json.out)).toMatchObject({ file, sessionId: testSessionId(1), ok: true, state: "complete", faults: [] });
});

it.each([
  ["a changed one", "changed", "keys.pem", "BROKEN", "fault: Chunk"],
  ["another key", "store", "other.pem", "BROKEN", "key that is not trusted"],
  ["no key", "store", undefined, "BROKEN", "no trusted public key"],
  ["another's name", `${testSessionId(2)}.slr`, "keys.pem", "BROKEN", "another session"],
  ["an open one", "open.slr", "keys.pem", "OPEN", ""],
])("refuses %s", async (_, path, keys, verdict, fault) => {
  const found = await run(path, ...(keys === undefined ? [] : ["--keys", keys]));
  expect(found).toMatchObject({ status: 1, out: expect.stringContaining(verdict), err: expect.stringContaining(fault) });
});

it.each([
  ["nowhere", "keys.pem", "nowhere does not exist"],
  ["empty", "keys.pem", "holds no recording"],
  ["store", "nowhere.pem", "The key file nowhere.pem does not exist"],
  ["store", "open.slr", "does not hold Ed25519 public keys"],
])("says what is missing: %s with %s", async (path, keys, text) => {
  expect(await run(path, "--keys", keys)).toMatchObject({ status: 1, out: "", err: expect.stringContaining(text) });
});
