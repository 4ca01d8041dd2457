/**
 * Edits for cells of COPY data, of which the wire names no type: the catalog's word is taken for built-in types alone, since a
 * type of a user's may be a domain, an enum or a composite. What cannot be known becomes NULL, or is searched for all it may be.
 */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { maskExact, type ScanRule, scanCell, UNKNOWN_TYPE_OID } from "./cell-edit.ts";
import { typeShape } from "./type-shape.ts";

const nullCell: CellEdit = () => null;

/** For a protected column. `typeOid`: of the unmodified column; undefined for what is derived, and where it is not known. */
export function maskCopied(operator: MaskOperator, typeOid: number | undefined, format: "text" | "binary"): CellEdit {
  if (typeOid === undefined || typeShape(typeOid) === "user") return nullCell;
  return maskExact(operator, typeOid, format);
}

/** For a column nobody declared. Null: its type cannot hold text. */
export function scanCopied(rules: readonly ScanRule[], typeOid: number | undefined, format: "text" | "binary"): CellEdit | null {
  return scanCell(rules, typeOid ?? UNKNOWN_TYPE_OID, format);
}
