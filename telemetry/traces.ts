/**
 * Traces over OTLP/HTTP: a span a session, below it one for the target connection and one a statement. A session is traced as a whole
 * or not at all, chosen when it begins; what is not traced costs one comparison. Attributes are names, codes and counts: never a text,
 * a value, a token or a principal. Attribute names: OpenTelemetry's conventions for databases where they have one.
 */
import { context, SpanKind, SpanStatusCode, trace, type Span, type Tracer } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, TraceIdRatioBasedSampler, ParentBasedSampler, TracerProvider } from "@opentelemetry/sdk-trace";
import { notTraced, type SessionTrace, type Traces } from "./session-trace.ts";

export interface TracesOptions {
  /** Such as http://127.0.0.1:4318/v1/traces. */
  readonly endpoint: string;
  /** 0 to 1. */
  readonly sampleRatio: number;
  /** Of the process: `gateway`. */
  readonly service: string;
  readonly node: string;
  readonly version: string;
}

/** Spans that wait to be sent; more are dropped: watching must not cost memory. */
const QUEUE_MAX = 4_096;
const BATCH_MAX = 512;
const SEND_EVERY_MS = 2_000;
const SEND_TIMEOUT_MS = 5_000;
const CLOSE_TIMEOUT_MS = 2_000;

export function createTraces(options: TracesOptions): Traces {
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      "service.name": `sluice-${options.service}`,
      "service.instance.id": options.node,
      "service.version": options.version,
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(options.sampleRatio) }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: new OTLPTraceExporter({ url: options.endpoint, timeoutMillis: SEND_TIMEOUT_MS }),
        maxQueueSize: QUEUE_MAX,
        maxExportBatchSize: BATCH_MAX,
        scheduledDelayMillis: SEND_EVERY_MS,
        exportTimeoutMillis: SEND_TIMEOUT_MS,
      }),
    ],
  });
  const tracer = provider.getTracer("sluice", options.version);
  return {
    session: (resource, sessionId) => sessionTrace(tracer, resource, sessionId),
    close: async () => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
      });
      // A collector that does not answer must not hold up the end of the process.
      await Promise.race([provider.shutdown().catch(() => undefined), late]);
      clearTimeout(timer);
    },
  };
}

function sessionTrace(tracer: Tracer, resource: string, sessionId: string): SessionTrace {
  const session = tracer.startSpan(
    "session",
    { kind: SpanKind.SERVER, attributes: { "db.namespace": resource, "sluice.session_id": sessionId } },
    context.active(),
  );
  if (!session.isRecording()) return notTraced;
  const below = trace.setSpan(context.active(), session);
  return {
    sampled: true,
    openTarget: () => {
      const span = tracer.startSpan("open target", { kind: SpanKind.CLIENT }, below);
      return (code) => finish(span, code);
    },
    statement: (phase) => {
      const span = tracer.startSpan("statement", { kind: SpanKind.CLIENT, attributes: { "sluice.phase": phase } }, below);
      return {
        decided: (effect, rule, statementClass) => {
          span.setAttributes({ "sluice.effect": effect, "sluice.rule": rule, "sluice.statement_class": statementClass });
        },
        end: (rows, ok) => {
          span.setAttribute("db.response.returned_rows", rows);
          finish(span, ok ? null : "failed");
        },
      };
    },
    end: (code) => finish(session, code === "closed" ? null : code),
  };
}

function finish(span: Span, code: string | null): void {
  if (code !== null) {
    span.setAttribute("error.type", code);
    span.setStatus({ code: SpanStatusCode.ERROR });
  }
  span.end();
}
