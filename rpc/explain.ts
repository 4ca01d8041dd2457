/** Asks a gateway what it would decide. Only catalog reads reach the target. */

export interface ExplainRequest {
  readonly as: {
    readonly sub: string;
    readonly groups: readonly string[];
    readonly iss?: string;
    readonly claims?: Readonly<Record<string, unknown>>;
  };
  readonly resource: string;
  /** Several texts are one session, in order, each taken to succeed; the decision is for the last. */
  readonly sql: readonly string[];
}

export interface DecisionExplainer {
  /** Returns the decision in its public JSON shape. Throws GatewayError resource_unknown, catalog_unavailable, analysis_unavailable. */
  explain(request: ExplainRequest): Promise<Readonly<Record<string, unknown>>>;
}
