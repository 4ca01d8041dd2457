/** A disk in memory for tests that damage files in hundreds of ways. What is written is "durable" at once. */
import { basename, dirname } from "node:path";
import type { SpoolFile, SpoolFiles } from "./file-layer.ts";

export interface MemoryDisk extends SpoolFiles {
  readonly contents: Map<string, Buffer>;
}

export function memoryDisk(from: ReadonlyMap<string, Buffer> = new Map()): MemoryDisk {
  const contents = new Map<string, Buffer>(Array.from(from, ([path, bytes]) => [path, Buffer.from(bytes)]));
  const existing = (path: string): Buffer => {
    const bytes = contents.get(path);
    if (bytes === undefined) throw Object.assign(new Error("no such file"), { code: "ENOENT" });
    return bytes;
  };
  return {
    contents,
    createDirectory: async () => undefined,
    list: async (directory) => [...contents.keys()].filter((path) => dirname(path) === directory).map((path) => basename(path)),
    sizeOf: async (path) => existing(path).length,
    open: async (path, mode) => {
      if (mode !== "read" && !contents.has(path)) contents.set(path, Buffer.alloc(0));
      existing(path);
      return memoryFile(contents, path);
    },
    rename: async (from, to) => {
      contents.set(to, existing(from));
      contents.delete(from);
    },
    remove: async (path) => void contents.delete(path),
    syncDirectory: async () => undefined,
  };
}

function memoryFile(contents: Map<string, Buffer>, path: string): SpoolFile {
  const resize = (length: number): Buffer => {
    const next = Buffer.alloc(length);
    contents.get(path)!.copy(next);
    contents.set(path, next);
    return next;
  };
  return {
    write: async (pieces, offset) => {
      const bytes = Buffer.concat([...pieces]);
      bytes.copy(resize(Math.max(contents.get(path)!.length, offset + bytes.length)), offset);
    },
    read: async (target, offset) => contents.get(path)!.copy(target, 0, offset),
    truncate: async (length) => void resize(length),
    sync: async () => undefined,
    close: async () => undefined,
  };
}
