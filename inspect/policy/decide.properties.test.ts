/** What holds for every set of policies: order is nothing, more rules of refusal never permit more, errors fail towards no. */
import type { MaskOperator, PolicySpec, RuleSpec, Snapshot } from "@sluice/core/snapshot.ts";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { statementClasses, type StatementModel } from "../sql/model.ts";
import { decide } from "./decide.ts";
import { type Decision, decisionEffects } from "./decision.ts";
import { maskingFor } from "./masking.ts";
import { inputFor, statement } from "./sample-input.ts";

const columns = ["public.customers.ssn", "public.customers.email", "public.orders.id", "*"];
const entities = ["US_SSN", "EMAIL_ADDRESS"];
const conditions = [
  undefined,
  "true",
  "false",
  "statement.class == 'read'",
  "statement.class in ['write', 'export']",
  "statement.bulkExport",
  "'agents' in principal.groups",
  "principal.claims.missing == 'x'",
  "statement.influences.size() > 0",
];

const base = fc.record({ when: fc.constantFrom(...conditions) }).map(({ when }) => (when === undefined ? {} : { when }));
const operator: fc.Arbitrary<MaskOperator> = fc.oneof(
  fc.constant<MaskOperator>({ kind: "redact" }),
  fc.constant<MaskOperator>({ kind: "null" }),
  fc.record({ kind: fc.constant("partial" as const), keepFirst: fc.nat(3), keepLast: fc.integer({ min: 1, max: 4 }) }),
);
type Unnamed = RuleSpec extends infer Spec ? (Spec extends RuleSpec ? Omit<Spec, "name"> : never) : never;
const rule: fc.Arbitrary<Unnamed> = base.chain(
  (common): fc.Arbitrary<Unnamed> =>
    fc.oneof(
      { weight: 3, arbitrary: fc.constant<Unnamed>({ ...common, effect: "allow" }) },
      fc.constant<Unnamed>({ ...common, effect: "deny" }),
      fc.integer({ min: 1, max: 9 }).map((rows): Unnamed => ({ ...common, effect: "limit", rows })),
      fc.constant<Unnamed>({ ...common, effect: "approve", reviewers: { groups: ["dba"], count: 1 }, timeoutMs: 1 }),
      fc
        .record({
          entities: fc.subarray(entities, { minLength: 1 }),
          operator,
          influences: fc.constantFrom("equality" as const, "allow" as const, "deny" as const),
        })
        .map((mask): Unnamed => ({ ...common, effect: "mask", ...mask })),
    ),
);
const policy: fc.Arbitrary<Omit<PolicySpec, "name">> = fc
  .tuple(
    fc.array(rule, { maxLength: 4 }),
    fc.constantFrom<PolicySpec["principals"]>({}, { groups: ["agents"] }, { groups: ["dba"] }),
  )
  .map(([rules, principals]) => ({
    principals,
    resources: {},
    // A name and a rule belong together: shuffling must not exchange them.
    rules: rules.map((one, index) => ({ ...one, name: `r${index}` })),
  }));
const policies = fc
  .array(policy, { minLength: 1, maxLength: 3 })
  .map((list) => list.map((one, index): PolicySpec => ({ ...one, name: `p${index}` })));

const model: fc.Arbitrary<StatementModel> = fc
  .record({
    classes: fc.subarray([...statementClasses], { minLength: 1, maxLength: 3 }),
    columns: fc.array(fc.record({ name: fc.constant("x"), origins: fc.subarray(columns), exact: fc.boolean() }), {
      maxLength: 3,
    }),
    influences: fc.array(
      fc.record({ column: fc.constantFrom(...columns), form: fc.constantFrom("equality" as const, "other" as const) }),
      { maxLength: 2 },
    ),
    undecided: fc.constantFrom<readonly string[]>([], [], [], ["f"]),
    bulkExport: fc.boolean(),
    writeFlows: fc.constantFrom<readonly string[]>([], [], ["public.customers.ssn"]),
  })
  .map(({ classes, ...rest }) =>
    statement({ class: classes[0] ?? "unknown", effects: classes.map((one) => ({ name: one, class: one })), ...rest }),
  );

function snapshotOf(specs: readonly PolicySpec[]): Snapshot {
  return {
    version: "v",
    resources: [
      {
        name: "orders",
        labels: {},
        protocol: "postgres",
        target: { host: "db", port: 5432, database: "orders", databases: [], tls: { mode: "verify-full" } },
        credential: { username: { kind: "value", value: "app" } },
        inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
      },
    ],
    classifiers: [
      { name: "ssn", entity: "US_SSN", columns: [], columnNames: ["ssn"] },
      { name: "email", entity: "EMAIL_ADDRESS", columns: [], columnNames: ["email", "ssn"] },
    ],
    policies: specs,
    identityProviders: [],
  };
}

function decideOn(specs: readonly PolicySpec[], statementModel: StatementModel): Decision {
  return decide(inputFor(snapshotOf(specs), { statement: statementModel }));
}

function gravity({ effect }: Decision): number {
  return decisionEffects.indexOf(effect);
}

