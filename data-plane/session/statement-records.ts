/**
 * What is recorded of one statement: exact text and values, except where a detector recognises them, and the decision. A text that
 * comes again under the same verdict refers to the record that holds both, so that a busy session does not write them ten thousand
 * times. Must never refer to a record of another decision than the one that was made.
 */
import { STATEMENT_REPEAT_DISTANCE_MAX, STATEMENT_REPEAT_TEXT_MAX } from "@sluice/events/repeated-statements.ts";
import type { StatementRecorded } from "@sluice/events/session-events.ts";
import type { Detector } from "@sluice/inspect/dlp/detect.ts";
import { redactText } from "@sluice/inspect/dlp/redact-text.ts";
import type { Decision } from "@sluice/inspect/policy/decision.ts";
import type { StatementRequest } from "@sluice/inspect/wire/judgement.ts";
import { recordedParameters } from "./recorded-parameters.ts";
import type { Verdict } from "./verdicts.ts";

export interface RecordedStatementInput {
  readonly number: number;
  readonly request: StatementRequest;
  readonly decision: Decision;
  /** What the decision comes from; null for one that stands alone. */
  readonly verdict: Verdict | null;
  readonly detectors: readonly Detector[];
}

export function recordedStatement(input: RecordedStatementInput): StatementRecorded {
  const { number, request, decision, verdict, detectors } = input;
  const { phase } = request;
  const withhold = verdict !== null && verdict.permitted && verdict.touches && decision.statement.influences.length > 0;
  const parameters = recordedParameters(request.parameters, detectors, withhold);
  const sameAs = verdict?.recordedAs ?? 0;
  if (sameAs > 0 && number - sameAs <= STATEMENT_REPEAT_DISTANCE_MAX) {
    return { number, phase, sameAs, text: "", parameters, decision: { id: decision.id, effect: decision.effect } };
  }
  const text = redactText(request.text, detectors);
  if (verdict !== null && verdict.lasting && text.length <= STATEMENT_REPEAT_TEXT_MAX) verdict.recordedAs = number;
  return { number, phase, text, parameters, decision: decisionJson(decision) };
}

/** The decision without what is internal to the gateway. */
export function decisionJson(decision: Decision): Readonly<Record<string, unknown>> {
  const { rowsMax: _rowsMax, hint: _hint, ...shown } = decision;
  return shown;
}
