/**
 * The few file operations the spool needs, as an interface so that tests can fill the disk or break it. Never retries: a write or
 * sync that failed once is never trusted again, and the caller decides what that means.
 */
import {
  close,
  constants,
  fdatasync,
  fsync,
  ftruncate,
  mkdir,
  open,
  read,
  readdir,
  rename,
  stat,
  unlink,
  write,
  writev,
} from "node:fs";

export interface SpoolFile {
  /** Writes every byte at `offset`. With a file opened `durable` it resolves only after the bytes are on disk. */
  write(pieces: readonly Buffer[], offset: number): Promise<void>;
  /** Reads up to `target.length` bytes; returns how many there were. */
  read(target: Buffer, offset: number): Promise<number>;
  /** Cuts or extends to `length`, and makes that durable. */
  truncate(length: number): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface SpoolFiles {
  createDirectory(path: string): Promise<void>;
  list(directory: string): Promise<readonly string[]>;
  sizeOf(path: string): Promise<number>;
  /** `durable`: each write is one commit. `plain`: writes may linger in the cache until `sync`. Both create the file, mode 0600. */
  open(path: string, mode: "read" | "durable" | "plain"): Promise<SpoolFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes created, renamed and removed names durable. */
  syncDirectory(path: string): Promise<void>;
}

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/**
 * Linux promises that a write with O_DSYNC is on disk when it returns, which saves a thread hop against write and fdatasync.
 * Elsewhere (macOS keeps it in the drive's cache) the two calls are made one after the other.
 */
const WRITE_THROUGH = process.platform === "linux" ? constants.O_DSYNC : 0;

/** The real disk. */
export const diskFiles: SpoolFiles = {
  createDirectory: async (path) => {
    await call<string | undefined>((done) => mkdir(path, { recursive: true, mode: DIRECTORY_MODE }, done));
  },
  list: (directory) => call<string[]>((done) => readdir(directory, done)),
  sizeOf: async (path) => (await call<{ size: number }>((done) => stat(path, done))).size,
  open: async (path, mode) => {
    const flags =
      mode === "read" ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT | (mode === "durable" ? WRITE_THROUGH : 0);
    const descriptor = await call<number>((done) => open(path, flags, FILE_MODE, done));
    return diskFile(descriptor, mode === "durable" && WRITE_THROUGH === 0);
  },
  rename: (from, to) => run((done) => rename(from, to, done)),
  remove: (path) => run((done) => unlink(path, done)),
  syncDirectory: async (path) => {
    const descriptor = await call<number>((done) => open(path, constants.O_RDONLY, done));
    try {
      await run((done) => fsync(descriptor, done));
    } finally {
      await run((done) => close(descriptor, done));
    }
  },
};

function diskFile(descriptor: number, syncEachWrite: boolean): SpoolFile {
  return {
    write: async (pieces, offset) => {
      await writeAll(descriptor, pieces, offset);
      if (syncEachWrite) await run((done) => fdatasync(descriptor, done));
    },
    read: async (target, offset) => {
      let filled = 0;
      while (filled < target.length) {
        const bytes = await call<number>((done) =>
          read(descriptor, target, filled, target.length - filled, offset + filled, done),
        );
        if (bytes === 0) break;
        filled += bytes;
      }
      return filled;
    },
    truncate: async (length) => {
      await run((done) => ftruncate(descriptor, length, done));
      await run((done) => fsync(descriptor, done));
    },
    sync: () => run((done) => fdatasync(descriptor, done)),
    close: () => run((done) => close(descriptor, done)),
  };
}

async function writeAll(descriptor: number, pieces: readonly Buffer[], offset: number): Promise<void> {
  let left = pieces;
  let at = offset;
  while (left.length > 0) {
    const current = left;
    const start = at;
    const written = await call<number>((done) =>
      current.length === 1
        ? write(descriptor, current[0]!, 0, current[0]!.length, start, done)
        : writev(descriptor, current, start, done),
    );
    if (written === 0) throw new Error("the disk took no bytes"); // a loop that makes no progress would never end
    at += written;
    left = without(current, written);
  }
}

/** What remains of `pieces` after their first `bytes` bytes. */
function without(pieces: readonly Buffer[], bytes: number): readonly Buffer[] {
  let left = bytes;
  for (const [index, piece] of pieces.entries()) {
    if (left < piece.length) return [piece.subarray(left), ...pieces.slice(index + 1)];
    left -= piece.length;
  }
  return [];
}

function call<Value>(start: (done: (error: NodeJS.ErrnoException | null, value: Value) => void) => void): Promise<Value> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error === null ? resolve(value) : reject(error)));
  });
}

function run(start: (done: (error: NodeJS.ErrnoException | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error === null ? resolve() : reject(error)));
  });
}
