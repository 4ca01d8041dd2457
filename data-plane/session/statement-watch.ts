/**
 * What a session's statements leave in metrics and traces: counts and codes, never a text, a name of the caller or a value. Not part of
 * the audit: nothing rests on it, and where nobody listens it costs a call.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Decision } from "@sluice/inspect/policy/decision.ts";
import type { StatementOutcome } from "@sluice/inspect/wire/judgement.ts";
import type { GatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import type { SessionTrace, StatementTrace } from "@sluice/telemetry/session-trace.ts";

export class StatementWatch {
  readonly #resource: string;
  readonly #metrics: GatewayMetrics;
  readonly #trace: SessionTrace;
  readonly #clock: Clock;
  /** Of a session that is traced: statements that run, by number. */
  readonly #running = new Map<number, StatementTrace>();

  constructor(resource: string, metrics: GatewayMetrics, trace: SessionTrace, clock: Clock) {
    this.#resource = resource;
    this.#metrics = metrics;
    this.#trace = trace;
    this.#clock = clock;
  }

  decided(number: number, phase: string, decision: Decision, permitted: boolean): void {
    const { effect, rule, statement } = decision;
    this.#metrics.decided(this.#resource, effect, statement.class);
    if (!this.#trace.sampled) return;
    const trace = this.#trace.statement(phase);
    trace.decided(effect, rule, statement.class);
    if (permitted) this.#running.set(number, trace);
    else trace.end(0, false);
  }

  finished(number: number, { rows, ok }: StatementOutcome): void {
    if (this.#running.size === 0) return;
    this.#running.get(number)?.end(rows, ok);
    this.#running.delete(number);
  }

  /** Nothing runs any more: what has not been told of has ended without an answer of its own. */
  idle(): void {
    if (this.#running.size === 0) return;
    for (const trace of this.#running.values()) trace.end(0, false);
    this.#running.clear();
  }

  /** Begins a wait for an analysis; call what it returns when it is over. */
  waits(): () => void {
    const startedMs = this.#clock.monotonicMs();
    return () => this.#metrics.analysed(this.#clock.monotonicMs() - startedMs);
  }

  alerted(code: string): void {
    this.#metrics.alerted(code);
  }
}
