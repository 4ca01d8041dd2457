/**
 * What the recorder knows of gateways' spools, over restarts: how far it has each of them, and which open recording came from which. Lines of
 * JSON with a checksum each, appended durably, written anew when they have become many. Never says that a place was reached before the
 * recordings behind it are on disk: note it after them. Losing the file costs no record; gateways then say what they were told before.
 */
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";
import type { RecordSource } from "@sluice/events/bus.ts";
import type { SpoolFile, SpoolFiles } from "@sluice/events/spool/file-layer.ts";

export interface KnownSpool {
  readonly gateway: string;
  readonly spoolId: string;
  /** Everything before it is on disk. */
  readonly next: number;
  /** When records last came from it. Wall time. */
  readonly heardMs: number;
}

interface KnownSession {
  readonly spool: string;
  /** Its last record lies before this place. */
  readonly place: number;
}

const FILE_NAME = "spools.log";
/** Written anew beyond this: reading it takes some ten milliseconds, and a line is about 150 bytes. */
const REWRITE_BYTES = 1024 * 1024;
const READ_BYTES = 64 * 1024;

export class SpoolLedger {
  readonly #directory: string;
  readonly #files: SpoolFiles;
  readonly #spools = new Map<string, KnownSpool>();
  readonly #sessions = new Map<SessionId, KnownSession>();
  #file: SpoolFile | null = null;
  #bytes = 0;
  #rewriteAt = REWRITE_BYTES;

  private constructor(directory: string, files: SpoolFiles) {
    this.#directory = directory;
    this.#files = files;
  }

  /** `open`: sessions whose recording is open; others are forgotten. */
  static async open(directory: string, files: SpoolFiles, open: readonly SessionId[]): Promise<SpoolLedger> {
    const ledger = new SpoolLedger(directory, files);
    const wanted = new Set(open);
    for (const line of await readLines(join(directory, FILE_NAME), files)) ledger.#recall(line, wanted);
    for (const [id, session] of ledger.#sessions) {
      const spool = ledger.#spools.get(session.spool);
      // All that is known is that it has nothing behind what was reached.
      if (spool === undefined) ledger.#sessions.delete(id);
      else ledger.#sessions.set(id, { spool: session.spool, place: spool.next });
    }
    return ledger;
  }

  /** How far everything of a spool is on disk; undefined when it is not known. */
  placeOf(gateway: string, spoolId: string): number | undefined {
    return this.#spools.get(keyOf(gateway, spoolId))?.next;
  }

