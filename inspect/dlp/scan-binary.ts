/**
 * Cells in binary format that are more than one text: arrays and records are walked and rebuilt, anything unknown is searched
 * as bytes and becomes NULL when hit. A form that does not add up becomes NULL too: what cannot be read cannot be cleared.
 * Formats: array_send and record_send in PostgreSQL's src/backend/utils/adt (arrayfuncs.c, rowtypes.c).
 */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import { findCandidates } from "./candidates.ts";
import { decodeCell, isUtf8Cell } from "./cell-text.ts";
import { findRuleHits, type ScanRule } from "./scan-rules.ts";

/** Says how a value of a type inside a container is edited; null when it cannot hold text. */
export type EditOfType = (typeOid: number) => CellEdit | null;

const INT_BYTES = 4;
/** MAXDIM in src/include/utils/array.h. */
const DIMENSIONS_MAX = 6;

/** An array: dimensions, null flag, element type; a size and a lower bound per dimension; then the elements. */
export function editArray(editOf: EditOfType): CellEdit {
  return (source, start, end) => {
    if (end - start < 3 * INT_BYTES) return null;
    const dimensions = source.readInt32BE(start);
    if (dimensions < 0 || dimensions > DIMENSIONS_MAX) return null;
    const edit = editOf(source.readUInt32BE(start + 2 * INT_BYTES));
    if (edit === null) return undefined;
    const rewrite = new Rewrite(source, start, end);
    let at = start + (3 + 2 * dimensions) * INT_BYTES;
    while (at < end) {
      at = rewrite.value(at, edit);
      if (at === -1) return null;
    }
    const rebuilt = at === end ? rewrite.finish() : null;
    if (rebuilt && rewrite.madeNull) rebuilt.writeInt32BE(1, INT_BYTES); // the flag that says: there are NULLs
    return rebuilt;
  };
}

/** A record: the number of fields; type and value of each. */
export function editRecord(editOf: EditOfType): CellEdit {
  return (source, start, end) => {
    if (end - start < INT_BYTES) return null;
    const fields = source.readInt32BE(start);
    const rewrite = new Rewrite(source, start, end);
    let at = start + INT_BYTES;
    for (let field = 0; field < fields; field += 1) {
      if (at + INT_BYTES > end) return null;
      at = rewrite.value(at + INT_BYTES, editOf(source.readUInt32BE(at)));
      if (at === -1) return null;
    }
    return at === end ? rewrite.finish() : null;
  };
}

/** Copies a container with some of its values replaced; makes nothing as long as none is. */
class Rewrite {
  madeNull = false;
  private readonly source: Buffer;
  private readonly end: number;
  private readonly parts: Buffer[] = [];
  private copied: number;

  constructor(source: Buffer, start: number, end: number) {
    this.source = source;
    this.end = end;
    this.copied = start;
  }

  /** Edits the length-prefixed value at `at`. Returns where the next one starts, -1 when the length does not fit. */
  value(at: number, edit: CellEdit | null): number {
    const dataStart = at + INT_BYTES;
    if (dataStart > this.end) return -1;
    const length = this.source.readInt32BE(at);
    if (length < 0) return length === -1 ? dataStart : -1;
    const dataEnd = dataStart + length;
    if (dataEnd > this.end) return -1;
    const replacement = edit === null ? undefined : edit(this.source, dataStart, dataEnd);
    if (replacement === undefined) return dataEnd;
    const prefix = Buffer.alloc(INT_BYTES);
    prefix.writeInt32BE(replacement === null ? -1 : replacement.length);
    this.parts.push(this.source.subarray(this.copied, at), prefix);
    if (replacement === null) this.madeNull = true;
    else this.parts.push(replacement);
    this.copied = dataEnd;
    return dataEnd;
  }

  finish(): Buffer | undefined {
    if (this.parts.length === 0) return undefined;
    return Buffer.concat([...this.parts, this.source.subarray(this.copied, this.end)]);
  }
}

/** Bytes of an unknown form: NULL when any readable stretch in them holds a hit. `wanted`: bits of `candidates.ts`, 0 for all. */
export function editOpaque(rules: readonly ScanRule[], wanted: number): CellEdit {
  return (source, start, end) => {
    let at = start;
    while (at < end) {
      if (!isReadable(source[at]!)) {
        at += 1; // inside the bounds of the loop
        continue;
      }
      const from = at;
      while (at < end && isReadable(source[at]!)) at += 1; // inside the bounds of the loop
      if (stretchHits(rules, wanted, source, from, at)) return null;
    }
    return undefined;
  };
}

/** A length before the value may look like up to three more characters of it (the fourth would mean gigabytes). */
const LENGTH_CHARS_MAX = 3;

function stretchHits(rules: readonly ScanRule[], wanted: number, source: Buffer, start: number, end: number): boolean {
  for (let from = start; from < end && from <= start + LENGTH_CHARS_MAX; from += 1) {
    if (wanted !== 0 && (findCandidates(source, from, end) & wanted) === 0) continue;
    if (findRuleHits(rules, decodeCell(source, from, end, "latin1")).length > 0) return true;
    if (isUtf8Cell(source, from, end) && findRuleHits(rules, decodeCell(source, from, end, "utf8")).length > 0) return true;
  }
  return false;
}

function isReadable(byte: number): boolean {
  return byte >= 0x20 && byte !== 0x7f;
}
