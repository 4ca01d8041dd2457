/**
 * Edits one cell in `source[start, end)`, in the format the protocol sends it. Returns undefined to leave it as it is, null for
 * SQL NULL, or the bytes that replace it. Pure; must not keep `source`, must not write to it.
 */
export interface CellEdit {
  (source: Buffer, start: number, end: number): Buffer | null | undefined;
  /** It replaces NULL too (called with an empty cell): whether a derived value is NULL may be a condition on a protected one. */
  readonly editsNull?: boolean;
}
