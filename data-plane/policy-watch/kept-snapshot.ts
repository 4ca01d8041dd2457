/**
 * The last accepted snapshot on disk, as the control plane signed it, and beside it what must outlive the process: the floor below
 * which no snapshot is taken again, and when the control plane was last heard of. A bounded cache: whoever reads it verifies it as
 * if it came over the wire. Files are replaced whole; the snapshot goes first, so that the floor never points beyond it.
 */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import type { Heard } from "./lease.ts";

export interface KeptState {
  /** The highest sequence that was accepted. */
  readonly floor: bigint;
  /** Hex SHA-256 of what was signed as its policy: another one may not come under the same sequence. */
  readonly digest: string;
  readonly heard: Heard | null;
}

export interface KeptSnapshot {
  /** What was on disk at the beginning; null for nothing, or nothing that can be read. */
  readonly signed: Uint8Array | null;
  readonly state: KeptState | null;
  /** Written in the background, the latest wins. `signed` is left out when it is the same as before. */
  keep(state: KeptState, signed?: Uint8Array): void;
  /** Resolves when everything is on disk, or could not be written. */
  close(): Promise<void>;
}

const SNAPSHOT_FILE = "snapshot.bin";
const STATE_FILE = "state.json";

/** Makes the directory (mode 0700) when there is none. A file that is damaged is logged and counts as absent. */
export async function openKeptSnapshot(directory: string, log: Logger): Promise<KeptSnapshot> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const signed = await readIfThere(join(directory, SNAPSHOT_FILE));
  const text = await readIfThere(join(directory, STATE_FILE));
  const state = text === null ? null : parseState(text.toString("utf8"));
  if (text !== null && state === null) {
    log.warn(
      { directory },
      "what was kept of the last snapshot's lease cannot be read: it counts as over until the control plane is heard of",
    );
  }
  let pending: { state: KeptState; signed?: Uint8Array } | undefined;
  let writing: Promise<void> = Promise.resolve();
  const write = async (): Promise<void> => {
    const next = pending;
    pending = undefined;
    if (next === undefined) return;
    try {
      if (next.signed !== undefined) await replaceFile(directory, SNAPSHOT_FILE, next.signed);
      await replaceFile(directory, STATE_FILE, Buffer.from(`${JSON.stringify(toJson(next.state))}\n`));
    } catch (error) {
      log.error(
        { err: error, directory },
        "the snapshot could not be kept on disk; it is enforced, but a restart would not find it",
      );
    }
  };
  return {
    signed,
    state,
    keep: (next, bytes) => {
      const content = bytes ?? pending?.signed;
      const first = pending === undefined;
      pending = { state: next, ...(content === undefined ? {} : { signed: content }) };
      if (first) writing = writing.then(write);
    },
    close: () => writing,
  };
}

async function readIfThere(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null; // what the file system throws has a code
    throw error;
  }
}

async function replaceFile(directory: string, name: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(directory, `${name}.new`);
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(directory, name));
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function toJson({ floor, digest, heard }: KeptState): Readonly<Record<string, unknown>> {
  return { floor: String(floor), digest, heard };
}

function parseState(text: string): KeptState | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { floor, digest, heard } = value as Readonly<Record<string, unknown>>; // an object: each field is looked at
  if (typeof floor !== "string" || !/^\d{1,20}$/.test(floor) || typeof digest !== "string") return null;
  return { floor: BigInt(floor), digest, heard: parseHeard(heard) };
}

function parseHeard(value: unknown): Heard | null {
  if (typeof value !== "object" || value === null) return null;
  const { wallMs, boot } = value as Readonly<Record<string, unknown>>; // an object: each field is looked at
  if (typeof wallMs !== "number") return null;
  if (typeof boot !== "object" || boot === null) return { wallMs, boot: null };
  const { id, ms } = boot as Readonly<Record<string, unknown>>; // an object: each field is looked at
  return { wallMs, boot: typeof id === "string" && typeof ms === "number" ? { id, ms } : null };
}
