/**
 * Counters, gauges and histograms of one process, as Prometheus reads them. One registry a process, made in its main and passed down:
 * nothing is global. Labels are few and bounded; a principal, a statement or a value is never one.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

/** Beyond this many combinations of labels a metric goes on under `other`: names of resources come from manifests, which may be many. */
export const SERIES_MAX = 500;

export interface Meter {
  counter(name: string, help: string, labels?: readonly string[]): Count;
  /** Asked when somebody reads the metrics. */
  gauge(name: string, help: string, read: () => number): void;
  /** The same with one label. */
  gauges(name: string, help: string, label: string, read: () => Iterable<readonly [label: string, value: number]>): void;
  histogram(name: string, help: string, buckets: readonly number[]): Observe;
  /** The text that Prometheus takes. */
  text(): Promise<string>;
  readonly contentType: string;
}

export type Count = (by: number, ...labels: readonly string[]) => void;
export type Observe = (value: number) => void;

/** `processMetrics`: CPU, memory, event loop of the process too. */
export function createMeter(options: { readonly processMetrics: boolean } = { processMetrics: true }): Meter {
  const registry = new Registry();
  if (options.processMetrics) collectDefaultMetrics({ register: registry });
  const registers = [registry];
  return {
    counter: (name, help, labelNames = []) =>
      counting(new Counter({ name, help, labelNames: [...labelNames], registers }), labelNames),
    gauge: (name, help, read) => {
      const gauge: Gauge = new Gauge({ name, help, registers, collect: () => gauge.set(read()) });
    },
    gauges: (name, help, label, read) => {
      const collect = (): void => {
        gauge.reset();
        let series = 0;
        for (const [value, amount] of read()) if (series++ < SERIES_MAX) gauge.labels(value).set(amount);
      };
      const gauge: Gauge = new Gauge({ name, help, labelNames: [label], registers, collect });
    },
    histogram: (name, help, buckets) => {
      const histogram = new Histogram({ name, help, buckets: [...buckets], registers });
      return (value) => histogram.observe(value);
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

/** Children are looked up once a combination of labels: counting a statement must cost nothing that shows. */
function counting(counter: Counter, labelNames: readonly string[]): Count {
  if (labelNames.length === 0) return (by) => counter.inc(by);
  const children = new Map<string, { inc(by: number): void }>();
  const other = counter.labels(...labelNames.map(() => "other"));
  return (by, ...labels) => {
    const key = labels.length === 1 ? (labels[0] ?? "") : labels.join("\u0000");
    let child = children.get(key);
    if (child === undefined) {
      if (children.size >= SERIES_MAX) child = other;
      else {
        child = counter.labels(...labels);
        children.set(key, child);
      }
    }
    child.inc(by);
  };
}
