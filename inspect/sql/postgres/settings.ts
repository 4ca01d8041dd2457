/**
 * Which settings a statement changes and to what. Must never overlook a change made by a function call. A computed name is `*`.
 */
import type { StatementModel } from "../model.ts";
import { literalText } from "./classify.ts";
import { calledName } from "./functions.ts";
import { namesOf, type Part, partsOf, stringField, walk } from "./tree.ts";

export type SettingChange = StatementModel["settings"][number];

export function settingsOf(statement: Part): readonly SettingChange[] {
  if (statement.kind === "VariableSetStmt") return variableSet(statement);
  const found: SettingChange[] = [];
  walk(statement, (part) => {
    if (part.kind !== "FuncCall" || calledName(part).at(-1) !== "set_config") return;
    const [name, value, local] = partsOf(part.body["args"]);
    found.push({
      name: literalText(name)?.toLowerCase() ?? "*",
      value: literalText(value),
      local: isTrue(local),
    });
  });
  return found;
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
                value: literalText(partsOf([option.body["arg"]])[0]),
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
  const texts = args.map((arg) => (arg.kind === "String" ? (namesOf([{ String: arg.body }])[0] ?? null) : literalText(arg)));
  return texts.every((text) => text !== null) ? texts.join(", ") : null;
}

function isTrue(part: Part | undefined): boolean {
  const text = literalText(part)?.toLowerCase();
  return text === "on" || text === "true" || text === "t";
}
