/**
 * Edits one cell in `source[start, end)`, in the format the protocol sends it. Returns undefined to leave it as it is, null for
 * SQL NULL, or the bytes that replace it. Pure; must not keep `source`, must not write to it.
 */
export type CellEdit = (source: Buffer, start: number, end: number) => Buffer | null | undefined;
