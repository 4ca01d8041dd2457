/**
 * What the model of a statement says of its columns, beside what the server said when it ran: number, names, and the base columns
 * that the wire names. Pure. A fault is a column of which the model says less than the wire.
 */
import type { CatalogIndex } from "@sluice/inspect/sql/catalog-index.ts";
import type { StatementModel } from "@sluice/inspect/sql/model.ts";
import type { Field } from "./server-session.ts";

export type FaultKind = "count" | "names" | "origin" | "exact" | "path" | "role" | "temporary" | "grammar";

export interface Fault {
  readonly kind: FaultKind;
  readonly what: string;
}

export interface Columns {
  /** All output columns that were compared. */
  all: number;
  /** The wire names a base column of a table. */
  named: number;
  /** … and the model says exactly that one; or it is among the origins; or `*`. */
  exact: number;
  among: number;
  unknown: number;
  /** The wire names none, and the model says `*`. */
  unnamedUnknown: number;
  /** A view's or temporary relation's, or of a system relation: names nothing that could be compared. */
  otherRelation: number;
  /** Results of statements that were not thought to return rows. */
  unexpected: number;
  /** Statements whose number of columns the model does not know. */
  countUnknown: number;
}

export const noColumns = (): Columns => ({
  all: 0,
  named: 0,
  exact: 0,
  among: 0,
  unknown: 0,
  unnamedUnknown: 0,
  otherRelation: 0,
  countUnknown: 0,
  unexpected: 0,
});

const UNKNOWN = { origins: ["*"], exact: false };

/** Compares one result. `onUnknown` is told of columns that are `*` though the wire names a base column. */
export function compareColumns(
  model: StatementModel,
  fields: readonly Field[],
  index: CatalogIndex,
  columns: Columns,
  onUnknown: () => void,
): readonly Fault[] {
  const faults: Fault[] = [];
  // SHOW spells a setting's name as the server has it.
  const shows = model.effects.some(({ name }) => name === "show");
  const nameOf = (name: string): string => (shows ? name.toLowerCase() : name);
  const known = (model.columnsKnown ? model.columns : null) ?? undefined;
  // A rule or a function in between: the gateway takes every column for `*`.
  if (model.columns === null) columns.unexpected += 1;
  else if (known === undefined) columns.countUnknown += 1;
  if (known === undefined) {
    // Nothing to hold against the names.
  } else if (known.length !== fields.length)
    return [{ kind: "count", what: `${known.length} columns instead of ${fields.length}` }];
  else if (known.some(({ name }, at) => nameOf(name) !== nameOf(fields[at]!.name)))
    faults.push({ kind: "names", what: `${listed(known)} instead of ${listed(fields)}` });
  fields.forEach((field, at) => {
    const column = known?.[at] ?? model.columns?.[0] ?? UNKNOWN;
    columns.all += 1;
    const unknown = column.origins.includes("*");
    const base = baseColumn(field, index);
    if (base === undefined) {
      if (field.tableOid !== 0) columns.otherRelation += 1;
      else if (unknown) columns.unnamedUnknown += 1;
      return;
    }
    columns.named += 1;
    if (unknown) {
      columns.unknown += 1;
      onUnknown();
    } else if (!column.origins.includes(base))
      faults.push({ kind: "origin", what: `${field.name} holds ${base}, not ${column.origins.join() || "nothing"}` });
    else if (column.exact && column.origins.length > 1)
      faults.push({ kind: "exact", what: `${field.name} is ${base}, not exactly ${column.origins.join()}` });
    else if (column.exact) columns.exact += 1;
    else columns.among += 1;
  });
  return faults;
}

/** The column that the wire names, where it is one of a table that others see too. */
function baseColumn({ tableOid, column }: Field, index: CatalogIndex): string | undefined {
  const relation = tableOid === 0 ? undefined : index.byOid(tableOid);
  if (relation === undefined || relation.system || !stored.has(relation.kind) || relation.schema === "pg_temp") return undefined;
  const found = relation.columns.find(({ number }) => number === column);
  return found === undefined ? undefined : `${relation.schema}.${relation.name}.${found.name}`;
}

const stored: ReadonlySet<string> = new Set(["table", "partitioned", "foreign"]);

function listed(columns: readonly { readonly name: string }[]): string {
  return columns.map(({ name }) => name).join();
}
