import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import { closedRecord, openedRecord, releasedRecord, testSessionId } from "@sluice/events/testing.ts";
import { beginChain, type ChainState, extendChain } from "./chain.ts";
import { keyIdOf, parsePublicKeys, type Signer } from "./checkpoint.ts";
import { provesTampering } from "./torn.ts";
import { verifyRecording } from "./verify.ts";
import { walkRecording } from "./walk.ts";

const CHUNK_BYTES = 4_096;
const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const signer: Signer = { keyId: keyIdOf(privateKey), privateKey };
const other = generateKeyPairSync("ed25519");

interface Made {
  readonly bytes: Buffer;
  readonly state: ChainState;
  /** Where each write ended. */
  readonly writes: readonly number[];
}

/** A recording made of these batches, each one write. */
async function make(batches: readonly (readonly SessionRecord[])[], by: Signer = signer): Promise<Made> {
  const begun = beginChain(testSessionId(1), 5, by);
  const pieces = [...begun.pieces];
  const writes: number[] = [];
  let { state } = begun;
  for (const batch of batches) {
    const extension = await extendChain(state, batch, by, CHUNK_BYTES);
    pieces.push(...extension.pieces);
    state = extension.state;
    writes.push(state.fileBytes);
  }
  return { bytes: Buffer.concat(pieces), state, writes };
}

const session: readonly (readonly SessionRecord[])[] = [
  [openedRecord(1), releasedRecord(1, 1)],
  [releasedRecord(1, 2, "x".repeat(600)), releasedRecord(1, 3)],
  [closedRecord(1, 4)],
];

async function recordsIn(bytes: Buffer): Promise<SessionRecord[]> {
  const records: SessionRecord[] = [];
  for await (const step of walkRecording([bytes])) if (step.kind === "block") records.push(...step.records);
  return records;
}

const verify = (bytes: Buffer, keys: readonly KeyObject[] = [publicKey]): ReturnType<typeof verifyRecording> =>
  verifyRecording([bytes], keys, testSessionId(1));

describe("a recording", () => {
  test("holds its records and verifies", async () => {
    const { bytes, state } = await make(session);
    expect(await recordsIn(bytes)).toEqual(session.flat());
    expect(bytes.length).toBe(state.fileBytes);
    expect(await verify(bytes)).toEqual({
      sessionId: testSessionId(1),
      ok: true,
      state: "complete",
      chunks: 4,
      records: 5,
      head: state.head.toString("hex"),
      faults: [],
    });
  });

  test("ends with one closing checkpoint, however many blocks there were before", async () => {
    for (let blocks = 1; blocks <= 40; blocks++) {
      const batches = Array.from({ length: blocks }, (_, at) => [at === 0 ? openedRecord(1) : releasedRecord(1, at)]);
      const { bytes } = await make([...batches, [closedRecord(1, blocks)]]);
      expect(await verify(bytes), `${blocks} blocks`).toMatchObject({ ok: true, records: blocks + 1, faults: [] });
    }
  });

  test("reads the same however its bytes are cut", async () => {
    const { bytes } = await make(session);
    const whole = await verify(bytes);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 8 }), async (cuts) => {
        const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const parts = places.slice(1).map((end, index) => bytes.subarray(places[index], end));
        expect(await verifyRecording(parts, [publicKey])).toEqual(whole);
      }),
      { numRuns: 30 },
    );
  });

  test("large records and many chunks get checkpoints in between", async () => {
    const records = Array.from({ length: 40 }, (_, sequence) => releasedRecord(1, sequence, String(sequence).repeat(3_000)));
    const { bytes } = await make([records, [closedRecord(1, 40)]]);
    expect(await recordsIn(bytes)).toEqual([...records, closedRecord(1, 40)]);
    const kinds: string[] = [];
    for await (const step of walkRecording([bytes])) if (step.kind === "block") kinds.push(step.head.kind);
    expect(kinds.filter((kind) => kind === "checkpoint").length).toBeGreaterThan(2);
    expect(kinds.at(-1)).toBe("checkpoint");
    expect(await verify(bytes)).toMatchObject({ ok: true, records: 41 });
  });

  test("offered twice holds everything once", async () => {
    const twice = await make([session[0]!, session[0]!, session.slice(0, 2).flat(), session[2]!, session[2]!]);
    expect(twice.bytes).toEqual((await make(session)).bytes);
  });
});

