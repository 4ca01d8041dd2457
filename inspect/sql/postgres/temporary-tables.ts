/**
 * Columns of temporary tables as CREATE TABLE and ALTER TABLE write them: what they hold from the start, and which values can be
 * stored without telling about them. Must never take a column for one that takes everything because its type is not looked at.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import type { OutputColumn, TemporaryRelation } from "../model.ts";
import { emptyNames, type Origins } from "./lineage.ts";
import { isSessionRelation } from "./temporary.ts";
import { fieldsIn, originsOf, takingNothing, type TemporaryInput, type TemporaryWork } from "./temporary-work.ts";
import { type Fields, namesOf, type Part, partOf, partsOf, stringField, walk } from "./tree.ts";

type Takes = "all" | "whole" | "none";

interface NewColumn {
  readonly column: OutputColumn;
  readonly takes: Takes;
  /** Computed from others of its row: the columns of the table cannot be told apart. */
  readonly generated: boolean;
}

/** The table that a CREATE TEMPORARY TABLE with a column list makes. */
export function createdTable(work: TemporaryWork, input: TemporaryInput): TemporaryRelation {
  const { body } = input.statement;
  const name = stringField(fieldsIn(body, "relation"), "relname");
  // Its rows show in the other table, and the other's rows in it.
  if (partsOf(body["inhRelations"]).length > 0) work.unknown(`temporary table ${name} of a family`);
  let table: TemporaryRelation = { kind: "table", columns: [], origins: [] };
  const constraints: Part[] = [];
  for (const element of partsOf(body["tableElts"])) {
    switch (element.kind) {
      case "ColumnDef":
        table = withColumn(table, newColumn(element, work, input), name);
        break;
      case "TableLikeClause":
        table = withColumnsLike(table, element, work, input);
        break;
      default:
        constraints.push(element);
    }
  }
  for (const constraint of constraints) table = constrained(table, constraint, work);
  return body["ofTypename"] === undefined ? table : { ...table, columns: null };
}

/** The table after ALTER TABLE. */
export function alteredTable(
  name: string,
  before: TemporaryRelation,
  work: TemporaryWork,
  input: TemporaryInput,
): TemporaryRelation {
  let table = before;
  for (const command of partsOf(input.statement.body["cmds"])) table = altered(table, command, name, work, input);
  return table;
}

function altered(
  table: TemporaryRelation,
  command: Part,
  name: string,
  work: TemporaryWork,
  input: TemporaryInput,
): TemporaryRelation {
  const { body } = command;
  const column = stringField(body, "name");
  const kind = stringField(body, "subtype");
  const definition = partOf(body["def"]);
  switch (kind) {
    case "AT_AddColumn": {
      if (definition === undefined) return { ...table, columns: null };
      const added = stringField(definition.body, "colname");
      if (body["missing_ok"] === true && table.columns?.some((known) => known.name === added) === true) return table;
      return withColumn(table, newColumn(definition, work, input), name);
    }
    case "AT_DropColumn":
      return { ...table, columns: table.columns?.filter((known) => known.name !== column) ?? null };
    case "AT_AlterColumnType":
      // Whether and how a value converts tells about it, and the conversion may look at the whole row.
      input.lineage.tell(new Set(originsOf(table)));
      return takingNothing(withOrigins(table, column, new Set(originsOf(table))));
    case "AT_ColumnDefault":
      return withOrigins(table, column, input.lineage.evaluate(definition, emptyNames).origins);
    case "AT_AddConstraint":
      input.lineage.tell(new Set(originsOf(table)));
      return definition === undefined ? takingNothing(table) : takingNothing(constrained(table, definition, work));
    case "AT_SetNotNull":
      input.lineage.tell(new Set(originsOf(table)));
      return takingNothing(table);
    default:
      if (!harmlessCommands.has(kind)) work.unknown(`ALTER of temporary table ${name}`);
      return table;
  }
}

/** They change neither columns nor what is stored. */
const harmlessCommands: ReadonlySet<string> = new Set([
  "AT_DropConstraint",
  "AT_DropNotNull",
  "AT_AddIdentity",
  "AT_SetIdentity",
  "AT_DropIdentity",
  "AT_SetStatistics",
  "AT_SetOptions",
  "AT_ResetOptions",
  "AT_SetStorage",
  "AT_SetCompression",
  "AT_SetRelOptions",
  "AT_ResetRelOptions",
  "AT_ClusterOn",
  "AT_DropCluster",
  "AT_ChangeOwner",
  "AT_SetTableSpace",
  "AT_ReplicaIdentity",
]);

/** Without an origin nothing changes: a default of constants, say. */
function withOrigins(table: TemporaryRelation, name: string, added: Origins): TemporaryRelation {
  if (added.size === 0) return table;
  const add = (origins: readonly string[]): readonly string[] => [...new Set([...origins, ...added])].sort();
  const columns = table.columns?.map((column) =>
    column.name === name ? { name, origins: add(column.origins), exact: false } : column,
  );
  return { ...table, columns: columns ?? null, origins: add(table.origins) };
}

