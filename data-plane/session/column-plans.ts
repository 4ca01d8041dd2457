/**
 * From what a statement was analysed to return and what the wire says it returns to how each column is edited. The wire may add
 * protection to any column; it clears one only when it names a base table's column. Disagreement masks.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { maskDerived, maskExact, scanCell } from "@sluice/inspect/dlp/cell-edit.ts";
import type { Detector } from "@sluice/inspect/dlp/detect.ts";
import type { PrincipalMasking } from "@sluice/inspect/policy/masking.ts";
import type { StatementModel } from "@sluice/inspect/sql/model.ts";
import type { ColumnPlan, FieldDescription } from "@sluice/inspect/wire/judgement.ts";
import type { CatalogState } from "../upstream/catalogs.ts";

export interface ColumnPlanInput {
  readonly model: StatementModel;
  readonly fields: readonly FieldDescription[];
  readonly masking: PrincipalMasking;
  readonly scanRules: readonly ScanRule[];
  readonly state: CatalogState;
  /** DDL is under way: only what the wire proves to be an unprotected base column passes. */
  readonly dirty: boolean;
}

export interface ScanRule {
  readonly detector: Detector;
  readonly operator: MaskOperator;
}

export interface ColumnPlanResult {
  readonly plan: ColumnPlan;
  /** The wire named a relation the catalog does not have. */
  readonly unknownRelation: boolean;
  /** Analysis said clean, the wire said protected: masked, and worth an alert. */
  readonly disagreements: readonly string[];
}

interface Origin {
  readonly origins: readonly string[];
  readonly exact: boolean;
}

const UNKNOWN: Origin = { origins: ["*"], exact: false };

/** Throws `denied` when the description has another number of columns than the analysis found. */
export function planColumns(input: ColumnPlanInput): ColumnPlanResult {
  const { model, fields, masking } = input;
  if (!masking.protects && input.scanRules.length === 0) return { plan: null, unknownRelation: false, disagreements: [] };
  if (model.columnsKnown && model.columns !== null && model.columns.length !== fields.length && masking.protects) {
    throw new GatewayError("denied", "The result has other columns than the statement was judged to return, so it is withheld.", {
      hint: "A view or function may have changed since. Run the statement again.",
    });
  }
  // Pieces of what stays visible would add up over several outputs, so only whole base columns keep a part.
  const wholeRules = input.scanRules.map(
    ({ detector, operator }): ScanRule => ({ detector, operator: operator.kind === "partial" ? { kind: "redact" } : operator }),
  );
  let unknownRelation = false;
  const disagreements: string[] = [];
  const edits = fields.map((field, index): CellEdit | null => {
    const wire = originOnWire(field, input.state);
    if (wire === "unknown") unknownRelation = true;
    const analysed = analysedOrigin(model, index);
    const origin = wire === "unknown" ? UNKNOWN : (wire ?? (input.dirty && model.relations.length > 0 ? UNKNOWN : analysed));
    const mask = masking.maskFor(origin.origins, origin.exact);
    if (mask !== null && masking.maskFor(analysed.origins, analysed.exact) === null && wire !== "unknown" && wire !== null)
      disagreements.push(field.name);
    if (mask !== null) {
      return origin.exact
        ? maskExact(mask.operator, field.typeOid, field.format)
        : maskDerived(mask.operator, field.typeOid, field.format);
    }
    if (input.scanRules.length === 0) return null;
    return scanCell(origin.exact ? input.scanRules : wholeRules, field.typeOid, field.format);
  });
  return { plan: edits.some((edit) => edit !== null) ? edits : null, unknownRelation, disagreements };
}

function analysedOrigin(model: StatementModel, index: number): Origin {
  const column = model.columnsKnown ? model.columns?.[index] : undefined;
  return column ?? UNKNOWN;
}

/** Null: the wire says nothing that settles it. */
function originOnWire(field: FieldDescription, state: CatalogState): Origin | "unknown" | null {
  if (field.tableOid === 0) return null;
  const kind = state.relationKinds.get(field.tableOid);
  if (kind === undefined) return "unknown";
  if (kind === "view" || field.columnNumber === 0) return null;
  // System relations' columns, and system columns (ctid, xmin) of any table, hold no rows' values.
  if (kind === "system" || field.columnNumber < 0) return { origins: [], exact: true };
  const qualified = state.labels.qualifiedByOid(field.tableOid, field.columnNumber);
  if (qualified === undefined) return "unknown";
  return { origins: [qualified], exact: !state.labels.isGenerated(field.tableOid, field.columnNumber) };
}
