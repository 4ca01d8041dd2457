/**
 * Proves a recording whole and untouched, from its bytes and trusted public keys alone. Pure. Never says `ok` for a recording that is not
 * closed and signed by a trusted key: a closed recording that lost its end looks exactly like one that is still being written.
 */
import type { KeyObject } from "node:crypto";
import type { SessionId } from "@sluice/core/ids.ts";
import type { VerifyReport } from "@sluice/rpc/recordings.ts";
import { checkCheckpoint, claimsLost, keyIdOf } from "./checkpoint.ts";
import { type ByteSource, type WalkPlace, walkRecording } from "./walk.ts";

/** More faults than this say no more. */
const FAULTS_MAX = 20;

/**
 * Reads the whole recording. `expected`: the session it must be about, when the caller knows (a recording under another's name is broken).
 * The report's `chunks` counts all blocks, checkpoints too; `head` is the hash of the last whole one. Never rejects for what the bytes hold.
 */
export async function verifyRecording(
  source: ByteSource,
  trustedPublicKeys: readonly KeyObject[],
  expected?: SessionId,
): Promise<VerifyReport> {
  const trusted = new Map(trustedPublicKeys.map((key) => [keyIdOf(key).toString("hex"), key]));
  const faults: string[] = [];
  let place: WalkPlace | null = null;
  let records = 0;
  let signedClosed = false;
  let signedLost = false;
  for await (const step of walkRecording(source)) {
    if (step.kind === "broken") {
      faults.push(step.reason);
      break;
    }
    place = step.after;
    if (step.kind === "header") {
      if (expected !== undefined && step.header.sessionId !== expected)
        faults.push(`The file is the recording of another session, ${step.header.sessionId}.`);
      continue;
    }
    records += step.records.length;
    faults.push(...step.faults);
    if (signedClosed || signedLost) faults.push(`Chunk ${step.head.index} follows the closing checkpoint.`);
    if (step.head.kind === "checkpoint") {
      const { sessionId, nextSequence, head, closed } = step.before;
      signedLost = !closed && claimsLost(step.payload);
      const state = closed ? "closed" : signedLost ? "lost" : "open";
      const claim = { sessionId, index: step.head.index, nextSequence, head, state } as const;
      const fault = checkCheckpoint(step.payload, claim, trusted);
      if (fault !== null) faults.push(`Chunk ${step.head.index} ${fault}.`);
      signedClosed = closed;
    }
    if (faults.length >= FAULTS_MAX) break;
  }
  if (place?.closed === true && !signedClosed && faults.length === 0)
    faults.push("The session ended, but the closing checkpoint is missing.");
  if (trusted.size === 0 && !faults.some((fault) => fault.includes("no trusted public key")))
    faults.push("No trusted public key was given: nothing shows that the recorder wrote this.");
  const state = faults.length > 0 ? "broken" : signedClosed ? "complete" : signedLost ? "lost" : "open";
  return {
    sessionId: place?.sessionId ?? expected ?? ("" as SessionId), // a file without a readable header belongs to no session
    ok: state === "complete",
    state,
    chunks: place?.blocks ?? 0,
    records,
    head: place?.head.toString("hex") ?? "",
    faults: faults.slice(0, FAULTS_MAX),
  };
}
