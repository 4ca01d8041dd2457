/** How the rows of a COPY are written: between who reads the statement and who edits the bytes. */

/** What an editor of COPY data has to know to find the cells. Source: PostgreSQL documentation, "COPY", "File Formats". */
export interface CopyForm {
  readonly format: "text" | "csv" | "binary";
  readonly header: boolean;
  /** One byte each; `nullText` as it is written for NULL. Meaningless in binary. */
  readonly delimiter: string;
  readonly nullText: string;
  readonly quote: string;
  readonly escape: string;
}
