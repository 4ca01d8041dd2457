/**
 * The spool on a local disk: append-only segments, one write and one sync for everything that waits. Never says that a record is
 * durable before the disk has said so; after one failed write or sync it stays failed until the process is started again, because
 * what the disk then holds is not known. Format: segment-format.ts and record-codec.ts.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { type Slab, Slabs } from "@sluice/core/slabs.ts";
import { type DirectoryLock, lockDirectory } from "../directory-lock.ts";
import type { Log } from "../log.ts";
import type { SessionRecord } from "../session-events.ts";
import type { ReleasedBytes, Spool, SpoolBatch, SpoolPosition } from "../spool.ts";
import { diskFiles, type SpoolFile, type SpoolFiles } from "./file-layer.ts";
import { encodeIntoSlab, type ReleasedRecord, type SlabRecord } from "./record-codec.ts";
import { RecentGroups } from "./recent-groups.ts";
import { encodeGroupHeader, GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES } from "./segment-format.ts";
import { SegmentReader } from "./segment-reader.ts";
import { createSegment, openSegments, removeBefore, type OpenedSegments, type SegmentsOptions, writeMark } from "./segments.ts";

export interface FileSpoolOptions {
  /** Created with mode 0700 when it does not exist. One process at a time: a second one is refused. */
  readonly directory: string;
  readonly limits: Limits;
  readonly log: Log;
  /** Dates the segments' headers; 0 ("not known") without it. */
  readonly clock?: Clock;
  /** The disk; tests pass one that breaks. */
  readonly files?: SpoolFiles;
}

export interface FileSpool extends Spool {
  /** Where the next durable record will begin: a follower that has come this far has all there is. */
  readonly end: SpoolPosition;
  /** Why nothing is accepted any more, or null. A gateway whose spool failed is not ready. */
  readonly failure: GatewayError | null;
}

/** Opens or creates the spool in `directory`. Throws GatewayError `recording_unavailable` when durable records are damaged. */
export async function openFileSpool(options: FileSpoolOptions): Promise<FileSpool> {
  const segmentsOptions: SegmentsOptions = {
    directory: options.directory,
    files: options.files ?? diskFiles,
    recordBytesMax: options.limits.spoolRecordBytesMax,
    createdMs: options.clock?.nowMs() ?? 0,
    log: options.log,
  };
  // A disk of a test is nobody else's.
  const lock = options.files === undefined ? await lockDirectory(options.directory, "spool") : null;
  try {
    return new DiskSpool(options, segmentsOptions, await openSegments(segmentsOptions), lock);
  } catch (cause) {
    lock?.release();
    if (cause instanceof GatewayError) throw cause;
    throw new GatewayError("recording_unavailable", `The spool in ${options.directory} cannot be opened.`, {
      cause,
      hint: "Check that the directory can be written by this user and that its disk has room.",
    });
  }
}

/** A new file is started beyond this, so that trimming can forget. An eighth of the whole when that is less. */
const SEGMENT_BYTES = 64 * 1024 * 1024;
/** One group: large enough that syncs do not matter, small enough to be read back whole. */
const GROUP_BYTES = 4 * 1024 * 1024;
/** So much is written although nobody waits for it: what lies in memory for long costs more to collect than to write. */
const WANTED_BYTES = 1024 * 1024;
/** One batch of a follower: about this much. */
const BATCH_BYTES = 4 * 1024 * 1024;
/** Records nobody waits for (relaxed mode) are committed after this time, well within the second that is promised. */
const RELAXED_COMMIT_MS = 500;
/**
 * Slow before no: once half of the spool is used, callers wait so that what is left lasts this long at least, and the recorder can follow
 * a session that reads in bulk. Whoever brings the bytes does the waiting.
 */
const THROTTLE_HORIZON_MS = 2_000;
/** Pauses are gathered up to this: shorter ones cost more than they slow. */
const THROTTLE_MS_MIN = 5;
/** One pause. A caller is then slow, but alive. */
const THROTTLE_MS_MAX = 1_000;
/** Pieces below this are copied together: cheaper than one more entry in a gathering write. */
const SMALL_PIECE_BYTES = 8 * 1024;
/** Several times what one read of a bulk result brings; a caller that does not read keeps as much from being used again. */
const SLAB_BYTES = 512 * 1024;
/** Free slabs besides those that the records kept for the follower take when it has had them: what waits for the disk and for callers. */
const FREE_SLABS_BYTES = 8 * 1024 * 1024;
const NO_PIECES: readonly Buffer[] = [];

interface Waiter {
  /** Resolves once this many records are durable. */
  readonly count: number;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: GatewayError) => void;
}

