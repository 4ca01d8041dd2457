/**
 * What EXECUTE does to temporary relations: the statement was analysed when it was prepared, the relations have changed since. Must
 * never put back what a relation held then.
 */
import type { OutputColumn, ScopeChange, SessionScope, StatementModel, TemporaryRelation } from "../model.ts";
import { temporaryOf } from "./temporary.ts";
import { dropsAtCommit, either, ifNotExists, intoClauseOf, isTemporary } from "./temporary-changes.ts";
import { fieldsIn } from "./temporary-work.ts";
import { namesOf, type Part, stringField } from "./tree.ts";

/** The changes of a prepared statement as they add to what the relations hold now. */
export function storedLater(changes: readonly ScopeChange[], scope: SessionScope): readonly ScopeChange[] {
  return changes.flatMap((change): readonly ScopeChange[] => {
    if (change.kind !== "temporary") return [change];
    const now = temporaryOf(scope, change.name);
    if (now === undefined || change.relation === null) return [];
    return [{ ...change, relation: either(change.relation, now) }];
  });
}

/** CREATE TEMPORARY TABLE … AS EXECUTE; undefined for a permanent one. */
export function temporaryFromExecuted(
  statement: Part,
  { columns, columnsKnown }: StatementModel,
  scope: SessionScope,
): ScopeChange | undefined {
  const into = intoClauseOf(statement) ?? {};
  const target = fieldsIn(into, "rel");
  if (!isTemporary(target)) return undefined;
  const name = stringField(target, "relname");
  const names = namesOf(into["colNames"]);
  const stored = (columns ?? []).map((column, at): OutputColumn => {
    const { temporary: _temporary, ...value } = column;
    return { ...value, name: names[at] ?? column.name };
  });
  const origins = [...new Set(stored.flatMap((column) => column.origins))].sort();
  const made: TemporaryRelation = {
    kind: "table",
    columns: columnsKnown ? stored : null,
    origins,
    ...(dropsAtCommit(into, "onCommit") ? { unsure: true } : {}),
  };
  const before = temporaryOf(scope, name);
  if (before !== undefined && ifNotExists(statement) && before.unsure !== true)
    return { kind: "temporary", name, relation: before };
  return { kind: "temporary", name, relation: before === undefined ? made : either(before, made) };
}
