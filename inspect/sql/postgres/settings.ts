/**
 * Which settings a statement changes and to what. Must never overlook a change made by a function call, or by a write to the view
 * that stands for it. A name that cannot be known is `*`.
 */
import type { StatementModel } from "../model.ts";
import { calledName } from "./functions.ts";
import { constantText, namesOf, type Part, partOf, partsOf, stringField, walk } from "./tree.ts";

export type SettingChange = StatementModel["settings"][number];

export function settingsOf(statement: Part): readonly SettingChange[] {
  if (statement.kind === "VariableSetStmt") return variableSet(statement);
  const found: SettingChange[] = [];
  walk(statement, (part) => {
    if (writesSettings(part)) found.push({ name: "*", value: null, local: false });
    if (part.kind !== "FuncCall" || calledName(part).at(-1) !== "set_config") return;
    const [name, value, local] = partsOf(part.body["args"]);
    found.push({
      name: plainText(name)?.toLowerCase() ?? "*",
      value: plainText(value),
      local: plainBoolean(local) === true,
    });
  });
  return found;
}

/** The text of a string constant; null for anything else. A cast to a type with a length would cut it: only plain ones are read. */
export function plainText(part: Part | undefined): string | null {
  if (part?.kind === "TypeCast") return isPlainCast(part) ? plainText(partOf(part.body["arg"])) : null;
  return constantText(part);
}

/** What boolin makes of a constant; null where that is not plain. */
export function plainBoolean(part: Part | undefined): boolean | null {
  const text = plainText(part)?.trim().toLowerCase() ?? "";
  if (/^(t|tr|tru|true|y|ye|yes|on|1)$/.test(text)) return true;
  return /^(f|fa|fal|fals|false|n|no|of|off|0)$/.test(text) ? false : null;
}

function isPlainCast(cast: Part): boolean {
  const type = cast.body["typeName"];
  if (typeof type !== "object" || type === null) return false;
  const body = type as Part["body"]; // unwrapped TypeName
  const names = namesOf(body["names"]);
  const plain = names.length === 1 || (names.length === 2 && names[0] === "pg_catalog");
  return (
    plain && plainTypes.has(names.at(-1) ?? "") && partsOf(body["typmods"]).length + partsOf(body["arrayBounds"]).length === 0
  );
}

const plainTypes: ReadonlySet<string> = new Set(["text", "varchar", "bool"]);

/** A rule turns UPDATE of pg_settings into set_config. */
function writesSettings(part: Part): boolean {
  if (part.kind !== "UpdateStmt" && part.kind !== "MergeStmt" && part.kind !== "InsertStmt") return false;
  const relation = part.body["relation"];
  return typeof relation === "object" && relation !== null && stringField(relation as Part["body"], "relname") === "pg_settings"; // unwrapped RangeVar
}

function variableSet(statement: Part): readonly SettingChange[] {
  const { body } = statement;
  const kind = stringField(body, "kind");
  const name = stringField(body, "name").toLowerCase();
  const local = body["is_local"] === true;
  switch (kind) {
    case "VAR_RESET_ALL":
      return [{ name: "all", value: null, local: false }];
    case "VAR_SET_VALUE":
      return [{ name, value: listText(partsOf(body["args"])), local }];
    case "VAR_SET_MULTI":
      return partsOf(body["args"]).flatMap((option) =>
        option.kind === "DefElem"
          ? [
              {
                name: stringField(option.body, "defname").toLowerCase(),
                value: plainText(partsOf([option.body["arg"]])[0]),
                local,
              },
            ]
          : [],
      );
    default:
      return [{ name, value: null, local }];
  }
}

/** `a, b` for a list of constants; null where one is not. */
function listText(args: readonly Part[]): string | null {
  const texts = args.map((arg) => (arg.kind === "String" ? (namesOf([{ String: arg.body }])[0] ?? null) : plainText(arg)));
  return texts.every((text) => text !== null) ? texts.join(", ") : null;
}