  /** The recordings' last sign of life came from `source`; not durable before `commit`. */
  sawSessions(source: RecordSource, sessions: Iterable<SessionId>): readonly string[] {
    const spool = keyOf(source.gateway, source.spoolId);
    const lines: string[] = [];
    for (const id of sessions) {
      if (!this.#sessions.has(id)) lines.push(encodeLine({ session: id, spool }));
      this.#sessions.set(id, { spool, place: source.next });
    }
    return lines;
  }

  /** The session is known to come from another spool: nobody else may add to it. */
  isOfAnother(source: RecordSource, id: SessionId): boolean {
    const known = this.#sessions.get(id);
    return known !== undefined && known.spool !== keyOf(source.gateway, source.spoolId);
  }

  forgetSession(id: SessionId): void {
    this.#sessions.delete(id);
  }

  /** Sessions that can get no more records: their gateway began anew, and everything from before that is here. */
  orphansOf(source: RecordSource, reached: number): SessionId[] {
    if (reached < source.runStart) return [];
    const spool = keyOf(source.gateway, source.spoolId);
    return [...this.#sessions].flatMap(([id, known]) => (known.spool === spool && known.place <= source.runStart ? id : []));
  }

  /** Sessions of spools that were not heard of since `beforeMs` although their gateway has another one now. Those spools are forgotten. */
  abandonedBy(source: RecordSource, beforeMs: number): SessionId[] {
    const gone = new Set<string>();
    for (const [key, spool] of this.#spools)
      if (spool.gateway === source.gateway && spool.spoolId !== source.spoolId && spool.heardMs < beforeMs) gone.add(key);
    for (const key of gone) this.#spools.delete(key);
    return gone.size === 0 ? [] : [...this.#sessions].flatMap(([id, known]) => (gone.has(known.spool) ? id : []));
  }

  /** Makes durable that everything of `source` is here up to its end, and `lines` of `sawSessions`. */
  async commit(source: RecordSource, reached: number, nowMs: number, lines: readonly string[]): Promise<void> {
    const { gateway, spoolId } = source;
    this.#spools.set(keyOf(gateway, spoolId), { gateway, spoolId, next: reached, heardMs: nowMs });
    if (this.#file === null || this.#bytes > this.#rewriteAt) return this.#rewrite();
    const bytes = Buffer.from([...lines, spoolLine({ gateway, spoolId, next: reached, heardMs: nowMs })].join(""));
    await this.#file.write([bytes], this.#bytes);
    this.#bytes += bytes.length;
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  async #rewrite(): Promise<void> {
    await this.close();
    const lines = [...this.#spools.values()].map(spoolLine);
    for (const [id, { spool }] of this.#sessions) lines.push(encodeLine({ session: id, spool }));
    const bytes = Buffer.from(lines.join(""));
    const path = join(this.#directory, FILE_NAME);
    const draft = `${path}.new`;
    const file = await this.#files.open(draft, "durable");
    try {
      await file.truncate(0);
      await file.write([bytes], 0);
      await this.#files.rename(draft, path);
      await this.#files.syncDirectory(this.#directory);
    } catch (error) {
      await file.close();
      throw error;
    }
    this.#file = file;
    this.#bytes = bytes.length;
    this.#rewriteAt = Math.max(REWRITE_BYTES, 2 * bytes.length);
  }

  #recall(line: Readonly<Record<string, unknown>>, wanted: ReadonlySet<SessionId>): void {
    const { session, spool, gateway, spoolId, next, heardMs } = line;
    if (typeof session === "string" && typeof spool === "string") {
      const id = parseSessionId(session);
      if (id !== undefined && wanted.has(id)) this.#sessions.set(id, { spool, place: 0 });
      return;
    }
    if (typeof gateway !== "string" || typeof spoolId !== "string") return;
    if (typeof next !== "number" || typeof heardMs !== "number") return;
    const key = keyOf(gateway, spoolId);
    const known = this.#spools.get(key);
    if (known === undefined || known.next <= next) this.#spools.set(key, { gateway, spoolId, next, heardMs });
  }
}

function keyOf(gateway: string, spoolId: string): string {
  return `${gateway}/${spoolId}`;
}

function spoolLine(spool: KnownSpool): string {
  return encodeLine({ ...spool });
}

function encodeLine(value: Readonly<Record<string, unknown>>): string {
  const text = JSON.stringify(value);
  return `${crc32(text).toString(16).padStart(8, "0")} ${text}\n`;
}

/** Lines that are whole. What a crash left of others never was committed. */
async function readLines(path: string, files: SpoolFiles): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const text = await readText(path, files);
  return text.split("\n").flatMap((line) => {
    const json = line.slice(9);
    if (line[8] !== " " || crc32(json).toString(16).padStart(8, "0") !== line.slice(0, 8)) return [];
    return [JSON.parse(json) as Readonly<Record<string, unknown>>]; // an object: written by encodeLine and checksummed
  });
}

async function readText(path: string, files: SpoolFiles): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    const file = await files.open(path, "read");
    try {
      for (let offset = 0; ; ) {
        const chunk = Buffer.alloc(READ_BYTES);
        const filled = await file.read(chunk, offset);
        if (filled === 0) break;
        chunks.push(chunk.subarray(0, filled));
        offset += filled;
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // a system error; anything else has no code
  }
  return Buffer.concat(chunks).toString("utf8");
}
