/**
 * Tells what a crash did to the end of an unfinished recording from what somebody did to it. Pure. A crash damages only what was in its
 * last write; a whole block that was written after the damaged one was on disk proves more than a crash.
 */
import { BLOCK_HEAD_BYTES, BLOCK_MAGIC, chainHash, decodeBlockHead, HASH_BYTES } from "./layout.ts";

/** More than any one write of the recorder: a batch is about 4 MiB, and one record may be 17. */
export const TORN_BYTES_MAX: number = 64 * 1024 * 1024;

/**
 * `rest` is the file from the first damaged byte on, `blocks` the number of whole blocks before it. True when the damaged block was on disk
 * before: then it was changed, and the recording must be kept as it is.
 */
export function provesTampering(rest: Buffer, blocks: number): boolean {
  if (rest.length > TORN_BYTES_MAX) return true;
  for (let at = rest.indexOf(BLOCK_MAGIC); at >= 0; at = rest.indexOf(BLOCK_MAGIC, at + 1)) {
    if (rest.length - at < BLOCK_HEAD_BYTES + HASH_BYTES) return false;
    const head = decodeBlockHead(rest.subarray(at, at + BLOCK_HEAD_BYTES));
    if (typeof head === "string" || head.durableBlocks <= blocks || head.index < head.durableBlocks) continue;
    const end = at + BLOCK_HEAD_BYTES + head.storedBytes;
    if (end + HASH_BYTES > rest.length) continue;
    if (chainHash(rest.subarray(at, end)).equals(rest.subarray(end, end + HASH_BYTES))) return true;
  }
  return false;
}
