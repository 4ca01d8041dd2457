import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { RuleSpec } from "@sluice/core/snapshot.ts";
import { STATEMENT_REPEAT_DISTANCE_MAX } from "@sluice/events/repeated-statements.ts";
import { labelColumns } from "@sluice/inspect/policy/labels.ts";
import { catalogOf, relation } from "@sluice/inspect/policy/sample-input.ts";
import type { StatementModel } from "@sluice/inspect/sql/model.ts";
import type { Permission } from "@sluice/inspect/wire/judgement.ts";
import { describe, expect, test } from "vitest";
import { stateOf } from "../upstream/catalogs.ts";
import { Bench, allow, catalog, classifiers, deny, policyOf, read, resource } from "./judge-bench.test-fixture.ts";

describe("a statement that comes again", () => {
  test("is recorded once in full, then by reference, each time with its own decision id and values", () => {
    const bench = new Bench([allow]);
    bench.analysed("SELECT id FROM customers WHERE id = $1", read);
    const ids = ["1", "2", "521-44-9382"].map((value) => {
      const permission = bench.execute("SELECT id FROM customers WHERE id = $1", value);
      expect(permission.kind).toBe("permit");
      return permission.kind === "permit" ? permission.decisionId : "";
    });
    expect(new Set(ids).size).toBe(3);
    const [first, second, third] = bench.statements;
    expect(first).toMatchObject({
      number: 1,
      text: "SELECT id FROM customers WHERE id = $1",
      decision: { id: ids[0], rule: "agents/all" },
    });
    expect(first).not.toHaveProperty("sameAs");
    expect(second).toEqual({
      number: 2,
      phase: "execute",
      sameAs: 1,
      text: "",
      parameters: ["2"],
      decision: { id: ids[1], effect: "allow" },
    });
    expect(third).toMatchObject({ sameAs: 1, parameters: ["[US_SSN]"] });
  });

  test("is written in full again before the reference would reach too far back", () => {
    const bench = new Bench([allow]);
    bench.analysed("SELECT 1", read);
    for (let n = 0; n < 2 * STATEMENT_REPEAT_DISTANCE_MAX + 5; n++) bench.execute("SELECT 1");
    const full = bench.statements.filter((statement) => statement.sameAs === undefined).map(({ number }) => number);
    expect(full).toEqual([1, STATEMENT_REPEAT_DISTANCE_MAX + 2, 2 * STATEMENT_REPEAT_DISTANCE_MAX + 3]);
    for (const { number, sameAs } of bench.statements)
      if (sameAs !== undefined) expect(number - sameAs).toBeLessThanOrEqual(STATEMENT_REPEAT_DISTANCE_MAX);
  });

  test("never refers to another text's record", () => {
    const bench = new Bench([allow]);
    bench.analysed("SELECT 1", read);
    bench.analysed("SELECT 2", { ...read });
    for (const text of ["SELECT 1", "SELECT 2", "SELECT 1", "SELECT 2"]) bench.execute(text);
    expect(bench.statements.map(({ sameAs }) => sameAs)).toEqual([undefined, undefined, 1, 2]);
  });

  test("is refused each time, and recorded so", () => {
    const bench = new Bench([allow, deny]);
    bench.analysed("SELECT 1", read);
    const refusals = [bench.execute("SELECT 1"), bench.execute("SELECT 1")];
    expect(refusals.map(({ kind }) => kind)).toEqual(["refuse", "refuse"]);
    expect(bench.statements.map(({ sameAs, decision }) => [sameAs, decision["effect"]])).toEqual([
      [undefined, "deny"],
      [1, "deny"],
    ]);
    expect(bench.judge.counts).toEqual({ statements: 2, denied: 2, masked: 0 });
  });
});

describe("an analysis that the cache does not keep", () => {
  const request = { phase: "query", text: "SELECT 1", parameters: [] } as const;

  test("is used for the statement that waited for it, once", async () => {
    const bench = new Bench([allow]);
    bench.uncached.set("SELECT 1", { kind: "ok", statements: [read], epoch: "e" as CatalogEpoch }); // a test's own epoch
    for (let time = 0; time < 2; time++) {
      expect(bench.judge.judge(request)).toBe("pending");
      await bench.judge.resolvePending();
      expect(bench.judge.judge(request)).toMatchObject({ kind: "permit" });
    }
    expect(bench.asked.length).toBe(2);
  });

  test("answers for no other text, catalog or settings", async () => {
    const changes: readonly ((bench: Bench) => void)[] = [
      (bench) => {
        const other = catalogOf([relation(100, "public.customers", ["id"])]);
        bench.state = stateOf({ ...other, epoch: "other" as CatalogEpoch }, labelColumns(classifiers, other)); // a test's own
      },
      (bench) => {
        const inspection = { ...resource.inspection, safeFunctions: ["public.f"] };
        bench.policy = policyOf("v2", [allow], [{ ...resource, inspection }]);
      },
    ];
    for (const change of changes) {
      const bench = new Bench([allow]);
      bench.uncached.set("SELECT 1", { kind: "ok", statements: [read], epoch: "e" as CatalogEpoch }); // a test's own epoch
      expect(bench.judge.judge(request)).toBe("pending");
      await bench.judge.resolvePending();
      change(bench);
      expect(bench.judge.judge(request)).toBe("pending");
    }
  });
});