class DiskSpool implements FileSpool {
  readonly #limits: Limits;
  readonly #log: Log;
  readonly #options: SegmentsOptions;
  readonly #segments: OpenedSegments["segments"];
  readonly #segmentBytesMax: number;
  readonly #recent: RecentGroups;
  readonly id: string;
  readonly runStart: SpoolPosition;
  readonly #lock: DirectoryLock | null;
  readonly #mark: SpoolFile;
  #active: SpoolFile;
  #start: SpoolPosition;
  #end: SpoolPosition;
  readonly #slabs: Slabs;
  #queue: SlabRecord[] = [];
  #queuedBytes = 0;
  #appendedCount = 0;
  #wantedCount = 0;
  #durableCount = 0;
  #waiters: Waiter[] = [];
  /** Up to where callers of `durable` have been weighed, and what they still owe in milliseconds. */
  #weighedBytes: number;
  #owedMs = 0;
  #committing: Promise<void> | null = null;
  #relaxedTimer: NodeJS.Timeout | null = null;
  #trimming: Promise<void> = Promise.resolve();
  #followers = 0;
  readonly #readers = new Set<SegmentReader>();
  readonly #wakeFollowers = new Set<() => void>();
  readonly #wakeDrained: (() => void)[] = [];
  #failure: GatewayError | null = null;
  #closed = false;

  constructor(options: FileSpoolOptions, segmentsOptions: SegmentsOptions, opened: OpenedSegments, lock: DirectoryLock | null) {
    this.id = opened.id;
    this.runStart = opened.end;
    this.#lock = lock;
    this.#limits = options.limits;
    this.#log = options.log;
    this.#options = segmentsOptions;
    this.#segments = opened.segments;
    this.#active = opened.active;
    this.#mark = opened.mark;
    this.#start = opened.start;
    this.#end = opened.end;
    this.#weighedBytes = opened.end;
    this.#segmentBytesMax = Math.min(SEGMENT_BYTES, Math.max(4096, Math.floor(options.limits.spoolBytesMax / 8)));
    this.#recent = new RecentGroups(options.limits.spoolRecentBytesMax);
    this.#slabs = new Slabs({ slabBytes: SLAB_BYTES, keptBytesMax: options.limits.spoolRecentBytesMax + FREE_SLABS_BYTES });
  }

  get start(): SpoolPosition {
    return this.#start;
  }

  get end(): SpoolPosition {
    return this.#end;
  }

  get failure(): GatewayError | null {
    return this.#failure;
  }

  append(record: SessionRecord): void {
    this.#append(record, record.kind === "released" ? [record.bytes] : NO_PIECES);
  }

  release(record: Omit<ReleasedRecord, "bytes">, pieces: readonly Buffer[]): ReleasedBytes {
    const { record: kept, slab } = this.#append(record, pieces);
    return new Sending((kept as ReleasedRecord).bytes, slab); // of the kind that was given
  }

