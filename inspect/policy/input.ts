/** What a decision is made of: everything is passed in, nothing is looked up. */
import type { DecisionId } from "@sluice/core/ids.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { StatementModel } from "../sql/model.ts";
import type { CompiledSnapshot } from "./compile.ts";
import type { SessionFacts } from "./conditions.ts";
import type { ColumnLabels } from "./labels.ts";

export interface DecideInput {
  readonly compiled: CompiledSnapshot;
  readonly principal: Principal;
  readonly resource: ResourceSpec;
  readonly session: SessionFacts;
  /** One statement of the text. */
  readonly statement: StatementModel;
  /** The whole text as it was sent. */
  readonly text: string;
  /** Labels of the catalog that the statement was analysed with. */
  readonly labels: ColumnLabels;
  readonly nowMs: number;
  readonly decisionId: DecisionId;
}
