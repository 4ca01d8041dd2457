/**
 * The model of any statement. Those around another (EXPLAIN, PREPARE, EXECUTE, DECLARE, FETCH, CREATE … AS EXECUTE) are the inner
 * one's model with what the outer one changes about it. Must never report less than what the outer statement runs.
 */
import type { OutputColumn, SessionScope, StatementEffect, StatementModel } from "../model.ts";
import { lookUp } from "../scope.ts";
import { unsure } from "../unsure.ts";
import { effectsOf, explainExecutes, gravest } from "./classify.ts";
import { plainModel, type Surroundings } from "./plain-statement.ts";
import { reachedCode } from "./reached-code.ts";
import { settingsOf } from "./settings.ts";
import { temporaryName } from "./temporary.ts";
import { storedLater, temporaryFromExecuted } from "./temporary-executed.ts";
import { type Part, partOf, stringField } from "./tree.ts";

/** What a statement does, in a session with these names. */
export function statementModel(statement: Part, around: Surroundings): StatementModel {
  switch (statement.kind) {
    case "ExplainStmt":
      return explainModel(statement, around);
    case "PrepareStmt":
      return prepareModel(statement, around);
    case "DeclareCursorStmt":
      return declareModel(statement, around);
    case "ExecuteStmt":
      return executeModel(statement, around);
    case "FetchStmt":
      return fetchModel(statement, around);
    case "CreateTableAsStmt": {
      const query = partOf(statement.body["query"]);
      if (query?.kind === "ExecuteStmt") return createFromModel(statement, executeModel(query, around), around);
      return plainModel(statement, around);
    }
    default:
      return plainModel(statement, around);
  }
}

function explainModel(statement: Part, around: Surroundings): StatementModel {
  const inner = innerModel(statement, around);
  const explain: StatementEffect = { name: "explain", class: "read" };
  const columns: readonly OutputColumn[] = [{ name: "QUERY PLAN", origins: [...inner.reaches].sort(), exact: false }];
  const shown: StatementModel = { ...inner, ...NOT_BULK, columns, columnsKnown: true, copy: "none" };
  if (explainExecutes(statement)) return { ...shown, ...classed([explain, ...inner.effects]) };
  return {
    ...shown,
    ...classed([explain]),
    // Planned, not run: nothing is written, but planning reads and may call functions.
    relations: [...new Set(inner.relations.map((use) => use.name))].map((name) => ({ name, access: "read" })),
    writeFlows: [],
    settings: [],
    scopeChanges: [],
    changesCatalog: inner.undecided.length > 0,
  };
}

function prepareModel(statement: Part, around: Surroundings): StatementModel {
  const body = innerModel(statement, around);
  // The parameter types' input functions run when it is executed.
  const code = reachedCode(statement, around, false);
  const types = [...code.undecided, ...code.onReading].filter((what) => /^(type|cast)/.test(what));
  const model = { ...body, undecided: [...new Set([...body.undecided, ...types])].sort() };
  return {
    ...model,
    ...classed([{ name: "prepare", class: "session" }, ...model.effects]),
    columns: null,
    columnsKnown: true,
    scopeChanges: [{ kind: "prepare", name: stringField(statement.body, "name"), model }],
  };
}

function declareModel(statement: Part, around: Surroundings): StatementModel {
  const model = innerModel(statement, around);
  return {
    ...model,
    ...classed([{ name: "declare_cursor", class: "read" }, ...model.effects]),
    columns: null,
    columnsKnown: true,
    scopeChanges: [{ kind: "declare", name: stringField(statement.body, "portalname"), model }],
  };
}

function executeModel(statement: Part, around: Surroundings): StatementModel {
  const name = stringField(statement.body, "name");
  const made = lookUp(around.scope.prepared, name);
  if (made === undefined) return unknownModel({ name: "execute", class: "unknown" }, `prepared statement ${name}`);
  const prepared = executedLater(made, around.scope);
  const facts = reachedCode(statement, around, false);
  const ofParameters = effectsOf(statement).filter((effect) => effect.name !== "execute");
  return {
    ...prepared,
    ...classed([...prepared.effects, ...ofParameters]),
    undecided: [...new Set([...prepared.undecided, ...facts.undecided, ...facts.onReading])].sort(),
    escapes: [...new Set([...prepared.escapes, ...facts.escapes])].sort(),
    settings: [...prepared.settings, ...settingsOf(statement)],
  };
}

