/**
 * From what a statement was analysed to return and what the wire says it returns to how each column is edited. The wire may add
 * protection to any column; it clears one only when it names a base table's column. A temporary relation is in no catalog that can
 * be relied on: only where analysis expects one does its column pass for what was stored in it. Disagreement masks.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { maskDerived, maskExact, scanCell } from "@sluice/inspect/dlp/cell-edit.ts";
import type { Detector } from "@sluice/inspect/dlp/detect.ts";
import type { ColumnLabels } from "@sluice/inspect/policy/labels.ts";
import type { PrincipalMasking } from "@sluice/inspect/policy/masking.ts";
import type { OutputColumn, StatementModel } from "@sluice/inspect/sql/model.ts";
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

type Origin = Pick<OutputColumn, "origins" | "exact" | "typeOid" | "temporary">;

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
    const analysed = analysedOrigin(model, index);
    if (wire === "unknown" && analysed.temporary !== true) unknownRelation = true;
    const origin = settled(wire, input.dirty && model.relations.length > 0 ? UNKNOWN : analysed);
    const exact = origin.exact && isOfType(analysed, field);
    const mask = masking.maskFor(origin.origins, exact);
    if (mask !== null && isNamed(wire) && masking.maskFor(analysed.origins, analysed.exact) === null)
      disagreements.push(field.name);
    const typeOid = shownAs(field.typeOid, input.state.labels);
    if (mask !== null) {
      return exact ? maskExact(mask.operator, typeOid, field.format) : maskDerived(mask.operator, typeOid, field.format);
    }
    if (input.scanRules.length === 0) return null;
    return scanCell(exact ? input.scanRules : wholeRules, typeOid, field.format);
  });
  return { plan: edits.some((edit) => edit !== null) ? edits : null, unknownRelation, disagreements };
}

const TEXT_OID = 25;

/** The type whose values are written as this one's are: text for citext and its like, of which there is no number of its own. */
export function shownAs(typeOid: number, labels: Pick<ColumnLabels, "takesText">): number {
  return labels.takesText(typeOid) ? TEXT_OID : typeOid;
}

function analysedOrigin({ columns, columnsKnown }: StatementModel, index: number): Origin {
  if (columnsKnown) return columns?.[index] ?? UNKNOWN;
  // Their number is not known: what is known of all of them.
  const origins = new Set((columns ?? [UNKNOWN]).flatMap((column) => column.origins));
  return { origins: [...origins], exact: false };
}

/** What the wire says of a column. Null: nothing that settles it; `unknown`: a relation that the catalog does not have. */
type WireOrigin = Origin | "unknown" | "temporary" | null;

function settled(wire: WireOrigin, analysed: Origin): Origin {
  if (wire === null) return analysed;
  if (isNamed(wire)) return wire;
  return analysed.temporary === true ? analysed : UNKNOWN;
}

function isNamed(wire: WireOrigin): wire is Origin {
  return wire !== null && wire !== "unknown" && wire !== "temporary";
}

/** OIDs that are the server's own by hand (FirstGenbkiObjectId): no domain among them, whose base type the wire would name. */
const ASSIGNED_OIDS_MAX = 10_000;

/** An unmodified column has its column's type. Another one was converted on its way, and what is left of it could be any part. */
function isOfType({ typeOid = 0 }: Origin, field: FieldDescription): boolean {
  return typeOid === 0 || typeOid >= ASSIGNED_OIDS_MAX || typeOid === field.typeOid;
}

function originOnWire(field: FieldDescription, state: CatalogState): WireOrigin {
  if (field.tableOid === 0) return null;
  const kind = state.relationKinds.get(field.tableOid);
  if (kind === undefined) return "unknown";
  if (kind === "view" || field.columnNumber === 0) return null;
  // System relations' columns, and system columns (ctid, xmin) of any table, hold no rows' values.
  if (kind === "system" || field.columnNumber < 0) return { origins: [], exact: true };
  if (!state.labels.isBaseTable(field.tableOid)) return null;
  const qualified = state.labels.qualifiedByOid(field.tableOid, field.columnNumber);
  if (qualified === undefined) return "unknown";
  if (qualified.startsWith("pg_temp.")) return "temporary";
  return { origins: [qualified], exact: !state.labels.isGenerated(field.tableOid, field.columnNumber) };
}
