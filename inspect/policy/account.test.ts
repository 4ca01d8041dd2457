/** The account that may only read is chosen where nothing else can be permitted, and nowhere else. */
import type { PolicySpec, RuleSpec, Snapshot } from "@sluice/core/snapshot.ts";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { statementClasses } from "../sql/model.ts";
import { accountFor, changesNothing } from "./account.ts";
import { compileSnapshot } from "./compile.ts";
import { decide } from "./decide.ts";
import { effectOf, inputFor, principal } from "./sample-input.ts";

const username = { kind: "value", value: "app" } as const;

function snapshotOf(policies: readonly PolicySpec[], readOnly = true): Snapshot {
  return {
    version: "v",
    resources: [
      {
        name: "orders",
        labels: { env: "prod" },
        protocol: "postgres",
        target: { host: "db", port: 5432, database: "orders", databases: [], tls: { mode: "verify-full" } },
        credential: { username },
        ...(readOnly ? { readOnlyCredential: { username: { kind: "value", value: "reader" } } } : {}),
        inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
      },
    ],
    classifiers: [],
    policies,
    identityProviders: [],
  };
}

function policyOf(...rules: readonly RuleSpec[]): PolicySpec {
  return { name: "p", principals: {}, resources: {}, rules };
}

function accountOf(snapshot: Snapshot): string {
  const { compiled, faults } = compileSnapshot(snapshot);
  expect(faults).toEqual([]);
  return accountFor(compiled, principal(), snapshot.resources[0]!);
}

function accountWhen(when: string, effect: "allow" | "approve" = "allow"): string {
  const rule: RuleSpec =
    effect === "allow"
      ? { name: "r", effect, when }
      : { name: "r", effect, when, reviewers: { groups: ["dba"], count: 1 }, timeoutMs: 1 };
  return accountOf(snapshotOf([policyOf(rule)]));
}

describe("the account that may only read", () => {
  it.each([
    "statement.class == 'read'",
    "'read' == statement.class",
    "(statement.class) in ['read', 'session', 'transaction']",
    "statement.class == 'read' && statement.relations.exists(r, r.name == 'public.orders')",
    "statement.bulkExport && statement.class == 'read'",
    "statement.class == 'read' || (statement.class == 'write' && principal.kind == 'user')",
    "statement.class != 'write' && ['read'].exists(c, c == statement.class)",
    "!(statement.class != 'read')",
    "statement.class == 'read' ? statement.hasWhere : false",
    "statement.class.matches('^r')",
    "'dba' in principal.groups",
    "principal.claims.missing == 'x'",
    "resource.labels['env'] == 'test'",
    "statement.class == 'read' && principal.claims.level == 3",
    "false",
  ])("is enough for allow rules of %s", (when) => {
    expect(accountWhen(when)).toBe("readOnly");
  });

  it.each([
    "true",
    "statement.class == 'write'",
    "statement.class != 'read'",
    "statement.class in ['read', 'ddl']",
    "statement.effects.exists(e, e == 'insert')",
    "statement.bulkExport",
    "!statement.bulkExport",
    "statement.text.startsWith('select')",
    "statement.class == 'read' || statement.hasWhere",
    "statement.class == principal.kind || statement.class in principal.groups || request.time > timestamp('2020-01-01T00:00:00Z')",
    "session.clientAddress == '127.0.0.1'",
    "resource.labels['env'] == 'prod'",
    "'agents' in principal.groups && !(statement.class == 'read' && statement.hasWhere)",
    "['read', 'write'].exists(statement, statement == 'write')",
    "statement.class < 'z'",
    "statement['class'] == 'read'",
    "{'write': true}[statement.class]",
  ])("is not for allow rules of %s", (when) => {
    expect(accountWhen(when)).toBe("readWrite");
  });

  it("is not where a writing statement may be approved, or the approve rule's condition fails", () => {
    expect(accountWhen("statement.class == 'write'", "approve")).toBe("readWrite");
    expect(accountWhen("principal.claims.missing == 'x'", "approve")).toBe("readWrite");
    expect(accountWhen("statement.class == 'read'", "approve")).toBe("readOnly");
  });

  it("is enough without any rule, and with rules that permit nothing by themselves", () => {
    expect(accountOf(snapshotOf([]))).toBe("readOnly");
    expect(accountOf(snapshotOf([policyOf({ name: "d", effect: "deny" }, { name: "l", effect: "limit", rows: 3 })]))).toBe(
      "readOnly",
    );
  });

  it("is none where the resource has no credential for it", () => {
    expect(accountOf(snapshotOf([], false))).toBe("readWrite");
  });

  it("does not speak of other principals and resources", () => {
    const rule: RuleSpec = { name: "all", effect: "allow" };
    expect(accountOf(snapshotOf([{ name: "p", principals: { groups: ["dba"] }, resources: {}, rules: [rule] }]))).toBe(
      "readOnly",
    );
    expect(accountOf(snapshotOf([{ name: "p", principals: {}, resources: { names: ["other"] }, rules: [rule] }]))).toBe(
      "readOnly",
    );
  });
});

const atoms = [
  "true",
  "false",
  "statement.class == 'read'",
  "statement.class == 'write'",
  "statement.class in ['ddl', 'read', 'call']",
  "statement.class != 'transaction'",
  "statement.bulkExport",
  "statement.hasWhere",
  "statement.limit > 3",
  "statement.effects.exists(e, e == 'insert')",
  "statement.relations.all(r, r.access == 'read')",
  "principal.kind == 'agent'",
  "principal.claims.missing == 'x'",
  "'agents' in principal.groups",
  "resource.labels['env'] == 'prod'",
  "resource.labels['none'] == 'prod'",
  "session.clientAddress == '127.0.0.1'",
];

const condition = fc.letrec<{ node: string }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(...atoms),
    fc.tuple(tie("node"), tie("node")).map(([a, b]) => `(${a}) && (${b})`),
    fc.tuple(tie("node"), tie("node")).map(([a, b]) => `(${a}) || (${b})`),
    tie("node").map((a) => `!(${a})`),
    fc.tuple(tie("node"), tie("node"), tie("node")).map(([a, b, c]) => `(${a}) ? (${b}) : (${c})`),
  ),
})).node;

it("never withholds the writing account from a principal who is permitted a statement that needs it", () => {
  const rule = fc.tuple(condition, fc.boolean()).map(([when, approve]): RuleSpec => {
    const common = { name: "r", when };
    return approve
      ? { ...common, effect: "approve", reviewers: { groups: ["dba"], count: 1 }, timeoutMs: 1 }
      : { ...common, effect: "allow" };
  });
  const changing = statementClasses.filter((one) => !changesNothing(one));
  let permitted = 0;
  fc.assert(
    fc.property(
      fc.array(rule, { minLength: 1, maxLength: 3 }),
      fc.constantFrom(...changing),
      fc.boolean(),
      fc.boolean(),
      fc.option(fc.nat(9)),
      (rules, statementClass, bulkExport, hasWhere, limit) => {
        const named = rules.map((one, index): RuleSpec => ({ ...one, name: `r${index}` }));
        const snapshot = snapshotOf([policyOf(...named)]);
        const statement = effectOf(statementClass, "insert", { bulkExport, hasWhere, limit });
        const { effect } = decide(inputFor(snapshot, { statement }));
        if (effect === "deny") return;
        permitted += 1;
        expect(accountOf(snapshot)).toBe("readWrite");
      },
    ),
    { numRuns: 1_000 },
  );
  expect(permitted).toBeGreaterThan(50);
});
