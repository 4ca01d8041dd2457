/** What a session's judge does when the policy, the account or the caller's mind is not what it was. */
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
