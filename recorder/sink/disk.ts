/**
 * Recordings as files: one a session, `open/<session>.slr` while it is written, `<two hex digits>/<session>.slr` once it is closed (the
 * first byte of the id's SHA-256, so that a file is found without an index and no folder grows too large). Never deletes a recording, and
 * never lets a session id that is not shaped like one near a path.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";
import { diskFiles, type SpoolFile, type SpoolFiles } from "@sluice/events/spool/file-layer.ts";

export interface LocatedRecording {
  readonly path: string;
  readonly closed: boolean;
}

/** What a reader asks for at once. */
const READ_BYTES = 256 * 1024;
const SUFFIX = ".slr";

export class DiskSink {
  readonly #directory: string;
  readonly #files: SpoolFiles;
  readonly #openFilesMax: number;
  /** In order of last use: a Map keeps the order of insertion. */
  readonly #handles = new Map<SessionId, { readonly file: SpoolFile; users: number }>();
  #namesChanged = false;

  private constructor(directory: string, files: SpoolFiles, openFilesMax: number) {
    this.#directory = directory;
    this.#files = files;
    this.#openFilesMax = openFilesMax;
  }

  static async open(directory: string, openFilesMax: number, files: SpoolFiles = diskFiles): Promise<DiskSink> {
    await files.createDirectory(join(directory, "open"));
    await files.syncDirectory(directory);
    return new DiskSink(directory, files, openFilesMax);
  }

  /** Sessions whose recording was not closed. */
  async unfinished(): Promise<SessionId[]> {
    const names = await this.#files.list(join(this.#directory, "open"));
    return names.flatMap((name) => (name.endsWith(SUFFIX) ? (parseSessionId(name.slice(0, -SUFFIX.length)) ?? []) : []));
  }

  /** Where the recording is, or null when there is none. */
  async locate(sessionId: SessionId): Promise<LocatedRecording | null> {
    // A recording may be closed between the two looks; it is then found at the third.
    for (const closed of [false, true, false]) {
      const path = closed ? this.#closedPath(sessionId) : this.#openPath(sessionId);
      if (await this.#exists(path)) return { path, closed };
    }
    return null;
  }

  /** Writes at `offset`, durably. The file's name is durable only after `syncNames`. */
  async write(sessionId: SessionId, pieces: readonly Buffer[], offset: number): Promise<void> {
    await this.#use(sessionId, (file) => file.write(pieces, offset));
  }

  /** Cuts the open recording to `length`, durably. What was read from it before may have been in the cache only; now it is on disk. */
  async truncate(sessionId: SessionId, length: number): Promise<void> {
    await this.#use(sessionId, (file) => file.truncate(length));
  }

  /** Makes the names of recordings that were begun durable: one sync, however many there are. */
  async syncNames(): Promise<void> {
    if (!this.#namesChanged) return;
    await this.#files.syncDirectory(join(this.#directory, "open"));
    this.#namesChanged = false;
  }

  /** Moves a closed recording to its final place. A crash before the move is durable leaves it in the first, where it is found again. */
  async finish(sessionId: SessionId): Promise<void> {
    await this.#drop(sessionId);
    const path = this.#closedPath(sessionId);
    await this.#files.createDirectory(join(path, ".."));
    await this.#files.rename(this.#openPath(sessionId), path);
  }

  /** Keeps a damaged open recording under another name; the session's later records go to a new file. Returns the new path. */
  async setAside(sessionId: SessionId): Promise<string> {
    await this.#drop(sessionId);
    const names = await this.#files.list(join(this.#directory, "open"));
    let number = 1;
    while (names.includes(`${sessionId}.damaged-${number}`)) number += 1;
    const path = join(this.#directory, "open", `${sessionId}.damaged-${number}`);
    await this.#files.rename(this.#openPath(sessionId), path);
    this.#namesChanged = true;
    return path;
  }

  /** The bytes of a recording that is not closed, from `offset` on. */
  readOpen(sessionId: SessionId, offset: number): AsyncGenerator<Buffer, void, undefined> {
    return this.read(this.#openPath(sessionId), offset, Number.MAX_SAFE_INTEGER);
  }

  /** A file's bytes from `from` to `end`, or to its end. */
  async *read(path: string, from: number, end: number): AsyncGenerator<Buffer, void, undefined> {
    const file = await this.#files.open(path, "read");
    try {
      let offset = from;
      while (offset < end) {
        const chunk = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end - offset)); // a reader keeps parts of it
        const filled = await file.read(chunk, offset);
        if (filled === 0) return;
        offset += filled;
        yield chunk.subarray(0, filled);
      }
    } finally {
      await file.close();
    }
  }

  /** As `read` from the beginning, for a recording that may be moved to its final place before it is opened. */
  async *readMoved(path: string, sessionId: SessionId, end: number): AsyncGenerator<Buffer, void, undefined> {
    yield* this.read((await this.#exists(path)) ? path : this.#closedPath(sessionId), 0, end);
  }

  async close(): Promise<void> {
    for (const sessionId of this.#handles.keys()) await this.#drop(sessionId);
  }

  #openPath(sessionId: SessionId): string {
    return join(this.#directory, "open", `${checked(sessionId)}${SUFFIX}`);
  }

  #closedPath(sessionId: SessionId): string {
    const folder = createHash("sha256").update(sessionId).digest("hex").slice(0, 2);
    return join(this.#directory, folder, `${checked(sessionId)}${SUFFIX}`);
  }

  async #exists(path: string): Promise<boolean> {
    try {
      await this.#files.sizeOf(path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return false; // a system error; anything else has no code
      throw error;
    }
  }

  async #use(sessionId: SessionId, task: (file: SpoolFile) => Promise<void>): Promise<void> {
    let handle = this.#handles.get(sessionId);
    if (handle === undefined) {
      handle = { file: await this.#files.open(this.#openPath(sessionId), "durable"), users: 0 };
      this.#namesChanged = true;
    } else this.#handles.delete(sessionId);
    this.#handles.set(sessionId, handle);
    handle.users += 1;
    try {
      await task(handle.file);
    } finally {
      handle.users -= 1;
    }
    for (const [oldest, { users }] of this.#handles) {
      if (this.#handles.size <= this.#openFilesMax) break;
      if (users === 0) await this.#drop(oldest);
    }
  }

  async #drop(sessionId: SessionId): Promise<void> {
    const handle = this.#handles.get(sessionId);
    this.#handles.delete(sessionId);
    await handle?.file.close();
  }
}

/** Ids come typed, but files are named by them: looked at once more. */
function checked(sessionId: SessionId): SessionId {
  if (parseSessionId(sessionId) === undefined) throw new GatewayError("not_found", "There is no such session.");
  return sessionId;
}
