/** What is wrong with a manifest or a configuration file, and where. Messages are for a stranger and never repeat a secret. */

export interface Fault {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** Characters from 1. */
  readonly column?: number;
  readonly kind?: string;
  readonly name?: string;
  readonly message: string;
}

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** Keys and list indexes that lead to a value inside a document. */
export type ValuePath = readonly (string | number)[];

/** `spec.rules[2].when`; the document itself is `the document`. */
export function showPath(path: ValuePath): string {
  let shown = "";
  for (const part of path) {
    if (typeof part === "number") shown += `[${part}]`;
    else if (/^[A-Za-z_][\w-]*$/.test(part)) shown += shown === "" ? part : `.${part}`;
    else shown += `[${JSON.stringify(part)}]`;
  }
  return shown === "" ? "the document" : shown;
}

/** Faults in the order of a reader: files as given, then by place. */
export function sortFaults(faults: readonly Fault[], files: readonly string[]): readonly Fault[] {
  const order = new Map(files.map((file, index) => [file, index]));
  const fileRank = (fault: Fault): number => order.get(fault.file) ?? files.length;
  return faults.toSorted((a, b) => fileRank(a) - fileRank(b) || a.line - b.line || (a.column ?? 0) - (b.column ?? 0));
}
