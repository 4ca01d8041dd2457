/** The decision, in the public JSON shape: what `policy explain` prints, recordings keep and error details point to. */
import type { DecisionId } from "@sluice/core/ids.ts";
import type { StatementClass } from "../sql/model.ts";

/** Gravest first. */
export const decisionEffects = ["deny", "approve", "mask", "limit", "allow"] as const;
export type DecisionEffect = (typeof decisionEffects)[number];

export interface Decision {
  readonly id: DecisionId;
  readonly effect: DecisionEffect;
  /** `policy/rule` or `builtin/name`: the one that decided. */
  readonly rule: string;
  readonly rules: readonly string[];
  readonly reason: string;
  /** What to do next, for people, where the rule knows it. */
  readonly hint?: string;
  readonly policyVersion: string;
  readonly statement: DecisionStatement;
  readonly columns: readonly DecisionColumn[];
  /** Lowest of all limit rules that matched; null for none. */
  readonly rowsMax: number | null;
}

export interface DecisionStatement {
  readonly class: StatementClass;
  readonly effects: readonly string[];
  readonly relations: readonly { readonly name: string; readonly access: "read" | "write" | "ddl" }[];
  /** Only protected columns. */
  readonly influences: readonly string[];
  readonly bulkExport: boolean;
  readonly hasWhere: boolean;
  readonly limit: number | null;
  readonly undecided: readonly string[];
}

export interface DecisionColumn {
  readonly name: string;
  readonly origins: readonly string[];
  readonly exact: boolean;
  readonly mask?: { readonly entity: string; readonly operator: "redact" | "null" | "partial" };
}
