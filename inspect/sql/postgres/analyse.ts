/**
 * From a text to what its statements do: parse, then one flat model for each statement. Must never run anything, and never judge
 * a statement by its first word: effects, relations, functions and references are gathered from the whole tree.
 * The shapes are the contract's ("The decision, as JSON"); the grammar is PostgreSQL's own.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { type CatalogIndex, isSyntaxError } from "../catalog-index.ts";
import type { Analysis, AnalysisSettings, SessionScope, StatementModel } from "../model.ts";
import { applyScopeChange } from "../scope.ts";
import { unsure } from "../unsure.ts";
import { unknownCodeChanges } from "./session-changes.ts";
import { statementModel } from "./statement.ts";
import { depthOf, type Parse, type Part, partOf } from "./tree.ts";

/** Nesting of a parsed text beyond which it is refused: recursive passes need a stack in proportion. Operators in a row nest. */
export const TREE_DEPTH_MAX = 8_000;

/** The grammar's messages quote the text from the fault on, sometimes to its end. Characters. */
const MESSAGE_CHARACTERS_MAX = 200;

/**
 * Analyses a text in a session. Returns `unparsed` when the grammar does not accept it; throws GatewayError `statement_too_long`
 * for a tree nested too deeply; anything else that `parse` throws comes through, since it means that the parser is not well.
 */
export function analyse(
  parse: Parse,
  text: string,
  index: CatalogIndex,
  scope: SessionScope,
  settings: AnalysisSettings,
): Analysis {
  if (text.trim() === "") return { kind: "ok", statements: [], epoch: index.epoch };
  let statements: readonly Part[];
  try {
    statements = (parse(text).stmts ?? []).flatMap((raw) => partOf(raw.stmt) ?? []);
  } catch (error) {
    if (!isSyntaxError(error)) throw error;
    // libpg-query counts characters from 0 and says 0 for "unknown" too.
    const at = error.sqlDetails.cursorPosition;
    return { kind: "unparsed", message: error.message.slice(0, MESSAGE_CHARACTERS_MAX), position: at > 0 ? at + 1 : 0 };
  }
  const models: StatementModel[] = [];
  let names = scope;
  let stale = false;
  for (const statement of statements) {
    if (depthOf(statement) > TREE_DEPTH_MAX) {
      throw new GatewayError("statement_too_long", "The statement is nested too deeply to be analysed.", {
        hint: "Send it in smaller parts, or put the values in a list or an array.",
      });
    }
    const model = inSession(statementModel(statement, { index, settings, scope: names }), names);
    models.push(stale ? unsure(model) : model);
    // What a batch has changed before is not in the catalog yet.
    stale ||= model.changesCatalog;
    names = model.scopeChanges.reduce(applyScopeChange, names);
  }
  return { kind: "ok", statements: models, epoch: index.epoch };
}

/** Code that nobody knows may change what names mean; and where that is not known, the statement says so. */
function inSession(model: StatementModel, { lost }: SessionScope): StatementModel {
  const unknown = unknownCodeChanges(model);
  if (unknown.length === 0 && lost.length === 0) return model;
  return { ...model, scopeChanges: [...model.scopeChanges, ...unknown], ...(lost.length === 0 ? {} : { lost }) };
}
