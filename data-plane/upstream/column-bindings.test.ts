/** What a gateway remembers of its labels: until a snapshot has it, whoever listens, and not a moment longer. */
import type { ColumnBindings as Bindings, Snapshot } from "@sluice/core/snapshot.ts";
import { systemClock } from "@sluice/core/system.ts";
import type { ColumnLabels, LabelledColumn } from "@sluice/inspect/policy/labels.ts";
import type { BindingsReport } from "@sluice/rpc/bindings.ts";
import { afterEach, expect, it, vi } from "vitest";
import type { PolicyInForce } from "../policy-watch/policy-store.ts";
import { BoundColumns } from "./column-bindings.ts";

const scope = { resource: "orders", database: "orders" };
const classifiers = [{ name: "ssn", entity: "US_SSN", columns: [], columnNames: ["ssn"] }];

afterEach(() => void vi.useRealTimers());

function bench() {
  vi.useFakeTimers({ toFake: ["setTimeout", "setInterval", "clearTimeout", "clearInterval"] });
  const reports: BindingsReport[] = [];
  let snapshot: Snapshot = { version: "1", resources: [], classifiers, policies: [], identityProviders: [] };
  let changed: () => void = () => undefined;
  const bound = new BoundColumns({
    policies: {
      get current() {
        return { snapshot } as PolicyInForce; // the one field that is read
      },
      onChange: (listener) => {
        changed = () => listener({ snapshot } as PolicyInForce); // as above
        return () => true;
      },
    },
    sink: { report: (report) => void reports.push(report) },
    limits: { bindingsReportMs: 3_600_000 },
    clock: systemClock,
  });
  const publish = (bindings: readonly Bindings[], of: Snapshot["classifiers"] = classifiers): void => {
    snapshot = { ...snapshot, classifiers: of, bindings };
    changed();
  };
  const saw = async (columns: Readonly<Record<string, string>>, databaseOid = 5): Promise<void> => {
    bound.saw(scope, { databaseOid, labels: labelsOf(columns) });
    await bound.settled(scope);
  };
  const flat = (): readonly (readonly unknown[])[] =>
    reports
      .splice(0)
      .flatMap(({ columns }) =>
        columns.map(({ relationOid, columnNumber, name, gone }) => [relationOid, columnNumber, name, gone]),
      );
  return { bound, publish, saw, flat };
}

/** `OID.NUMBER`: name; all of tables, all labelled. */
function labelsOf(columns: Readonly<Record<string, string>>): ColumnLabels {
  const of = new Map(Object.entries(columns));
  const labelled: readonly LabelledColumn[] = [...of].map(([key, qualified]) => ({
    relationOid: Number(key.split(".")[0]),
    columnNumber: Number(key.split(".")[1]),
    qualified,
    entities: ["US_SSN"],
    relationKind: { kind: "table", system: false },
  }));
  const labels: Partial<ColumnLabels> = {
    labelledColumns: () => labelled,
    qualifiedByOid: (oid, number) => of.get(`${oid}.${number}`),
  };
  return labels as ColumnLabels; // nothing else is asked
}

const ssn = (columns: readonly number[], databaseOid = 5): Bindings => ({ ...scope, databaseOid, entity: "US_SSN", columns });

it("says what it labels until a snapshot has it, ever more seldom", async () => {
  const { bound, publish, saw, flat } = bench();
  await saw({ "20.2": "public.customers.ssn" });
  expect([bound.pending, bound.of(scope)]).toEqual([1, [ssn([20, 2])]]);
  vi.advanceTimersByTime(150);
  expect(flat()).toEqual([[20, 2, "public.customers.ssn", false]]);
  vi.advanceTimersByTime(60_000);
  expect(flat().length).toBeLessThan(7);
  publish([ssn([20, 2])]);
  expect([bound.pending, bound.of(scope)]).toEqual([0, [ssn([20, 2])]]);
  vi.advanceTimersByTime(600_000);
  expect(flat().length).toBeLessThanOrEqual(1);
  bound.close();
});

it("says what is called something else now, what is gone, and all of it now and then", async () => {
  const { bound, publish, saw, flat } = bench();
  publish([ssn([20, 2, 21, 1])]);
  await saw({ "20.2": "public.customers.ssn", "21.1": "public.people.ssn" });
  vi.advanceTimersByTime(150);
  expect(flat()).toHaveLength(2);
  await saw({ "20.2": "public.customers.remark" });
  vi.advanceTimersByTime(150);
  expect(flat()).toEqual([
    [20, 2, "public.customers.remark", false],
    [21, 1, "", true],
  ]);
  vi.advanceTimersByTime(3_600_000);
  await bound.settled(scope);
  vi.advanceTimersByTime(150);
  expect(flat()).toHaveLength(2);
  bound.close();
});

it("forgets what is forgotten, what is dropped, and what nobody names", async () => {
  const { bound, publish, saw } = bench();
  await saw({ "20.2": "public.customers.ssn", "21.1": "public.people.ssn" });
  publish([ssn([20, 2])]);
  expect(bound.pending).toBe(1);
  publish([]);
  expect(bound.of(scope)).toEqual([ssn([21, 1])]);
  await saw({});
  expect(bound.pending).toBe(0);
  await saw({ "20.2": "public.customers.ssn" });
  publish([], []);
  expect(bound.pending).toBe(0);
  bound.close();
});

it("does not take a database made anew for the former one, and says that the former one's columns are gone", async () => {
  const { bound, publish, saw, flat } = bench();
  publish([ssn([20, 2])]);
  await saw({ "20.2": "public.customers.ssn" }, 6);
  expect(bound.of(scope)).toEqual([ssn([20, 2]), ssn([20, 2], 6)]);
  vi.advanceTimersByTime(150);
  const told = flat();
  expect(told).toHaveLength(2);
  expect(told).toEqual(
    expect.arrayContaining([
      [20, 2, "", true],
      [20, 2, "public.customers.ssn", false],
    ]),
  );
  bound.close();
});

it("takes turns over many columns, and sends them in bounded reports", async () => {
  const { bound, saw, flat } = bench();
  const many = Object.fromEntries(Array.from({ length: 40_000 }, (_, at) => [`${at + 1}.1`, `public.t${at}.ssn`]));
  await saw(many);
  expect(bound.pending).toBe(40_000);
  vi.advanceTimersByTime(150);
  expect(flat()).toHaveLength(16_000);
  bound.close();
});
