/**
 * How a COPY TO STDOUT writes its rows, from its options. Must never guess: where an option is not known, or one makes rows that
 * cannot be read back without doubt, there is no form, and who needs one refuses the statement.
 * Spec: PostgreSQL documentation, "COPY"; ProcessCopyOptions in src/backend/commands/copy.c.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import type { CopyForm } from "@sluice/core/copy-form.ts";
import type { Rows } from "./lineage.ts";
import { qualifiedName } from "./relation-rows.ts";
import { namesOf, type Part, partOf, partsOf, stringField } from "./tree.ts";

/** The form of a CopyStmt's rows; undefined when it is not one that is sent to the caller, or cannot be known. */
export function copyFormOf(statement: Part): CopyForm | undefined {
  const { kind, body } = statement;
  if (kind !== "CopyStmt" || body["is_from"] === true || body["is_program"] === true || body["filename"] !== undefined)
    return undefined;
  const given: Given = {};
  for (const option of partsOf(body["options"])) if (!take(option, given)) return undefined;
  const format = given.format ?? "text";
  const csv = format === "csv";
  const quote = given.quote ?? '"';
  const form: CopyForm = {
    format,
    header: given.header ?? false,
    delimiter: given.delimiter ?? (csv ? "," : "\t"),
    nullText: given.nullText ?? (csv ? "" : "\\N"),
    quote,
    escape: given.escape ?? quote,
  };
  return isReadable(form) ? form : undefined;
}

/** COPY of a table leaves out what is generated, unlike SELECT. `named`: the relations its name may mean. */
export function withoutGenerated(rows: Rows, named: readonly CatalogRelation[]): Rows {
  const generated = new Set<string>();
  for (const relation of named) {
    for (const column of relation.columns) {
      if (column.generatedFrom !== undefined) generated.add(`${qualifiedName(relation)}.${column.name}`);
    }
  }
  if (generated.size === 0 || rows.columns === null) return rows;
  const kept = rows.columns.filter(({ origins }) => origins.size !== 1 || ![...origins].some((origin) => generated.has(origin)));
  return { columns: kept, all: rows.all };
}

interface Given {
  format?: CopyForm["format"];
  header?: boolean;
  delimiter?: string;
  nullText?: string;
  quote?: string;
  escape?: string;
}

/** False when it is not known what the option does. The last one holds, though the target accepts none twice. */
function take(option: Part, given: Given): boolean {
  if (option.kind !== "DefElem") return false;
  const argument = partOf(option.body["arg"]);
  const text = textOf(argument);
  const name = stringField(option.body, "defname");
  switch (name) {
    case "format":
      if (text !== "text" && text !== "csv" && text !== "binary") return false;
      given.format = text;
      return true;
    case "header": {
      const header = argument === undefined ? true : truth(text);
      if (header !== undefined) given.header = header;
      return header !== undefined;
    }
    case "delimiter":
    case "quote":
    case "escape":
      if (text !== undefined) given[name] = text;
      return text !== undefined;
    case "null":
      if (text !== undefined) given.nullText = text;
      return text !== undefined;
    case "encoding":
      // The session's is UTF-8, so that this changes nothing.
      return text !== undefined && utf8Names.has(text.toLowerCase().replaceAll(/[^a-z0-9]/g, ""));
    case "force_quote":
      return true; // quotes are read wherever they are
    case "freeze":
      return truth(text) !== undefined || argument === undefined;
    default:
      return false;
  }
}

const utf8Names: ReadonlySet<string> = new Set(["utf8", "unicode"]);

/** An option's value as the target reads it; undefined for lists and for what is not a value. */
function textOf(argument: Part | undefined): string | undefined {
  switch (argument?.kind) {
    case "String":
      return stringField(argument.body, "sval");
    case "Integer": {
      const value = argument.body["ival"];
      return String(typeof value === "number" ? value : 0); // the parser leaves a zero out
    }
    case "Float":
      return stringField(argument.body, "fval");
    case "Boolean":
      return argument.body["boolval"] === true ? "true" : "false";
    case "TypeName":
      return namesOf(argument.body["names"]).at(-1);
    default:
      return undefined;
  }
}

/** As defGetBoolean; `match` is for COPY FROM alone. */
function truth(text: string | undefined): boolean | undefined {
  switch (text?.toLowerCase()) {
    case "true":
    case "on":
    case "1":
      return true;
    case "false":
    case "off":
    case "0":
      return false;
    default:
      return undefined;
  }
}

/**
 * The target would refuse most of the rest. Not so a NULL with a backslash, behind which a text row's cells could end elsewhere
 * than they seem to; `\N` alone is no way to write a value.
 */
function isReadable({ format, delimiter, nullText, quote, escape }: CopyForm): boolean {
  if (format === "binary") return true;
  if (!isOneAscii(delimiter) || /[\r\n]/.test(delimiter + nullText) || nullText.includes(delimiter)) return false;
  if (format === "text") return !/[\\.a-z0-9]/.test(delimiter) && (nullText === "\\N" || !nullText.includes("\\"));
  if (!isOneAscii(quote) || !isOneAscii(escape) || /[\r\n]/.test(quote + escape)) return false;
  return delimiter !== quote && delimiter !== escape && !nullText.includes(quote);
}

function isOneAscii(text: string): boolean {
  return text.length === 1 && text.charCodeAt(0) > 0 && text.charCodeAt(0) < 0x80;
}