describe("verification", () => {
  test("a recording that is still written is whole so far but not ok", async () => {
    const { bytes } = await make(session.slice(0, 2));
    expect(await verify(bytes)).toMatchObject({ ok: false, state: "open", chunks: 2, records: 4, faults: [] });
  });

  test("without keys, with another key, or under another session nothing is ok", async () => {
    const { bytes } = await make(session);
    expect(await verify(bytes, [])).toMatchObject({ ok: false, state: "broken" });
    expect(await verify(bytes, [other.publicKey])).toMatchObject({ ok: false, state: "broken" });
    expect(await verifyRecording([bytes], [publicKey], testSessionId(2))).toMatchObject({ ok: false, state: "broken" });
    expect(await verify(bytes, [other.publicKey, publicKey])).toMatchObject({ ok: true });
  });

  test("a recording made again with another key does not pass", async () => {
    const { bytes } = await make(session, { keyId: keyIdOf(other.privateKey), privateKey: other.privateKey });
    expect(await verify(bytes)).toMatchObject({ ok: false, faults: [expect.stringContaining("not trusted") as string] });
    const forged = await make(session, { keyId: signer.keyId, privateKey: other.privateKey });
    expect(await verify(forged.bytes)).toMatchObject({ ok: false, faults: [expect.stringContaining("signature") as string] });
  });

  test("finds every flipped byte", async () => {
    const { bytes } = await make(session);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] = damaged[at]! ^ 0x01;
      const report = await verify(damaged);
      expect(report.ok, `byte ${at}`).toBe(false);
      expect(report.state, `byte ${at}`).toBe("broken");
    }
  });

  test("finds a missing end wherever it was cut, and anything added", async () => {
    const { bytes, writes } = await make(session);
    for (let length = 0; length < bytes.length; length++)
      expect((await verify(bytes.subarray(0, length))).ok, `cut at ${length}`).toBe(false);
    const lastBlock = bytes.subarray(writes[1]);
    expect((await verify(Buffer.concat([bytes, lastBlock]))).ok).toBe(false);
    expect((await verify(Buffer.concat([bytes, Buffer.from([0])]))).ok).toBe(false);
  });

  test("finds blocks removed, exchanged and taken from another recording", async () => {
    const { bytes, writes } = await make(session);
    const parts = [0, ...writes].slice(0, -1).map((start, index) => bytes.subarray(start, writes[index]));
    const [first, second, third] = parts as [Buffer, Buffer, Buffer]; // three writes
    expect((await verify(Buffer.concat([first, second, third]))).ok).toBe(true);
    expect((await verify(Buffer.concat([first, third]))).ok).toBe(false);
    expect((await verify(Buffer.concat([first, third, second]))).ok).toBe(false);
    expect((await verify(Buffer.concat([first, second, second, third]))).ok).toBe(false);
    const elsewhere = await make([session[0]!, [releasedRecord(1, 2, "other"), releasedRecord(1, 3)], session[2]!]);
    expect((await verify(Buffer.concat([first, second, elsewhere.bytes.subarray(elsewhere.writes[1])]))).ok).toBe(false);
  });

  test("says which records are missing", async () => {
    const { bytes } = await make([[openedRecord(1)], [releasedRecord(1, 4)], [closedRecord(1, 5)]]);
    expect(await verify(bytes)).toMatchObject({ ok: false, state: "broken", faults: ["Records 1 to 3 are missing."] });
  });

  test("never rejects for what the bytes hold", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        expect((await verifyRecording([bytes], [publicKey])).ok).toBe(false);
      }),
      { numRuns: 50 },
    );
  });

  test("reads keys from PEM and refuses what is none", () => {
    const pem = (key: KeyObject): string => createPublicKey(key).export({ type: "spki", format: "pem" }).toString();
    const keys = parsePublicKeys(`# the recorder's keys\n${pem(privateKey)}\n${pem(other.privateKey)}`);
    expect(keys.map((key) => keyIdOf(key))).toEqual([keyIdOf(publicKey), keyIdOf(other.publicKey)]);
    expect(() => parsePublicKeys("nothing")).toThrow(/does not hold Ed25519 public keys/);
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
    expect(() => parsePublicKeys(pem(rsa.privateKey))).toThrow(/does not hold Ed25519 public keys/);
  });
});

describe("a damaged end", () => {
  test("in the last write is what a crash does; before it is what somebody did", async () => {
    const { bytes, writes } = await make(session.slice(0, 2));
    const damagedAt = (at: number): Buffer => {
      const damaged = Buffer.from(bytes);
      damaged[at] = damaged[at]! ^ 0x01;
      return damaged;
    };
    expect(provesTampering(damagedAt(writes[0]! + 10).subarray(writes[0]), 1)).toBe(false);
    expect(provesTampering(damagedAt(200).subarray(88), 0)).toBe(true);
  });
});
