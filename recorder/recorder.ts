/**
 * The recorder: takes session records from the bus and keeps one recording a session. Never says that it has a record before it is on disk
 * behind everything that came before it, and never writes a record twice. Format: docs/reference/recording-format.md.
 */
import type { KeyObject } from "node:crypto";
import type { Clock } from "@sluice/core/clock.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { BatchDetails, RecordConsumer, RecordSource } from "@sluice/events/bus.ts";
import { lockDirectory } from "@sluice/events/directory-lock.ts";
import type { Log } from "@sluice/events/log.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import { diskFiles, type SpoolFiles } from "@sluice/events/spool/file-layer.ts";
import type { EncodedRecord } from "@sluice/events/spool/record-codec.ts";
import type { RecordingReader } from "@sluice/rpc/recordings.ts";
import { beginChain, type ChainState, extendChain, giveUpChain, resumeChain, sealChain } from "./format/chain.ts";
import { claimsEnd, type Signer } from "./format/checkpoint.ts";
import { provesTampering, TORN_BYTES_MAX } from "./format/torn.ts";
import { unpackRecords, type WalkPlace, type WalkStep, walkRecording } from "./format/walk.ts";
import { openRecorderKeys } from "./keys.ts";
import { createReader } from "./reader.ts";
import { DiskSink } from "./sink/disk.ts";
import { SpoolLedger } from "./spool-ledger.ts";

export interface RecorderOptions {
  /** Created with mode 0700 when it does not exist. One recorder at a time: a second one is refused. */
  readonly directory: string;
  /** Ed25519; without it the one in `directory/keys` is used, and made on the first start. */
  readonly signingKey?: KeyObject;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Limits;
  /** The disk; tests pass one that breaks. */
  readonly files?: SpoolFiles;
}

export interface Recorder {
  /** Subscribe it as durable. Deduplicates by session and sequence, also over restarts. */
  readonly consumer: RecordConsumer;
  readonly reader: RecordingReader;
  /** What recordings are verified with: the signing key's public half, then those of earlier keys. */
  readonly publicKeys: readonly KeyObject[];
  /** Up to where everything of a gateway's spool is on disk; undefined when it is not known. */
  placeOf(gateway: string, spoolId: string): number | undefined;
  close(): Promise<void>;
}

