/** What a gateway tells the control plane of columns that carry an entity, by what survives a rename. Names alone, never a value. */
export interface BindingsReport {
  readonly resource: string;
  readonly database: string;
  readonly databaseOid: number;
  readonly columns: readonly ReportedColumn[];
}

export interface ReportedColumn {
  readonly relationOid: number;
  readonly columnNumber: number;
  readonly entity: string;
  /** `schema.table.column` as it is called now; empty when it is gone. */
  readonly name: string;
  /** The catalog does not hold it any more. */
  readonly gone: boolean;
}

/** Columns of one report: one statement of the store, some 100 KiB on the wire. */
export const reportedColumnsMax = 1_000;

/** Where a gateway's reports go. What is said while nobody listens is lost, and said again later. */
export interface BindingsSink {
  report(report: BindingsReport): void;
}
