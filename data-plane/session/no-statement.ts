/** A statement that does nothing: for asking what a caller may see apart from any statement. */
import type { StatementModel } from "@sluice/inspect/sql/model.ts";

export const NO_STATEMENT: StatementModel = {
  class: "read",
  effects: [],
  relations: [],
  influences: [],
  bulkExport: false,
  bulkShape: false,
  bulkRelations: [],
  hasWhere: false,
  limit: null,
  undecided: [],
  columns: null,
  columnsKnown: true,
  writeFlows: [],
  reaches: [],
  sensitiveCatalogs: [],
  escapes: [],
  settings: [],
  scopeChanges: [],
  copy: "none",
  changesCatalog: false,
};