/** Opens the recordings in a directory and mends what a crash left unfinished. */
export async function openRecorder(options: RecorderOptions): Promise<Recorder> {
  const limits = options.limits ?? defaultLimits;
  const lock = await lockDirectory(options.directory, "recordings");
  try {
    const sink = await DiskSink.open(options.directory, limits.recordingOpenFilesMax, options.files);
    const keys = await openRecorderKeys(options.directory, options.signingKey);
    const unfinished = await sink.unfinished();
    const ledger = await SpoolLedger.open(options.directory, options.files ?? diskFiles, unfinished);
    const writer = new Writer(sink, ledger, keys.signer, options.clock, options.log, limits);
    for (const sessionId of unfinished) await writer.resume(sessionId);
    return {
      consumer: { name: "recorder", consume: (records, details) => writer.consume(records, details) },
      reader: createReader(sink, keys.publicKeys, (sessionId) => writer.durableBytes(sessionId)),
      publicKeys: keys.publicKeys,
      placeOf: (gateway, spoolId) => ledger.placeOf(gateway, spoolId),
      close: async () => {
        await writer.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Recordings written at the same time. More would take every thread that Node has for files, also from the spool beside. */
const PARALLEL_WRITES = 2;
/** Sessions remembered after their end, to tell a late record from one that is offered again. */
const FINISHED_REMEMBERED_MAX = 4_096;
/** A spool that was silent for so long while its gateway uses another is gone: a disk that comes back later than that is no accident. */
const ABANDONED_MS = 24 * 3_600_000;

interface Recording {
  state: ChainState;
  /** A write failed: what stands behind `state.fileBytes` is not known and is cut off first. */
  torn: boolean;
}

class Writer {
  readonly #sink: DiskSink;
  readonly #ledger: SpoolLedger;
  readonly #signer: Signer;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #limits: Limits;
  readonly #recordings = new Map<SessionId, Recording>();
  /** Closed and signed, not yet moved to their final place. */
  readonly #ended = new Map<SessionId, Recording>();
  /** By session, the sequence behind its last record. */
  readonly #finished = new Map<SessionId, number>();
  #last: Promise<void> = Promise.resolve();

  constructor(sink: DiskSink, ledger: SpoolLedger, signer: Signer, clock: Clock, log: Log, limits: Limits) {
    this.#sink = sink;
    this.#ledger = ledger;
    this.#signer = signer;
    this.#clock = clock;
    this.#log = log;
    this.#limits = limits;
  }

  /** One batch at a time. Rejects when any of it could not be kept; the rest is kept all the same. */
  consume(records: readonly SessionRecord[], details: BatchDetails = {}): Promise<void> {
    const consumed = this.#last.then(() => this.#consume(records, details));
    this.#last = consumed.catch(() => undefined); // the publisher is told, and offers the batch again
    return consumed;
  }

  /** How much of an open recording is on disk; undefined when it is not being written. */
  durableBytes(sessionId: SessionId): number | undefined {
    return this.#recordings.get(sessionId)?.state.fileBytes;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#ledger.close();
    await this.#sink.close();
  }

  async #consume(records: readonly SessionRecord[], { encoded, source }: BatchDetails): Promise<void> {
    const bySession = Map.groupBy(
      records.map((record, index) => ({ record, encoded: encoded?.[index] })),
      ({ record }) => record.sessionId,
    );
    if (source !== undefined) this.#leaveOutOthers(source, bySession);
    const sessions = [...bySession];
    const failures: unknown[] = [];
    const work = async (): Promise<void> => {
      for (let next = sessions.pop(); next !== undefined; next = sessions.pop()) {
        try {
          await this.#extend(...next);
        } catch (error) {
          failures.push(error);
        }
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_WRITES }, work));
    await this.#sink.syncNames();
    if (failures.length > 0) throw failures[0];
    const reached = source === undefined ? null : await this.#reach(source, bySession.keys());
    for (const [sessionId, recording] of this.#ended) await this.#finish(sessionId, recording);
    // Last: a place that was reached promises everything before it, and the ends that follow from it.
    if (source !== undefined && reached !== null)
      await this.#ledger.commit(source, reached.place, this.#clock.nowMs(), reached.lines);
  }

  /** A gateway signs its batches, and its batches alone: it must not write into another gateway's session whose id it has learned. */
  #leaveOutOthers(source: RecordSource, bySession: Map<SessionId, unknown>): void {
    for (const sessionId of bySession.keys()) {
      if (!this.#ledger.isOfAnother(source, sessionId)) continue;
      bySession.delete(sessionId);
      this.#log.error(
        { sessionId, gateway: source.gateway, spoolId: source.spoolId },
        "A gateway sent records of another's session: they were not kept. Its certificate may be in wrong hands.",
      );
    }
  }

  /** What a batch says about its spool besides its records: where it is now, and which sessions are over without having ended. */
  async #reach(
    source: RecordSource,
    sessions: Iterable<SessionId>,
  ): Promise<{ readonly place: number; readonly lines: readonly string[] }> {
    const open = [...sessions].filter((id) => this.#recordings.get(id)?.state.closed === false);
    const lines = this.#ledger.sawSessions(source, open);
    const place = Math.max(source.next, this.#ledger.placeOf(source.gateway, source.spoolId) ?? 0);
    const lost = this.#ledger.orphansOf(source, place);
    lost.push(...this.#ledger.abandonedBy(source, this.#clock.nowMs() - ABANDONED_MS));
    for (const sessionId of lost) {
      const recording = this.#recordings.get(sessionId);
      if (recording === undefined || recording.state.closed) continue;
      const end = giveUpChain(recording.state, this.#signer);
      await this.#write(recording, end.pieces, end.state);
      this.#log.warn(
        { sessionId, gateway: source.gateway },
        "A session's gateway went away without ending it; its recording says so.",
      );
    }
    return { place, lines };
  }

  async #extend(
    sessionId: SessionId,
    offered: readonly { readonly record: SessionRecord; readonly encoded: EncodedRecord | undefined }[],
  ): Promise<void> {
    const records = offered.map(({ record }) => record);
    const encoded = offered.flatMap((one) => one.encoded ?? []);
    const recording = this.#recordings.get(sessionId) ?? (await this.#find(sessionId, records));
    if (recording === null) return;
    const { state } = recording;
    const begun = state.fileBytes === 0 ? beginChain(sessionId, this.#clock.nowMs(), this.#signer) : null;
    const extension = await extendChain(
      begun?.state ?? state,
      records,
      this.#signer,
      this.#limits.recordingChunkBytesMax,
      encoded.length === records.length ? encoded : undefined,
    );
    for (const fault of extension.faults) this.#log.error({ sessionId }, `A recording has a gap, and says so: ${fault}`);
    if (extension.lateRecords > 0)
      this.#log.error(
        { sessionId, records: extension.lateRecords },
        "Records came after the end of their session and were not kept.",
      );
    const pieces = [...(begun?.pieces ?? []), ...extension.pieces];
    if (extension.pieces.length > 0) await this.#write(recording, pieces, extension.state);
  }

  async #write(recording: Recording, pieces: readonly Buffer[], next: ChainState): Promise<void> {
    const { sessionId, fileBytes } = recording.state;
    if (recording.torn) await this.#sink.truncate(sessionId, fileBytes);
    recording.torn = true;
    await this.#sink.write(sessionId, pieces, fileBytes);
    recording.torn = false;
    recording.state = next;
    if (next.closed) this.#ended.set(sessionId, recording);
  }

  /** The recording of a session that is not in memory. Null when it is finished, and all these records are therefore known. */
  async #find(sessionId: SessionId, records: readonly SessionRecord[]): Promise<Recording | null> {
    const finishedAt = this.#finished.get(sessionId);
    if (finishedAt === undefined && (await this.#sink.locate(sessionId)) === null) {
      const state: ChainState = {
        sessionId,
        index: 0,
        head: Buffer.alloc(0),
        nextSequence: 0,
        closed: false,
        unsignedBlocks: 0,
        fileBytes: 0,
      };
      const recording = { state, torn: false };
      this.#recordings.set(sessionId, recording);
      return recording;
    }
    const late = records.filter((record) => finishedAt !== undefined && record.sequence >= finishedAt);
    if (late.length > 0)
      this.#log.error({ sessionId, records: late.length }, "Records came after the end of their session and were not kept.");
    return null;
  }

  /** Takes up an open recording after a restart: cuts off a torn end, adds a closing checkpoint that is missing. */
  async resume(sessionId: SessionId): Promise<void> {
    const found = await this.#walk(sessionId);
    if (found.changed !== null) {
      const path = await this.#sink.setAside(sessionId);
      await this.#sink.syncNames();
      this.#log.error(
        { sessionId, path, found: found.changed },
        "An unfinished recording was changed while nobody wrote it. It is kept under another name; what follows goes to a new file.",
      );
      return;
    }
    const recording: Recording = { state: found.state, torn: false };
    this.#recordings.set(sessionId, recording);
    await this.#sink.truncate(sessionId, found.state.fileBytes); // and thereby makes durable what was read from the cache
    if (found.ended && !found.state.closed) {
      const sealed = sealChain(found.state, this.#signer);
      await this.#write(recording, sealed.pieces, sealed.state);
    }
    if (recording.state.closed) await this.#finish(sessionId, recording);
  }

  async #walk(sessionId: SessionId): Promise<Resumable> {
    let place: WalkPlace = { sessionId, blocks: 0, head: Buffer.alloc(0), nextSequence: 0, closed: false, fileBytes: 0 };
    let unsignedBlocks = 0;
    let signedClosed = false;
    let damage: string | null = null;
    let lastRecords: Extract<WalkStep, { kind: "block" }> | null = null;
    for await (const step of walkRecording(this.#sink.readOpen(sessionId, 0), { skim: true })) {
      if (step.kind === "broken") {
        damage = step.reason;
        break;
      }
      place = step.after;
      if (step.kind === "header") continue;
      unsignedBlocks = step.head.kind === "checkpoint" ? 0 : unsignedBlocks + 1;
      signedClosed = step.head.kind === "checkpoint" && claimsEnd(step.payload);
      if (step.head.kind === "records") lastRecords = step;
    }
    const ended = await endsIn(lastRecords);
    const state = resumeChain(place, { unsignedBlocks, signedClosed });
    if (place.sessionId !== sessionId) return { state, ended: false, changed: "It is the recording of another session." };
    const changed = damage !== null && (await this.#wasOnDisk(sessionId, place)) ? damage : null;
    return { state, ended, changed };
  }

  /** Whether the damage behind `place` is at something that was once whole on disk: then no crash did it. */
  async #wasOnDisk(sessionId: SessionId, place: WalkPlace): Promise<boolean> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of this.#sink.readOpen(sessionId, place.fileBytes)) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > TORN_BYTES_MAX) break;
    }
    return provesTampering(Buffer.concat(chunks), place.blocks);
  }

  async #finish(sessionId: SessionId, recording: Recording): Promise<void> {
    await this.#sink.finish(sessionId);
    this.#recordings.delete(sessionId);
    this.#ended.delete(sessionId);
    this.#ledger.forgetSession(sessionId);
    this.#finished.set(sessionId, recording.state.nextSequence);
    for (const oldest of this.#finished.keys()) {
      if (this.#finished.size <= FINISHED_REMEMBERED_MAX) break;
      this.#finished.delete(oldest);
    }
  }
}

/** Whether the last records of a recording end it. */
async function endsIn(step: Extract<WalkStep, { kind: "block" }> | null): Promise<boolean> {
  const unpacked = step === null ? null : await unpackRecords(step);
  return unpacked !== null && typeof unpacked !== "string" && unpacked.closed;
}

interface Resumable {
  readonly state: ChainState;
  /** A `closed` record was read, signed or not. */
  readonly ended: boolean;
  /** What shows that somebody changed it, or null. */
  readonly changed: string | null;
}