function withColumn(table: TemporaryRelation, { column, takes, generated }: NewColumn, _of: string): TemporaryRelation {
  const origins = [...new Set([...table.origins, ...column.origins])].sort();
  if (table.columns === null || generated)
    return { ...table, columns: null, origins: [...new Set([...originsOf(table), ...origins])] };
  return {
    ...table,
    columns: [...table.columns, column],
    origins,
    ...(takes === "whole" ? {} : { takes: { ...table.takes, [column.name]: takes } }),
  };
}

function newColumn(definition: Part, work: TemporaryWork, input: TemporaryInput): NewColumn {
  const { body } = definition;
  const name = stringField(body, "colname");
  let takes = takenByType(fieldsIn(body, "typeName"), input);
  let generated = false;
  const origins = new Set<string>();
  for (const constraint of partsOf(body["constraints"])) {
    const kind = stringField(constraint.body, "contype");
    switch (kind) {
      case "CONSTR_DEFAULT":
        for (const origin of input.lineage.evaluate(partOf(constraint.body["raw_expr"]), emptyNames).origins) origins.add(origin);
        break;
      case "CONSTR_GENERATED":
        generated = true;
        break;
      case "CONSTR_NOTNULL":
        takes = takes === "all" ? "whole" : takes;
        break;
      case "CONSTR_NULL":
      case "CONSTR_IDENTITY":
        break;
      default:
        takes = "none";
        if (kind === "CONSTR_FOREIGN") followsOther(constraint.body, work);
    }
  }
  return { column: { name, origins: [...origins].sort(), exact: false }, takes, generated };
}

/** Any value is a text. Other types of the server take what they hold elsewhere; a length, a domain's check may refuse it. */
function takenByType(type: Fields, { index }: TemporaryInput): Takes {
  const names = namesOf(type["names"]);
  const name = names.at(-1) ?? "";
  if (partsOf(type["typmods"]).length > 0 || index.typesNamed(name).length > 0) return "none";
  const isText = name === "text" && (names.length === 1 || names[0] === "pg_catalog");
  return isText && partsOf(type["arrayBounds"]).length === 0 ? "all" : "whole";
}

/** A foreign key that passes changes on stores what was written elsewhere. */
function followsOther(body: Fields, work: TemporaryWork): void {
  if (body["fk_upd_action"] === "c") work.unknown("ON UPDATE CASCADE of a temporary table");
}

function constrained(table: TemporaryRelation, constraint: Part, work: TemporaryWork): TemporaryRelation {
  const { body } = constraint;
  if (stringField(body, "contype") === "CONSTR_FOREIGN") followsOther(body, work);
  const names = new Set([...namesOf(body["keys"]), ...namesOf(body["fk_attrs"])]);
  walk(constraint, ({ kind, body: reference }) => {
    if (kind === "ColumnRef") for (const name of namesOf(reference["fields"])) names.add(name);
    if (kind === "IndexElem") names.add(stringField(reference, "name"));
  });
  const known = (table.columns ?? []).filter((column) => names.has(column.name)).map((column) => column.name);
  // A whole row, or what is not seen here: any column.
  const checked = known.length === names.size ? known : (table.columns ?? []).map((column) => column.name);
  return { ...table, takes: { ...table.takes, ...Object.fromEntries(checked.map((name): [string, "none"] => [name, "none"])) } };
}

function withColumnsLike(
  table: TemporaryRelation,
  like: Part,
  work: TemporaryWork,
  { index }: TemporaryInput,
): TemporaryRelation {
  const source = fieldsIn(like.body, "relation");
  const schema = stringField(source, "schemaname");
  const found = index.find(schema === "" ? undefined : schema, stringField(source, "relname"));
  const options = like.body["options"] !== undefined && like.body["options"] !== 0;
  const only = found.length === 1 ? found[0]! : undefined;
  if (only === undefined || table.columns === null) return { ...table, columns: null };
  const likeThis = columnsOf(only);
  if (likeThis === null) return { ...table, columns: null };
  if (options && only.hiddenFunctions.length > 0) work.unknown(`defaults and checks like those of ${only.schema}.${only.name}`);
  if (options && only.columns.some((column) => column.generatedFrom !== undefined)) return { ...table, columns: null };
  const columns = likeThis.map((name): OutputColumn => ({ name, origins: [], exact: false }));
  const takes = Object.fromEntries(likeThis.map((name): [string, "none"] => [name, "none"]));
  return { ...table, columns: [...table.columns, ...columns], ...(options ? { takes: { ...table.takes, ...takes } } : {}) };
}

function columnsOf(relation: CatalogRelation): readonly string[] | null {
  if (isSessionRelation(relation) && relation.temporary.columns === null) return null;
  return relation.columns.length === 0 ? null : relation.columns.map((column) => column.name);
}