  #append(record: SessionRecord | Omit<ReleasedRecord, "bytes">, pieces: readonly Buffer[]): SlabRecord {
    if (this.#failure !== null) throw this.#failure;
    if (this.#closed) throw unavailable("the gateway is shutting down", "Connect again.");
    const queued = encode(this.#slabs, record, pieces);
    const bytes = queued.encoded.byteLength;
    if (bytes > this.#limits.spoolRecordBytesMax)
      throw unavailable("one record is larger than the spool accepts", "Ask for less in one statement.");
    if (this.#queuedBytes + bytes > this.#limits.spoolQueueBytesMax)
      throw unavailable(
        "the gateway's disk cannot keep up",
        "Try again later; the platform team sees this in the gateway's log.",
      );
    const keptBytes = this.#end - this.#start + this.#queuedBytes; // on disk it is at most one segment more
    if (keptBytes + GROUP_HEADER_BYTES + bytes > this.#limits.spoolBytesMax)
      throw unavailable(
        "the gateway's spool is full",
        "The recorder does not take records; ask the platform team to look at it.",
      );
    this.#queue.push(queued);
    this.#queuedBytes += bytes;
    this.#appendedCount += 1;
    if (this.#queuedBytes >= WANTED_BYTES) this.#want();
    else this.#relaxedTimer ??= setTimeout(() => this.#want(), RELAXED_COMMIT_MS).unref();
    return queued;
  }

  get crowded(): boolean {
    const { spoolBytesMax, spoolQueueBytesMax } = this.#limits;
    // Before the disk as before whoever empties it: slow first, no only where that does not help.
    return this.#queuedBytes > spoolQueueBytesMax / 2 || this.#end + this.#queuedBytes - this.#start > spoolBytesMax / 2;
  }

  durable(): Promise<void> {
    const pauseMs = this.#takePause();
    return pauseMs === 0 ? this.#committed() : this.#committed().then(() => delay(pauseMs));
  }

  /** What this caller has to wait on top, in milliseconds, for the bytes that were appended since the last caller. */
  #takePause(): number {
    const appendedBytes = this.#end + this.#queuedBytes;
    const bytes = appendedBytes - this.#weighedBytes;
    this.#weighedBytes = appendedBytes;
    const leftBytes = Math.max(1, this.#limits.spoolBytesMax - (appendedBytes - this.#start));
    if (!this.crowded) return 0;
    this.#owedMs += (bytes / leftBytes) * THROTTLE_HORIZON_MS;
    if (this.#owedMs < THROTTLE_MS_MIN) return 0;
    const pauseMs = Math.min(this.#owedMs, THROTTLE_MS_MAX);
    this.#owedMs = 0;
    return pauseMs;
  }

  #committed(): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#durableCount === this.#appendedCount) return Promise.resolve();
    const last = this.#waiters.at(-1);
    if (last?.count === this.#appendedCount) return last.promise;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ count: this.#appendedCount, promise, resolve, reject });
    this.#want();
    return promise;
  }

  async *follow(from: SpoolPosition, signal: AbortSignal): AsyncGenerator<SpoolBatch, void, undefined> {
    if (from < this.#segments[0]!.base || from > this.#end)
      throw new GatewayError("not_found", `The spool does not hold position ${from}.`, { hint: "Begin at the spool's start." });
    const reader = new SegmentReader(this.#options.files, this.#limits.spoolRecordBytesMax);
    let position = from;
    this.#readers.add(reader);
    this.#followers += 1;
    try {
      while (!signal.aborted && !this.#closed) {
        if (position === this.#end) {
          await this.#more(signal);
          continue;
        }
        const end = position < this.runStart ? this.runStart : this.#end; // what died with an earlier run is told apart
        const batch = this.#recent.from(position, BATCH_BYTES) ?? (await reader.read(this.#segments, position, end, BATCH_BYTES));
        position = batch.next;
        yield batch;
      }
    } finally {
      this.#followers -= 1;
      this.#readers.delete(reader);
      if (this.#followers === 0) this.#recent.clear();
      await reader.close();
    }
  }

  trim(position: SpoolPosition): Promise<void> {
    this.#trimming = this.#trimming
      .catch(() => undefined) // an earlier caller was told
      .then(async () => {
        if (this.#closed || position <= this.#start) return;
        if (position > this.#end) throw new GatewayError("not_found", `The spool has not come to position ${position} yet.`);
        await writeMark(this.#mark, position);
        this.#start = position;
        const unread = this.#followers === 1; // another follower may be behind
        this.#recent.forgetBefore(position, unread);
        if (unread) for (const reader of this.#readers) reader.forgetBefore(position);
        for (const wake of this.#wakeDrained.splice(0)) wake();
        await removeBefore(this.#options, this.#segments, position);
      });
    return this.#trimming;
  }

  async drained(): Promise<void> {
    await this.#committed();
    const position = this.#end;
    while (this.#start < position) {
      if (this.#closed)
        throw unavailable("the spool was closed before its records were taken", "They are offered after the next start.");
      await new Promise<void>((resolve) => this.#wakeDrained.push(resolve));
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#want();
    await this.#committing;
    await this.#trimming.catch(() => undefined); // its caller was told
    for (const wake of this.#wakeFollowers) wake();
    for (const wake of this.#wakeDrained.splice(0)) wake();
    await this.#active.close();
    await this.#mark.close();
    this.#lock?.release();
  }

  /** Everything appended so far shall become durable; starts at once when nothing is being written. */
  #want(): void {
    if (this.#relaxedTimer !== null) clearTimeout(this.#relaxedTimer);
    this.#relaxedTimer = null;
    this.#wantedCount = this.#appendedCount;
    if (this.#committing !== null || this.#failure !== null || this.#durableCount === this.#wantedCount) return;
    this.#committing = this.#commitWanted();
  }

  async #commitWanted(): Promise<void> {
    try {
      while (this.#durableCount < this.#wantedCount) {
        // Sockets that became readable in the same turn of the event loop append before the write, and share it.
        await new Promise<void>((resolve) => setImmediate(resolve));
        await this.#commitGroup();
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#committing = null;
    if (this.#queue.length > 0 && this.#failure === null)
      this.#relaxedTimer ??= setTimeout(() => this.#want(), RELAXED_COMMIT_MS).unref();
  }

  async #commitGroup(): Promise<void> {
    const segment = this.#segments.at(-1)!; // there is always one
    const offset = this.#end - segment.base;
    if (offset >= this.#segmentBytesMax) {
      const created = await createSegment(this.#options, this.#end);
      this.#segments.push(created.segment);
      const sealed = this.#active;
      this.#active = created.file;
      await sealed.close();
      return; // the caller's loop comes back
    }
    const group = this.#takeGroup();
    const header = { position: this.#end, payloadBytes: group.bytes, records: group.queued.length };
    await this.#active.write(gather(encodeGroupHeader(header, segment.salt), group.queued), SEGMENT_HEADER_BYTES + offset);
    const next = this.#end + GROUP_HEADER_BYTES + group.bytes;
    if (this.#followers > 0) this.#recent.add(this.#end, next, group.queued);
    else for (const { slab } of group.queued) slab.letGo();
    this.#end = next;
    this.#queuedBytes -= group.bytes;
    this.#durableCount += group.queued.length;
    while (this.#waiters.length > 0 && this.#waiters[0]!.count <= this.#durableCount) this.#waiters.shift()!.resolve();
    for (const wake of this.#wakeFollowers) wake();
  }

  #takeGroup(): { readonly queued: readonly SlabRecord[]; readonly bytes: number } {
    let bytes = 0;
    let count = 0;
    for (const { encoded } of this.#queue) {
      if (count > 0 && bytes + encoded.byteLength > GROUP_BYTES) break;
      bytes += encoded.byteLength;
      count += 1;
    }
    const queued = count === this.#queue.length ? this.#queue : this.#queue.slice(0, count);
    this.#queue = count === this.#queue.length ? [] : this.#queue.slice(count);
    return { queued, bytes };
  }

  #fail(cause: unknown): void {
    const full = (cause as NodeJS.ErrnoException).code === "ENOSPC"; // undefined on anything that is no system error
    this.#failure = new GatewayError(
      "recording_unavailable",
      full
        ? "The session cannot be recorded: the disk under the gateway's spool is full."
        : "The session cannot be recorded: writing to the gateway's spool failed.",
      { cause, hint: "The gateway accepts nothing until its disk is mended and it is started again. Ask the platform team." },
    );
    this.#log.error({ err: cause, directory: this.#options.directory }, this.#failure.message);
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const waiter of this.#waiters) waiter.reject(this.#failure);
    this.#waiters = [];
  }

  /** Resolves when more may be durable, on abort, and on close. */
  #more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wakeFollowers.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#wakeFollowers.add(wake);
      signal.addEventListener("abort", wake);
    });
  }
}

/** What of the spool's memory is on its way to a caller. */
class Sending implements ReleasedBytes {
  readonly bytes: Buffer;
  #slab: Slab | null;

  constructor(bytes: Buffer, slab: Slab) {
    this.bytes = bytes;
    this.#slab = slab;
    slab.hold();
  }

  sent(): void {
    const slab = this.#slab;
    this.#slab = null; // said twice, it would let go of what another one reads
    slab?.letGo();
  }
}

function encode(slabs: Slabs, record: SessionRecord | Omit<ReleasedRecord, "bytes">, pieces: readonly Buffer[]): SlabRecord {
  try {
    return encodeIntoSlab(slabs, record, pieces);
  } catch (cause) {
    throw new GatewayError(
      "recording_unavailable",
      "The session cannot be recorded: one record has a field that cannot be written.",
      {
        cause,
        hint: "This is a fault of the gateway; the platform team finds it in its log.",
      },
    );
  }
}

/** The bytes of a group, in few pieces: records that follow each other in memory are one, small pieces are copied together. */
function gather(header: Buffer, queued: readonly SlabRecord[]): Buffer[] {
  const pieces: Buffer[] = [];
  let small: Buffer[] = [header];
  for (let at = 0; at < queued.length; ) {
    const { head } = queued[at]!.encoded;
    let end = head.byteOffset + head.length;
    for (at += 1; at < queued.length; at++) {
      const next = queued[at]!.encoded.head;
      if (next.buffer !== head.buffer || next.byteOffset !== end) break;
      end += next.length;
    }
    const run = Buffer.from(head.buffer, head.byteOffset, end - head.byteOffset);
    if (run.length < SMALL_PIECE_BYTES) {
      small.push(run);
      continue;
    }
    if (small.length > 0) pieces.push(small.length === 1 ? small[0]! : Buffer.concat(small));
    pieces.push(run);
    small = [];
  }
  if (small.length > 0) pieces.push(small.length === 1 ? small[0]! : Buffer.concat(small));
  return pieces;
}

function unavailable(why: string, hint: string): GatewayError {
  return new GatewayError("recording_unavailable", `The session cannot be recorded: ${why}.`, { hint });
}
