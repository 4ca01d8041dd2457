/**
 * Batches of records as messages and back: packed, signed by their gateway, in as many pieces as the server's largest message makes
 * necessary. Never unpacks more than the limit says, nor before the signature was checked.
 */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type RecordBatch, RecordBatchSchema } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { RecordSource } from "../bus.ts";
import type { SessionRecord } from "../session-events.ts";
import { decodeRecord, type EncodedRecord } from "../spool/record-codec.ts";
import { checkProof, type ProofSigner, type SignedField } from "./proof.ts";
import { isWellFormed } from "./record-shape.ts";

/** One message of a batch, as read, with nothing checked but its shape. */
export interface BatchPiece {
  readonly source: RecordSource;
  readonly part: number;
  readonly parts: number;
  readonly bytes: Uint8Array;
  readonly certificate: Uint8Array;
  readonly signature: Uint8Array;
}

export interface UnpackedRecords {
  readonly records: readonly SessionRecord[];
  readonly encoded: readonly EncodedRecord[];
}

const CONTEXT = "sluice record batch v1";
/** What a message holds besides its piece: names, places, a certificate of about 700 bytes, NATS's headers. */
const OVERHEAD_BYTES = 4 * 1024;
/** A piece is at least so large, whatever a server says; and so no batch has more pieces than `PARTS_MAX`. */
const PIECE_BYTES_MIN = 16 * 1024;
const PARTS_MAX = 4_096;
const COMPRESSION = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
const compress = promisify<Buffer, typeof COMPRESSION, Buffer>(zstdCompress);
const decompress = promisify<Uint8Array, { readonly maxOutputLength: number }, Buffer>(zstdDecompress);

/** The messages of one batch. `messageBytesMax`: the server's bound. */
export async function encodeBatch(
  source: RecordSource,
  encoded: readonly EncodedRecord[],
  signer: ProofSigner,
  messageBytesMax: number,
): Promise<readonly Uint8Array[]> {
  const packed = await packRecords(encoded);
  const { certificate, signature } = signer.sign(CONTEXT, fieldsOf(source, packed));
  const pieceBytes = Math.max(PIECE_BYTES_MIN, messageBytesMax - OVERHEAD_BYTES);
  const parts = Math.max(1, Math.ceil(packed.length / pieceBytes));
  return Array.from({ length: parts }, (_, part) => {
    const records = packed.subarray(part * pieceBytes, (part + 1) * pieceBytes);
    const { gateway, spoolId, from, next, kept, runStart } = source;
    const places = { from: BigInt(from), next: BigInt(next), kept: BigInt(kept), runStart: BigInt(runStart) };
    return toBinary(
      RecordBatchSchema,
      create(RecordBatchSchema, { gateway, spoolId, ...places, records, part, parts, certificate, signature }),
    );
  });
}

/** Null for anything that is no piece of a batch. */
export function decodePiece(bytes: Uint8Array): BatchPiece | null {
  let batch: RecordBatch;
  try {
    batch = fromBinary(RecordBatchSchema, bytes);
  } catch {
    return null;
  }
  const { gateway, spoolId, part, parts, records, certificate, signature } = batch;
  const [from, next, kept, runStart] = [batch.from, batch.next, batch.kept, batch.runStart].map(Number);
  if (from === undefined || next === undefined || kept === undefined || runStart === undefined) return null;
  if (![from, next, kept, runStart].every(Number.isSafeInteger) || from > next || kept > from) return null;
  if (!/^[a-z0-9-]{1,63}$/.test(gateway) || !/^[0-9a-f]{32}$/.test(spoolId)) return null;
  if (parts < 1 || parts > PARTS_MAX || part >= parts) return null;
  return { source: { gateway, spoolId, from, next, kept, runStart }, part, parts, bytes: records, certificate, signature };
}

/** Null when the gateway that the batch names signed it, with a certificate that was good at `atMs`; else in words why not. */
export function checkBatch(piece: BatchPiece, packed: Uint8Array, identity: NodeIdentity, atMs: number): string | null {
  const expected = { role: "gateway", name: piece.source.gateway, atMs } as const;
  return checkProof(identity, expected, CONTEXT, fieldsOf(piece.source, packed), piece);
}

export async function packRecords(encoded: readonly EncodedRecord[]): Promise<Buffer> {
  return compress(Buffer.concat(encoded.flatMap(({ head, raw }) => (raw === null ? [head] : [head, raw]))), COMPRESSION);
}

/** The records, or in words why there are none. */
export async function unpackRecords(packed: Uint8Array, bytesMax: number): Promise<UnpackedRecords | string> {
  let plain: Buffer;
  try {
    plain = await decompress(packed, { maxOutputLength: bytesMax });
  } catch {
    return "its records cannot be unpacked";
  }
  const records: SessionRecord[] = [];
  const encoded: EncodedRecord[] = [];
  for (let at = 0; at < plain.length; ) {
    const decoded = decodeRecord(plain, at, bytesMax);
    if (decoded.kind !== "record") return decoded.kind === "corrupt" ? decoded.reason : "its last record is cut off";
    if (!isWellFormed(decoded.record)) return "a record in it is of a shape that nobody can keep";
    records.push(decoded.record);
    encoded.push({ head: plain.subarray(at, decoded.end), raw: null, byteLength: decoded.end - at });
    at = decoded.end;
  }
  return { records, encoded };
}

function fieldsOf(source: RecordSource, packed: Uint8Array): readonly SignedField[] {
  const { gateway, spoolId, from, next, kept, runStart } = source;
  return [gateway, spoolId, from, next, kept, runStart, packed];
}
