/**
 * How the rows of a COPY TO STDOUT are edited. COPY names no types and no origins on the wire, so that analysis alone decides: a
 * protected column of which the type is not known, or which is derived, becomes NULL; other values are searched for what they may be.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { maskCopied, scanCopied } from "@sluice/inspect/dlp/copied-cell.ts";
import type { PrincipalMasking } from "@sluice/inspect/policy/masking.ts";
import type { OutputColumn, StatementModel } from "@sluice/inspect/sql/model.ts";
import type { CopyPlan } from "@sluice/inspect/wire/judgement.ts";
import type { CatalogState } from "../upstream/catalogs.ts";
import { type ScanRule, shownAs } from "./column-plans.ts";

export interface CopyPlanInput {
  readonly model: StatementModel;
  /** As the target says when it begins. */
  readonly columns: number;
  readonly binary: boolean;
  readonly masking: PrincipalMasking;
  readonly scanRules: readonly ScanRule[];
  readonly state: Pick<CatalogState, "labels">;
  readonly rowsMax: number | null;
  /** DDL is under way, or came since the statement was judged. */
  readonly dirty: boolean;
}

/** Null: the rows pass as they are and need not be told apart. Throws `denied` where they cannot be masked. */
export function planCopy(input: CopyPlanInput): CopyPlan | null {
  const { model, columns, binary, masking, scanRules } = input;
  const form = model.copyForm;
  if (!masking.protects && scanRules.length === 0) {
    const fits = form !== undefined && (form.format === "binary") === binary;
    return input.rowsMax === null || !fits ? null : { form, edits: null };
  }
  if (form === undefined || !model.columnsKnown || model.columns === null)
    throw withheld("It cannot be known how this COPY writes its columns, so it is withheld.", "Use SELECT instead.");
  if ((form.format === "binary") !== binary || model.columns.length !== columns || (input.dirty && model.relations.length > 0))
    throw withheld(
      "COPY begins with other columns than the statement was judged to copy, so it is withheld.",
      "A table or view may have changed since. Run the statement again.",
    );
  const format = binary ? "binary" : "text";
  const edits = model.columns.map((column) => editOf(column, format, input));
  if (edits.every((edit) => edit === null)) return input.rowsMax === null ? null : { form, edits: null };
  return { form, edits };
}

function editOf(column: OutputColumn, format: "text" | "binary", { masking, scanRules, state }: CopyPlanInput): CellEdit | null {
  const exact = column.exact && column.origins.length === 1;
  const mask = masking.maskFor(column.origins, exact);
  const typeOid = exact && column.typeOid !== undefined ? shownAs(column.typeOid, state.labels) : undefined;
  if (mask !== null) return maskCopied(mask.operator, typeOid, format);
  if (scanRules.length === 0) return null;
  return scanCopied(exact ? scanRules : scanRules.map(wholeRule), typeOid, format);
}

/** Pieces of what stays visible would add up over several outputs, so only whole base columns keep a part. */
function wholeRule(rule: ScanRule): ScanRule {
  const { operator } = rule;
  switch (operator.kind) {
    case "partial":
      return { ...rule, operator: { kind: "redact" } };
    case "redact":
    case "null":
      return rule;
    default:
      return assertNever(operator);
  }
}

function withheld(message: string, hint: string): GatewayError {
  return new GatewayError("denied", message, { hint });
}