/** A prepared statement that may have had to do with the temporary schema, by the names as they are now. */
function executedLater(model: StatementModel, scope: SessionScope): StatementModel {
  const concerns = model.relations.some(({ name }) => {
    return temporaryName(name) !== undefined || Object.hasOwn(scope.temporary, name.slice(name.indexOf(".") + 1));
  });
  return concerns ? { ...unsure(model), scopeChanges: storedLater(model.scopeChanges, scope) } : model;
}

function fetchModel(statement: Part, around: Surroundings): StatementModel {
  const name = stringField(statement.body, "portalname");
  const moves = statement.body["ismove"] === true;
  const cursor = lookUp(around.scope.cursors, name);
  if (cursor === undefined) return unknownModel({ name: moves ? "move" : "fetch", class: "unknown" }, `cursor ${name}`);
  const effects: StatementEffect[] = [{ name: moves ? "move" : "fetch", class: "read" }, ...cursor.effects];
  const model: StatementModel = { ...cursor, ...classed(effects), limit: fetchedRows(statement) ?? cursor.limit };
  return moves ? { ...model, ...NOT_BULK, columns: null, columnsKnown: true } : model;
}

/** FETCH n; null for ALL and for absolute positions, which return one row anyway. */
function fetchedRows(statement: Part): number | null {
  const count = statement.body["howMany"];
  const direction = stringField(statement.body, "direction");
  if (direction !== "FETCH_FORWARD" && direction !== "FETCH_BACKWARD") return 1;
  return typeof count === "number" && count >= 0 && count < FETCH_ALL ? count : null;
}

/** What the parser writes for FETCH ALL, depending on the size of a long where it was built. */
const FETCH_ALL = 2_147_483_647;

function createFromModel(statement: Part, executed: StatementModel, around: Surroundings): StatementModel {
  const own = plainModel(statement, around);
  const copied = (executed.columns ?? []).flatMap((column) => column.origins);
  const temporary = temporaryFromExecuted(statement, executed, around.scope);
  return {
    ...executed,
    ...classed([...own.effects.filter((effect) => effect.name !== "execute"), ...executed.effects]),
    relations: [...own.relations, ...executed.relations],
    bulkExport: executed.reaches.length > 0,
    bulkShape: executed.reaches.length > 0,
    bulkRelations: [...new Set(executed.relations.filter((use) => use.access === "read").map((use) => use.name))],
    writeFlows: [...new Set([...executed.writeFlows, ...(temporary === undefined ? copied : [])])].sort(),
    columns: null,
    columnsKnown: true,
    copy: "none",
    scopeChanges: temporary === undefined ? executed.scopeChanges : [...executed.scopeChanges, temporary],
    changesCatalog: temporary === undefined || executed.changesCatalog || executed.undecided.length > 0,
  };
}

function innerModel(statement: Part, around: Surroundings): StatementModel {
  const query = partOf(statement.body["query"]);
  return query === undefined
    ? unknownModel({ name: "unmapped", class: "unknown" }, "statement kind")
    : statementModel(query, around);
}

function classed(effects: readonly StatementEffect[]): Pick<StatementModel, "class" | "effects"> {
  const unique = new Map(effects.map((effect) => [`${effect.class} ${effect.name}`, effect]));
  return { class: gravest(effects), effects: [...unique.values()] };
}

const NOT_BULK: Pick<StatementModel, "bulkExport" | "bulkShape" | "bulkRelations"> = {
  bulkExport: false,
  bulkShape: false,
  bulkRelations: [],
};

/** A statement that runs another one that is not known. */
function unknownModel(effect: StatementEffect, undecided: string): StatementModel {
  return {
    ...classed([effect]),
    ...NOT_BULK,
    relations: [],
    influences: [],
    hasWhere: false,
    limit: null,
    undecided: [undecided],
    columns: [{ name: "*", origins: ["*"], exact: false }],
    columnsKnown: false,
    writeFlows: ["*"],
    reaches: ["*"],
    sensitiveCatalogs: [],
    escapes: [],
    settings: [],
    scopeChanges: [],
    copy: "none",
    changesCatalog: true,
  };
}