/** How much of a value a column's mask shows: 0 nothing at all, 1 that there is one, more the kept characters. */
function shown(operatorUsed: MaskOperator | undefined): number {
  if (operatorUsed === undefined) return Number.POSITIVE_INFINITY;
  if (operatorUsed.kind === "partial") return 1 + operatorUsed.keepFirst + operatorUsed.keepLast;
  return operatorUsed.kind === "redact" ? 1 : 0;
}

const runs = { numRuns: 120 };

describe("every decision", () => {
  it("is the same in whatever order policies and rules stand", () => {
    const shuffled = policies.chain((specs) =>
      fc.tuple(
        fc.constant(specs),
        fc
          .tuple(
            ...specs.map((spec) =>
              fc.shuffledSubarray([...spec.rules], { minLength: spec.rules.length }).map((rules) => ({ ...spec, rules })),
            ),
          )
          .chain((list) => fc.shuffledSubarray([...list], { minLength: list.length })),
      ),
    );
    fc.assert(
      fc.property(shuffled, model, ([specs, other], statementModel) => {
        expect(decideOn(other, statementModel)).toEqual(decideOn(specs, statementModel));
      }),
      runs,
    );
  });

  it("is not more permissive with one more rule that refuses, holds, masks or limits", () => {
    const refusing = rule.filter((one) => one.effect === "deny" || one.effect === "mask" || one.effect === "limit");
    fc.assert(
      fc.property(policies, refusing, model, (specs, extra, statementModel) => {
        // What a mask rule protects is what `influences` speaks of: an allow rule that asks for some may match because of it.
        fc.pre(!specs.some(({ rules }) => rules.some(({ when }) => when?.includes("influences.size()"))));
        const added = { ...extra, name: "extra" } as RuleSpec; // the name completes each member of the union
        const before = decideOn(specs, statementModel);
        const after = decideOn([...specs, { name: "zz", principals: {}, resources: {}, rules: [added] }], statementModel);
        expect(gravity(after)).toBeLessThanOrEqual(gravity(before));
        expect(after.rowsMax ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(before.rowsMax ?? Number.POSITIVE_INFINITY);
        before.columns.forEach((column, index) => {
          if (column.mask !== undefined) expect(after.columns[index]?.mask).toBeDefined();
        });
      }),
      runs,
    );
  });

  it("denies with one more matching deny rule, and names it or an earlier rule of its kind", () => {
    fc.assert(
      fc.property(policies, model, (specs, statementModel) => {
        const deny: PolicySpec = { name: "zz", principals: {}, resources: {}, rules: [{ name: "no", effect: "deny" }] };
        const decision = decideOn([...specs, deny], statementModel);
        expect(decision.effect).toBe("deny");
        expect(decision.rules).toContain("zz/no");
        expect(decision.rule).not.toMatch(/^builtin\//);
      }),
      runs,
    );
  });

  it("never permits without an allow or approve rule for every effect", () => {
    fc.assert(
      fc.property(policies, model, (specs, statementModel) => {
        const none = specs.map((spec) => ({
          ...spec,
          rules: spec.rules.filter(({ effect }) => effect !== "allow" && effect !== "approve"),
        }));
        expect(decideOn(none, statementModel).effect).toBe("deny");
      }),
      runs,
    );
  });

  it("fails towards no when conditions cannot be evaluated", () => {
    fc.assert(
      fc.property(policies, model, (specs, statementModel) => {
        const broken = specs.map((spec) => ({
          ...spec,
          rules: spec.rules.map((one) => ({ ...one, when: "principal.claims.missing == 1" })),
        }));
        const kept = broken.map((spec) => ({
          ...spec,
          rules: spec.rules.filter(({ effect }) => effect !== "allow").map(({ when: _when, ...one }) => one as RuleSpec),
        })); // a rule without its condition is a rule
        expect(decideOn(broken, statementModel)).toEqual(decideOn(kept, statementModel));
      }),
      runs,
    );
  });

  it("takes the lowest limit and the strictest mask of all rules that hold", () => {
    fc.assert(
      fc.property(policies, model, (specs, statementModel) => {
        const always = specs.map((spec) => ({
          ...spec,
          principals: {},
          rules: spec.rules.map(({ when: _when, ...one }) => one as RuleSpec),
        })); // a rule without its condition is a rule
        const rules = always.flatMap((spec) => spec.rules);
        const input = inputFor(snapshotOf(always), { statement: statementModel });
        const limits = rules.flatMap((one) => (one.effect === "limit" ? [one.rows] : []));
        expect(decide(input).rowsMax).toBe(limits.length === 0 ? null : Math.min(...limits));
        const masking = maskingFor(input);
        for (const [column, carried] of [
          ["public.customers.ssn", ["US_SSN", "EMAIL_ADDRESS"]],
          ["public.customers.email", ["EMAIL_ADDRESS"]],
        ] as const) {
          const covering = rules.flatMap((one) =>
            one.effect === "mask" && carried.some((entity) => one.entities.includes(entity)) ? [one.operator] : [],
          );
          const exact = masking.maskFor([column], true)?.operator;
          for (const one of covering) expect(shown(exact)).toBeLessThanOrEqual(shown(one));
          expect(exact === undefined).toBe(covering.length === 0);
          const derived = masking.maskFor([column, "public.orders.id"], false)?.operator;
          expect(derived?.kind).not.toBe("partial");
          expect(derived === undefined).toBe(exact === undefined);
        }
      }),
      runs,
    );
  });
});
