/** What a plane tells of a session, for traces, and what stands there when nobody listens. Loads nothing: `traces.ts` brings OpenTelemetry. */

export interface Traces {
  session(resource: string, sessionId: string): SessionTrace;
  /** Sends what is left, within a bounded time. */
  close(): Promise<void>;
}

export interface SessionTrace {
  /** False: nothing is made of what is told here. */
  readonly sampled: boolean;
  /** Begins the span of the target connection; call what it returns with `null` or the code it failed with. */
  openTarget(): (code: string | null) => void;
  statement(phase: string): StatementTrace;
  end(code: string): void;
}

export interface StatementTrace {
  decided(effect: string, rule: string, statementClass: string): void;
  end(rows: number, ok: boolean): void;
}

const notTracedStatement: StatementTrace = { decided: () => {}, end: () => {} };
const notTracedTarget = (): void => {};

/** For sessions that were not chosen, and where there is no collector. */
export const notTraced: SessionTrace = {
  sampled: false,
  openTarget: () => notTracedTarget,
  statement: () => notTracedStatement,
  end: () => {},
};

export const noTraces: Traces = { session: () => notTraced, close: () => Promise.resolve() };
