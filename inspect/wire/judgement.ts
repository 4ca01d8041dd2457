/**
 * What a session machine asks about a statement and what it is told. Shared by every protocol; holds no policy itself.
 * The machine never forwards a statement for which the judge has not returned a permission.
 */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { ErrorCode } from "@sluice/core/errors.ts";
import type { CopyForm } from "@sluice/core/copy-form.ts";

/** One column of a result as the target describes it. */
export interface FieldDescription {
  readonly name: string;
  /** 0 when the column is not a base table's column. */
  readonly tableOid: number;
  readonly columnNumber: number;
  readonly typeOid: number;
  readonly format: "text" | "binary";
}

/** Null at an index: that column passes untouched. A plan without any edit is `null` as a whole: rows are not looked into. */
export type ColumnPlan = readonly (CellEdit | null)[] | null;

/** How the rows of a COPY are edited; `edits` has an entry for each column. */
export interface CopyPlan {
  readonly form: CopyForm;
  readonly edits: ColumnPlan;
}

/** An error for the caller in protocol-neutral words. Each protocol maps `code` to its own number. */
export interface Refusal {
  readonly kind: "refuse";
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  /** JSON for machines: {"code","decision","request"?}. */
  readonly detail: string;
  /** Overrides the number of `code` (a syntax error keeps 42601). */
  readonly sqlState?: string;
  /** Characters from 1 in the statement text. */
  readonly position?: number;
}

export interface Permission {
  readonly kind: "permit";
  /** One per statement of the text, in order; empty for an empty text. */
  readonly statements: readonly StatementPlan[];
  /** Texts of errors and notices may hold protected values: keep the number, replace the texts. */
  readonly scrub: boolean;
  /**
   * What comes after must be judged after this has run: it changes names or settings of the session (PREPARE, DECLARE, SET …).
   * The machine then forwards nothing behind it until it is answered.
   */
  readonly settleFirst?: boolean;
  /** The decision's id, for errors that the machine makes itself (a reached limit). */
  readonly decisionId?: string;
}

export type Judgement = Refusal | Permission;

export interface StatementPlan {
  /** Rows that may be released; null for no limit. Counted per portal. */
  readonly rowsMax: number | null;
  /** With `rowsMax`: exceeding must undo the statement's writes. */
  readonly undoWhenExceeded: boolean;
  readonly copy: "none" | "in" | "out";
  /**
   * Says how to edit each column of a described result. Throws a GatewayError (`denied`) when the description does not fit
   * what was analysed: the result is then ended.
   */
  planColumns(fields: readonly FieldDescription[]): ColumnPlan;
  /**
   * Says how to edit the rows of a COPY that the target begins with this many columns. Null: they pass as they are. Throws a
   * GatewayError (`denied`) when it does not fit what was analysed, or cannot be masked. Absent: COPY is not expected.
   */
  planCopy?(columns: number, binary: boolean): CopyPlan | null;
}

/** A statement about to run: what the judge decides and records. */
export interface StatementRequest {
  readonly phase: "query" | "parse" | "execute";
  readonly text: string;
  /** Bound values with phase `execute`; null is SQL NULL. */
  readonly parameters: readonly BoundValue[];
  /** With phase `execute`: the judge's `names` when the portal was bound, for the target read the text by those. */
  readonly names?: SessionNaming;
}

/** What names mean in a session at some moment; a judge's own, opaque to machines but for what tells two of them apart. */
export interface SessionNaming {
  /** Equal: an unqualified name means the same. */
  readonly meaning: string;
}

export interface BoundValue {
  readonly typeOid: number;
  readonly format: "text" | "binary";
  readonly bytes: Buffer | null;
}

export interface StatementOutcome {
  readonly ok: boolean;
  /** The protocol's completion tag or error number; never an error text. */
  readonly tag: string;
  readonly rows: number;
}

export interface Judge {
  /**
   * Decides. `pending`: the analysis is not there yet; the machine stops reading the caller, and asks the same again once
   * its driver calls `resume()`.
   */
  judge(request: StatementRequest): Judgement | "pending";
  /** Called once per statement that ran to its end, with the permission it ran under and its index in the text. */
  finished(permission: Permission, index: number, outcome: StatementOutcome): void;
  /**
   * A protocol message that gives or takes a name is on its way to the target. SQL's PREPARE and DECLARE use the same names, so
   * what SQL made under it may be gone: EXECUTE and FETCH of it must not be judged by what it was.
   */
  nameTaken?(of: "statement" | "portal", name: string): void;
  /** What names mean now: kept by the machine with each statement and portal that the target reads by it. */
  readonly names?: SessionNaming;
  /** Ending a transaction, if only an implicit one, changes what names mean: nothing is forwarded behind such an end until it is answered. */
  readonly undoable?: boolean;
  /** A portal has stopped at a limit of rows: what its statement changes may have come about. */
  suspended?(permission: Permission, index: number): void;
  /** The target answered with an error, to whatever it was, and lives on. */
  failed?(): void;
  /** The target is ready for what comes next: outside a transaction, in one, or in a failed one. */
  ready?(state: "I" | "T" | "E"): void;
  /** The target reported a setting. */
  reported?(name: string, value: string): void;
  /** An asynchronous notification's payload may be released as it is. */
  readonly notificationsClear: boolean;
}