describe("a resource that was declared anew under the session", () => {
  test("is recorded, analysed and decided as it is declared now", () => {
    const bench = new Bench([allow, { ...deny, when: "resource.labels.env == 'locked'" }]);
    bench.analysed("SELECT 1", read);
    expect(bench.judge.strict).toBe(false);
    expect(bench.execute("SELECT 1").kind).toBe("permit");
    const inspection = { ...resource.inspection, recording: "strict", bulkRowsMin: 7 } as const;
    bench.policy = policyOf(
      "v2",
      [allow, { ...deny, when: "resource.labels.env == 'locked'" }],
      [{ ...resource, inspection, labels: { env: "locked" } }],
    );
    expect(bench.judge.strict).toBe(true);
    expect(bench.execute("SELECT 1").kind).toBe("refuse");
  });
});

describe("a decision is made afresh", () => {
  test("when the policy in force changes, in both directions", () => {
    const bench = new Bench([allow]);
    bench.analysed("SELECT 1", read);
    expect(bench.execute("SELECT 1").kind).toBe("permit");
    bench.policy = policyOf("v2", [allow, deny]);
    expect(bench.execute("SELECT 1").kind).toBe("refuse");
    bench.policy = policyOf("v3", [allow]);
    expect(bench.execute("SELECT 1").kind).toBe("permit");
    expect(bench.statements.map(({ sameAs, decision }) => [sameAs, decision["policyVersion"]])).toEqual([
      [undefined, "v1"],
      [undefined, "v2"],
      [undefined, "v3"],
    ]);
  });

  test("when the catalog or its labels change", () => {
    const mask: RuleSpec = {
      name: "pii",
      effect: "mask",
      entities: ["US_SSN"],
      operator: { kind: "redact" },
      influences: "equality",
    };
    const bench = new Bench([allow, mask]);
    const ssn: StatementModel = { ...read, columns: [{ name: "ssn", origins: ["public.customers.ssn"], exact: true }] };
    bench.analysed("SELECT ssn FROM customers", ssn);
    const field = { name: "ssn", tableOid: 100, columnNumber: 2, typeOid: 25, format: "text" } as const;
    const plan = (): unknown => {
      const permission = bench.execute("SELECT ssn FROM customers");
      return permission.kind === "permit" ? permission.statements[0]!.planColumns([field]) : permission;
    };
    expect(plan()).toEqual([expect.anything()]);
    bench.state = stateOf(catalog, labelColumns([], catalog));
    expect(bench.execute("SELECT ssn FROM customers")).toMatchObject({ kind: "permit" });
    expect(bench.statements.map(({ decision, sameAs }) => [decision["effect"], sameAs])).toEqual([
      ["mask", undefined],
      ["allow", undefined],
    ]);
    bench.state = stateOf(catalog, labelColumns(classifiers, catalog));
    expect(plan()).toEqual([expect.anything()]);
  });

  test.each([
    ["the time", 'request.time < timestamp("2026-01-05T13:00:00Z")'],
    ["the session", 'session.startedAt < timestamp("2027-01-01T00:00:00Z") && request.time < timestamp("2026-01-05T13:00:00Z")'],
  ])("where a condition looks at %s", (_what, when) => {
    const bench = new Bench([{ ...allow, when }]);
    bench.analysed("SELECT 1", read);
    expect([bench.execute("SELECT 1").kind, bench.execute("SELECT 1").kind]).toEqual(["permit", "permit"]);
    bench.nowMs += 2 * 3_600_000;
    expect(bench.execute("SELECT 1").kind).toBe("refuse");
    expect(bench.statements.every(({ sameAs }) => sameAs === undefined)).toBe(true);
  });

  test("how columns are edited is asked again while the catalog is being changed", () => {
    const mask: RuleSpec = {
      name: "pii",
      effect: "mask",
      entities: ["US_SSN"],
      operator: { kind: "redact" },
      influences: "equality",
    };
    const bench = new Bench([allow, mask]);
    bench.analysed("SELECT f()", { ...read, columns: [{ name: "f", origins: [], exact: false }] });
    const field = { name: "f", tableOid: 0, columnNumber: 0, typeOid: 23, format: "text" } as const;
    const first = bench.execute("SELECT f()") as Permission; // permitted by the rule above
    const second = bench.execute("SELECT f()") as Permission; // the same
    expect(first.statements[0]).not.toBe(second.statements[0]);
    expect(first.statements[0]!.planColumns([field])).toBeNull();
    bench.dirty = true;
    expect(second.statements[0]!.planColumns([field])).not.toBeNull();
  });
});

