/**
 * A catalog on its way from the agent that read it to the thread that keeps it: JSON, compressed with zstd. Nobody between looks
 * inside, and nothing here holds up an event loop for as long as a big catalog takes: work is done in slices or off the thread.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createZstdCompress, zstdDecompressSync } from "node:zlib";
import type { Catalog } from "@sluice/core/catalog.ts";

export interface EncodedCatalog {
  /** On a shared buffer, so that no thread needs a copy. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** SHA-256 of `bytes`: equal digests are equal catalogs. */
  readonly digest: string;
}

/** Relations made into text before others get their turn: some hundred microseconds. */
const SLICE_RELATIONS = 50;
/** Bytes hashed before others get their turn: about a millisecond. */
const SLICE_BYTES = 512 * 1024;

export async function encodeCatalog(catalog: Catalog): Promise<EncodedCatalog> {
  const zstd = createZstdCompress();
  const pieces: Uint8Array[] = [];
  zstd.on("data", (piece: Buffer) => void pieces.push(piece));
  const ended = once(zstd, "end");
  ended.catch(() => undefined); // awaited below, unless what comes before has failed
  const { relations, ...others } = catalog;
  zstd.write(`${JSON.stringify(others).slice(0, -1)},"relations":[`);
  for (let at = 0; at < relations.length; at += SLICE_RELATIONS) {
    const slice = JSON.stringify(relations.slice(at, at + SLICE_RELATIONS)).slice(1, -1);
    const ready = zstd.write(at === 0 ? slice : `,${slice}`);
    await (ready ? othersTurn() : once(zstd, "drain"));
  }
  zstd.end("]}");
  await ended;
  return await encodedCatalog(pieces);
}

/** What arrived in pieces. */
export async function encodedCatalog(pieces: readonly Uint8Array[]): Promise<EncodedCatalog> {
  const bytes = new Uint8Array(new SharedArrayBuffer(pieces.reduce((sum, piece) => sum + piece.length, 0)));
  let end = 0;
  for (const piece of pieces) {
    bytes.set(piece, end);
    end += piece.length;
  }
  const hash = createHash("sha256");
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    if (at > 0) await othersTurn();
    hash.update(bytes.subarray(at, at + SLICE_BYTES));
  }
  return { bytes, digest: hash.digest("base64") };
}

/** The JSON. Throws when it is not compressed data, or more than `bytesMax`. Takes its time: for the thread that keeps catalogs. */
export function decompressCatalog(bytes: Uint8Array, bytesMax: number): Buffer {
  return zstdDecompressSync(bytes, { maxOutputLength: bytesMax });
}

function othersTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
