/** What a session's judge does when the policy, the account or the caller's mind is not what it was. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { RuleSpec } from "@sluice/core/snapshot.ts";
import type { StatementModel } from "@sluice/inspect/sql/model.ts";
import type { Permission } from "@sluice/inspect/wire/judgement.ts";
import { describe, expect, test } from "vitest";
import { Bench, allow, deny, policyOf, read } from "./judge-bench.test-fixture.ts";

describe("the account that a session was opened with", () => {
  const write: StatementModel = { ...read, class: "write", effects: [{ name: "insert", class: "write" }], columns: null };
  const callingRead: StatementModel = {
    ...read,
    effects: [
      { name: "select", class: "read" },
      { name: "call", class: "call" },
    ],
  };

  test("for reading: what needs the other one is refused, with the way out, and recorded so", () => {
    const bench = new Bench([allow], "readOnly");
    bench.analysed("SELECT 1", read);
    bench.analysed("INSERT", write);
    bench.analysed("SELECT f()", callingRead);
    bench.analysed("SELECT 1; INSERT", read, write);
    expect(bench.execute("SELECT 1").kind).toBe("permit");
    for (const text of ["INSERT", "SELECT f()", "SELECT 1; INSERT"]) {
      expect(bench.execute(text)).toMatchObject({
        kind: "refuse",
        code: "denied",
        hint: expect.stringContaining("Connect again"),
      });
      expect(bench.statements.at(-1)!.decision).toMatchObject({ effect: "deny", rule: "builtin/read-only-account" });
    }
    expect(bench.judge.takeMustBeDurable()).toBe(false);
    expect(bench.judge.counts).toMatchObject({ statements: 4, denied: 3 });
  });

  test("for writing: nothing is added to what policy says", () => {
    const bench = new Bench([allow]);
    bench.analysed("INSERT", write);
    expect(bench.execute("INSERT").kind).toBe("permit");
  });
});

describe("a policy that changes under a running statement", () => {
  const mask: RuleSpec = { name: "pii", effect: "mask", entities: ["US_SSN"], operator: { kind: "redact" }, influences: "allow" };
  const ssn: StatementModel = { ...read, columns: [{ name: "ssn", origins: ["public.customers.ssn"], exact: true }] };
  const done = { ok: true, tag: "SELECT 1", rows: 1 };

  function running(rules: readonly RuleSpec[]): { readonly bench: Bench; readonly permission: Permission } {
    const bench = new Bench(rules);
    bench.analysed("SELECT ssn", ssn);
    const permission = bench.execute("SELECT ssn");
    if (permission.kind !== "permit") throw new Error("it should be permitted");
    return { bench, permission };
  }

  test.each<[string, readonly RuleSpec[]]>([
    ["refuses it", [allow, deny]],
    ["masks it", [allow, mask]],
    ["limits it", [allow, { name: "few", effect: "limit", rows: 3 }]],
  ])("ends the session when it %s", (_, rules) => {
    const { bench } = running([allow]);
    expect(bench.judge.reconsider()).toBeNull();
    bench.policy = policyOf("v2", rules);
    expect(bench.judge.reconsider()).toMatchObject({ code: "killed", message: expect.stringContaining("policy changed") });
  });

  test("lets it go on when nothing about it differs, or it is masked as before", () => {
    const { bench } = running([allow, mask]);
    bench.policy = policyOf("v2", [
      { ...mask, name: "other" },
      allow,
      { name: "none", effect: "deny", when: "statement.class == 'ddl'" },
    ]);
    expect(bench.judge.reconsider()).toBeNull();
    bench.policy = policyOf("v3", [allow, { ...mask, operator: { kind: "partial", keepFirst: 1, keepLast: 4 } }]);
    expect(bench.judge.reconsider()).not.toBeNull();
  });

  test("does not ask about what has ended", () => {
    const { bench, permission } = running([allow]);
    bench.policy = policyOf("v2", [allow, deny]);
    bench.judge.finished(permission, 0, done);
    expect(bench.judge.reconsider()).toBeNull();
    const second = running([allow]);
    second.bench.policy = policyOf("v2", [deny]);
    second.bench.judge.transactionEnded();
    expect(second.bench.judge.reconsider()).toBeNull();
  });

  test("decides an open portal again when it is executed again", () => {
    const { bench } = running([allow]);
    bench.policy = policyOf("v2", [allow, mask]);
    const field = { name: "ssn", tableOid: 100, columnNumber: 2, typeOid: 25, format: "text" } as const;
    const again = bench.execute("SELECT ssn");
    expect(again.kind === "permit" && again.statements[0]!.planColumns([field])).toEqual([expect.anything()]);
    bench.policy = policyOf("v3", [deny]);
    expect(bench.execute("SELECT ssn").kind).toBe("refuse");
  });
});

describe("a cancel while the analysis is waited for", () => {
  test("refuses the statement that waits, and no other", async () => {
    const bench = new Bench([allow]);
    const request = { phase: "query", text: "SELECT slow", parameters: [] } as const;
    expect(bench.judge.cancelPending()).toBe(false);
    expect(bench.judge.judge(request)).toBe("pending");
    bench.blocked = Promise.withResolvers<void>();
    const resolved = bench.judge.resolvePending();
    expect(bench.judge.cancelPending()).toBe(true);
    await resolved;
    expect(bench.judge.cancelPending()).toBe(false);
    bench.analysed("SELECT slow", read);
    expect(bench.judge.judge(request)).toMatchObject({ kind: "refuse", code: "cancelled" });
    expect(bench.judge.judge(request)).toMatchObject({ kind: "permit" });
    expect(bench.statements.length).toBe(1);
    bench.blocked.resolve();
  });
});

describe("DDL, where there are other gateways", () => {
  const view: StatementModel = {
    ...read,
    class: "ddl",
    effects: [{ name: "create_view", class: "ddl" }],
    columns: null,
    changesCatalog: true,
  };
  const text = "CREATE VIEW v AS SELECT 1";
  const request = { phase: "query", text, parameters: [] } as const;

  function apart(): Bench {
    const bench = new Bench([allow]);
    bench.analysed(text, view);
    bench.announced = false;
    return bench;
  }

  test("waits until they know, then is permitted, recorded once, and ended with its transaction", async () => {
    const bench = apart();
    let told = 0;
    bench.announce = () => {
      told += 1;
      bench.announced = true;
      return Promise.resolve();
    };
    expect(bench.judge.judge({ ...request, phase: "parse" })).toMatchObject({ kind: "permit" });
    expect(bench.judge.judge(request)).toBe("pending");
    expect([bench.statements, bench.ddl]).toEqual([[], []]);
    await bench.judge.resolvePending();
    expect(bench.judge.judge(request)).toMatchObject({ kind: "permit" });
    expect([bench.statements.length, bench.ddl, told]).toEqual([1, ["begin"], 1]);
    // More of it in the same transaction is known already.
    expect(bench.judge.judge(request)).toMatchObject({ kind: "permit" });
    bench.judge.transactionEnded();
    bench.judge.transactionEnded();
    expect([bench.ddl, told]).toEqual([["begin", "begin", "end"], 1]);
  });

  test("is refused where they cannot be told, and what they were told is ended", async () => {
    const bench = apart();
    bench.announce = () =>
      Promise.reject(new GatewayError("ddl_unannounced", "Not now.", { hint: "Later.", detail: { gateway: "g2" } }));
    expect(bench.judge.judge(request)).toBe("pending");
    await bench.judge.resolvePending();
    expect(bench.judge.judge(request)).toMatchObject({
      kind: "refuse",
      code: "ddl_unannounced",
      message: "Not now.",
      hint: "Later.",
      detail: JSON.stringify({ gateway: "g2", code: "ddl_unannounced" }),
    });
    expect(bench.ddl).toEqual([]);
    bench.judge.transactionEnded();
    expect(bench.ddl).toEqual(["end"]);
    expect(bench.judge.judge(request)).toBe("pending");
  });

  test("may be cancelled while it waits", async () => {
    const bench = apart();
    const telling = Promise.withResolvers<void>();
    bench.announce = () => telling.promise;
    expect(bench.judge.judge(request)).toBe("pending");
    const resolved = bench.judge.resolvePending();
    expect(bench.judge.cancelPending()).toBe(true);
    await resolved;
    telling.reject(new GatewayError("ddl_unannounced", "Too late to matter."));
    expect(bench.judge.judge(request)).toMatchObject({ kind: "refuse", code: "cancelled" });
    bench.judge.transactionEnded();
    expect(bench.ddl).toEqual(["end"]);
  });

  test("is told of only where the text itself is DDL or runs unseen code, and policy permits it", () => {
    const bench = apart();
    const calling: StatementModel = { ...read, undecided: ["function f"], changesCatalog: true };
    bench.analysed("SELECT f()", calling);
    expect(bench.execute("SELECT f()").kind).toBe("permit");
    expect(bench.ddl).toEqual(["begin"]);
    for (const kind of ["privilege", "call", "unknown"] as const) {
      bench.analysed(kind, { ...view, class: kind, effects: [{ name: "it", class: kind }] });
      expect(bench.judge.judge({ ...request, text: kind })).toBe("pending");
    }
    bench.policy = policyOf("v2", [deny]);
    expect(bench.execute(text).kind).toBe("refuse");
  });
});

describe("DDL of others that comes and goes while a statement waits at the target", () => {
  const mask: RuleSpec = { name: "pii", effect: "mask", entities: ["US_SSN"], operator: { kind: "redact" }, influences: "allow" };
  const viewed: StatementModel = {
    ...read,
    relations: [{ name: "public.v", access: "read" }],
    columns: [{ name: "name", origins: [], exact: false }],
  };
  const field = { name: "name", tableOid: 0, columnNumber: 0, typeOid: 23, format: "text" } as const;

  function waiting(
    model: StatementModel,
    rules: readonly RuleSpec[] = [allow, mask],
  ): { readonly bench: Bench; readonly permission: Permission } {
    const bench = new Bench(rules);
    bench.analysed("SELECT name", model);
    const permission = bench.execute("SELECT name");
    if (permission.kind !== "permit") throw new Error("it should be permitted");
    return { bench, permission };
  }

  test("leaves nothing of what was judged: its columns are masked", () => {
    const { bench, permission } = waiting(viewed);
    const [plan] = permission.statements;
    expect(plan!.planColumns([field])).toBeNull();
    bench.changes += 1;
    expect(plan!.planColumns([field])).toEqual([expect.anything()]);
    const again = bench.execute("SELECT name");
    expect(again.kind === "permit" && again.statements[0]!.planColumns([field])).toBeNull();
  });

  test("trusts no temporary table that was filled meanwhile", () => {
    const table = { kind: "table", columns: [{ name: "x", origins: [], exact: true }], origins: [] } as const;
    const made: StatementModel = { ...viewed, scopeChanges: [{ kind: "temporary", name: "t", relation: table }] };
    for (const [begun, lost] of [
      [0, 0],
      [1, 1],
    ] as const) {
      const { bench, permission } = waiting(made);
      bench.changes += begun;
      bench.judge.finished(permission, 0, { ok: true, tag: "SELECT 1", rows: 1 });
      bench.analysed("SELECT again", viewed);
      bench.execute("SELECT again");
      expect(bench.scopes.at(-1)!.lost).toHaveLength(lost);
    }
  });

  test("lets no COPY begin that was permitted before, but for callers without masks", () => {
    const copyForm = { format: "text", header: false, delimiter: "\t", nullText: "\\N", quote: '"', escape: '"' } as const;
    const copy: StatementModel = {
      ...viewed,
      copy: "out",
      copyForm,
      columns: [{ name: "name", origins: [], exact: false }],
      reaches: [],
    };
    const [masked, clear] = [waiting(copy), waiting(copy, [allow])];
    expect([masked, clear].map(({ permission }) => permission.statements[0]!.copy)).toEqual(["out", "out"]);
    expect([masked, clear].map(({ permission }) => permission.statements[0]!.planCopy!(1, false))).toEqual([
      { form: copyForm, edits: [expect.any(Function)] }, // texts are searched
      null,
    ]);
    for (const { bench } of [masked, clear]) bench.changes += 1;
    expect([masked, clear].map(({ permission }) => permission.statements[0]!.copy)).toEqual(["none", "out"]);
    expect(() => masked.permission.statements[0]!.planCopy!(1, false)).toThrow("other columns");
    expect(clear.permission.statements[0]!.planCopy!(1, false)).toBeNull();
  });
});