test("endings of statements reach the log under their numbers", () => {
  const bench = new Bench([allow]);
  bench.analysed("SELECT 1", read);
  bench.execute("SELECT 1");
  const permission = bench.execute("SELECT 1") as Permission; // permitted by the rule above
  bench.judge.finished(permission, 0, { ok: true, tag: "SELECT 1", rows: 1 });
  bench.log.append({ kind: "released", bytes: Buffer.from("row") });
  expect(bench.records.at(-1)).toMatchObject({
    kind: "released",
    sequence: 2,
    finished: [{ number: 2, ok: true, tag: "SELECT 1", rows: 1 }],
  });
});

describe("a name that SQL made", () => {
  test("is forgotten when a protocol message gives or takes it: the target may run another text under it", () => {
    const bench = new Bench([allow]);
    const prepared: StatementModel = { ...read, scopeChanges: [{ kind: "prepare", name: "s", model: read }] };
    const declared: StatementModel = { ...read, scopeChanges: [{ kind: "declare", name: "s", model: read }] };
    bench.analysed("PREPARE s AS SELECT 1", prepared);
    bench.analysed("DECLARE s CURSOR FOR SELECT 1", declared);
    for (const text of ["PREPARE s AS SELECT 1", "DECLARE s CURSOR FOR SELECT 1"]) {
      const permission = bench.execute(text);
      if (permission.kind === "permit") bench.judge.finished(permission, 0, { ok: true, tag: "", rows: 0 });
    }
    bench.analysed("SELECT 1", read);
    const namesAt = (): readonly string[] => {
      bench.execute("SELECT 1");
      const scope = bench.scopes.at(-1)!;
      return [...Object.keys(scope.prepared), ...Object.keys(scope.cursors).map((name) => `cursor ${name}`)];
    };
    expect(namesAt()).toEqual(["s", "cursor s"]);
    bench.judge.nameTaken("portal", "other");
    bench.judge.nameTaken("portal", "s");
    expect(namesAt()).toEqual(["s"]);
    bench.judge.nameTaken("statement", "s");
    expect(namesAt()).toEqual([]);
  });
});

describe("while DDL is under way, and after it", () => {
  const influenced: StatementModel = { ...read, influences: [{ column: "public.customers.ssn", form: "equality" }] };
  const mask: RuleSpec = {
    name: "mask",
    effect: "mask",
    entities: ["US_SSN"],
    operator: { kind: "redact" },
    influences: "equality",
  };

  test("nothing is decided by what the catalog said of operators", () => {
    const bench = new Bench([allow, mask]);
    bench.analysed("SELECT 1", influenced);
    expect(bench.execute("SELECT 1").kind).toBe("permit");
    bench.dirty = true;
    expect(bench.execute("SELECT 1").kind).toBe("refuse");
    bench.dirty = false;
    expect(bench.execute("SELECT 1").kind).toBe("permit");
  });

  test("names made under another catalog stand for anything", () => {
    const bench = new Bench([allow]);
    bench.analysed("PREPARE s AS SELECT 1", { ...read, scopeChanges: [{ kind: "prepare", name: "s", model: read }] });
    bench.analysed("SELECT 1", read);
    const permission = bench.execute("PREPARE s AS SELECT 1");
    if (permission.kind === "permit") bench.judge.finished(permission, 0, { ok: true, tag: "", rows: 0 });
    bench.execute("SELECT 1");
    expect(bench.scopes.at(-1)!.prepared["s"]?.columnsKnown).toBe(true);
    const other = { ...catalog, epoch: "other" as CatalogEpoch }; // a test's own epoch
    bench.state = stateOf(other, labelColumns(classifiers, other));
    bench.execute("SELECT 1");
    expect(bench.scopes.at(-1)!.prepared["s"]?.columnsKnown).toBe(false);
  });
});
