/** The contract's composition rules, on the documented example and on small policies. */
import { readFileSync } from "node:fs";
import type { PolicySpec, RuleSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { parseManifests } from "@sluice/manifest/manifests.ts";
import { describe, expect, it } from "vitest";
import type { StatementModel } from "../sql/model.ts";
import { compileSnapshot, mayReach } from "./compile.ts";
import { decide, type DecideInput, decideBatch, mergeDecisions, unparsedDecision } from "./decide.ts";
import type { Decision } from "./decision.ts";
import { maskingFor } from "./masking.ts";
import { effectOf, inputFor, principal, session, statement } from "./sample-input.ts";

const example = parseManifests([
  { path: "orders.yaml", text: readFileSync(new URL("../../test/fixtures/manifests/orders.yaml", import.meta.url), "utf8") },
]).snapshot;

const ssn = { name: "ssn", origins: ["public.customers.ssn"], exact: true };
const readCustomers = {
  relations: [{ name: "public.customers", access: "read" as const }],
  reaches: ["public.customers.ssn", "public.customers.email"],
};
const dba = principal({ subject: "ann", groups: ["dba"], kind: "user" });

function onExample(model: StatementModel, over: Partial<DecideInput> = {}): Decision {
  return decide(inputFor(example, { statement: model, ...over }));
}

describe("the documented example", () => {
  it("limits a plain read of an agent", () => {
    expect(onExample(statement())).toEqual({
      id: "d_1",
      effect: "limit",
      rule: "agents/row-cap",
      rules: ["agents/mask-pii", "agents/read", "agents/row-cap"],
      reason: "At most 1000 rows are released.",
      policyVersion: example.version,
      statement: {
        class: "read",
        effects: ["select"],
        relations: [{ name: "public.orders", access: "read" }],
        influences: [],
        bulkExport: false,
        hasWhere: true,
        limit: null,
        undecided: [],
      },
      columns: [{ name: "id", origins: ["public.orders.id"], exact: true }],
      rowsMax: 1000,
    });
  });

  it("masks a protected column in part, and what is derived from it whole", () => {
    const derived = { name: "x", origins: ["public.customers.email", "public.customers.ssn"], exact: false };
    const decision = onExample(
      statement({ ...readCustomers, columns: [ssn, derived, { name: "n", origins: [], exact: false }] }),
    );
    expect(decision).toMatchObject({
      effect: "mask",
      rule: "agents/mask-pii",
      rowsMax: 1000,
      reason: "2 output columns are masked.",
    });
    expect(decision.columns).toEqual([
      { ...ssn, mask: { entity: "US_SSN", operator: "partial" } },
      { ...derived, mask: { entity: "EMAIL_ADDRESS", operator: "redact" } },
      { name: "n", origins: [], exact: false },
    ]);
  });

  it.each<[string, StatementModel, Partial<Decision>]>([
    [
      "bulk shape over protected columns",
      statement({ ...readCustomers, bulkShape: true, bulkRelations: ["public.customers"] }),
      { effect: "deny", rule: "agents/no-bulk-export", reason: "bulk export is not allowed for agents" },
    ],
    ["bulk shape over others", statement({ bulkShape: true, bulkRelations: ["public.orders"] }), { effect: "limit" }],
    ["bulk by size", statement({ bulkExport: true }), { effect: "deny", rule: "agents/no-bulk-export" }],
    [
      "write",
      effectOf("write", "update"),
      {
        effect: "approve",
        rule: "agents/writes-need-a-dba",
        reason: "one reviewer of dba must agree.",
      },
    ],
    ["write returning a masked column", effectOf("write", "update", { columns: [ssn] }), { effect: "approve" }],
    [
      "read and write in one",
      statement({
        class: "write",
        effects: [
          { name: "select", class: "read" },
          { name: "delete", class: "write" },
        ],
      }),
      { effect: "approve", rule: "agents/writes-need-a-dba" },
    ],
    [
      "write and DDL in one",
      statement({
        class: "ddl",
        effects: [
          { name: "insert", class: "write" },
          { name: "create_table", class: "ddl" },
        ],
      }),
      {
        effect: "deny",
        rule: "builtin/default-deny",
        reason: "No rule allows the effect 'create_table' (class ddl) for you on resource orders.",
      },
    ],
    ["export", effectOf("export", "copy_to"), { effect: "deny", rule: "builtin/default-deny" }],
    ["session", effectOf("session", "show"), { effect: "limit" }],
    [
      "no effect known",
      statement({ class: "unknown", effects: [] }),
      { effect: "deny", rule: "builtin/default-deny", reason: "No rule allows the effect 'unknown' for you on resource orders." },
    ],
    ["class graver than the effects", statement({ class: "export" }), { effect: "deny", rule: "builtin/default-deny" }],
  ])("agent: %s", (_name, model, expected) => {
    expect(onExample(model)).toMatchObject(expected);
  });

  it.each<[string, StatementModel]>([
    ["protected column", statement({ ...readCustomers, columns: [ssn] })],
    ["bulk export", statement({ bulkExport: true })],
    ["DDL", effectOf("ddl", "drop_table", { relations: [{ name: "public.customers", access: "ddl" }] })],
    ["undecided", effectOf("unknown", "do", { undecided: ["DO"] })],
    ["COPY", effectOf("export", "copy_to", { copy: "out", ...readCustomers })],
    ["order by a protected column", statement({ influences: [{ column: "public.customers.ssn", form: "other" }] })],
  ])("dba: %s is allowed", (_name, model) => {
    expect(onExample(model, { principal: dba })).toMatchObject({
      effect: "allow",
      rule: "dba/everything",
      rules: ["dba/everything"],
      rowsMax: null,
    });
  });

  it("refuses who is in no policy", () => {
    const stranger = principal({ groups: ["guests"] });
    expect(onExample(statement(), { principal: stranger })).toMatchObject({
      effect: "deny",
      rule: "builtin/default-deny",
      rules: ["builtin/default-deny"],
      reason: "No policy speaks of you on resource orders, and what nobody allows is refused.",
    });
  });

  it("says who may reach the resource at all", () => {
    const { compiled } = compileSnapshot(example);
    const [resource] = example.resources;
    const other = { ...resource!, labels: { env: "test" } };
    expect(mayReach(compiled, principal(), resource!)).toBe(true);
    expect(mayReach(compiled, principal({ groups: [] }), resource!)).toBe(false);
    expect(mayReach(compiled, principal(), other)).toBe(false);
  });

  it("shows only protected columns as influences", () => {
    const influences = [
      { column: "public.customers.ssn", form: "equality" as const },
      { column: "public.orders.note", form: "other" as const },
    ];
    expect(onExample(statement({ influences })).statement.influences).toEqual(["public.customers.ssn"]);
    expect(onExample(statement({ influences }), { principal: dba }).statement.influences).toEqual([]);
  });

  it("gives values to look for, with their operator", () => {
    const operator = { kind: "partial", keepFirst: 0, keepLast: 4 };
    expect(maskingFor(inputFor(example)).detectors).toEqual([
      { entity: "CREDIT_CARD", operator, rule: "agents/mask-pii" },
      { entity: "EMAIL_ADDRESS", operator, rule: "agents/mask-pii" },
      { entity: "US_SSN", operator, rule: "agents/mask-pii" },
    ]);
    expect(maskingFor(inputFor(example, { principal: dba })).detectors).toEqual([]);
  });
});

function policies(...lists: readonly (readonly RuleSpec[])[]): Snapshot {
  const specs = lists.map((rules, index): PolicySpec => ({ name: `p${index}`, principals: {}, resources: {}, rules }));
  return { ...example, policies: specs };
}

function decideWith(rules: readonly RuleSpec[], model: StatementModel = statement()): Decision {
  return decide(inputFor(policies(rules), { statement: model }));
}

const allow: RuleSpec = { name: "allow", effect: "allow" };
const broken = "principal.claims.missing == 'x'";
const reviewers = { groups: ["dba"], count: 2 };

describe("composition", () => {
  it.each<[string, readonly RuleSpec[], Partial<Decision>]>([
    ["nothing", [], { effect: "deny", rule: "builtin/default-deny" }],
    [
      "mask and limit permit nothing",
      [{ name: "l", effect: "limit", rows: 1 }],
      { effect: "deny", rule: "builtin/default-deny", rowsMax: 1 },
    ],
    ["allow", [allow], { effect: "allow", rule: "p0/allow", reason: "Allowed by rule p0/allow." }],
    ["an own reason", [{ ...allow, reason: "because" }], { effect: "allow", reason: "because" }],
    [
      "an error denies an allow rule",
      [{ ...allow, when: broken }],
      { effect: "deny", rule: "builtin/default-deny", rules: ["builtin/default-deny"] },
    ],
    [
      "an error matches a deny rule",
      [allow, { name: "d", effect: "deny", when: broken }],
      { effect: "deny", rule: "p0/d", reason: "Rule p0/d refuses this statement." },
    ],
    [
      "an error matches a limit rule",
      [allow, { name: "l", effect: "limit", rows: 5, when: broken }],
      { effect: "limit", rowsMax: 5 },
    ],
    [
      "an error matches an approve rule",
      [{ name: "a", effect: "approve", reviewers, timeoutMs: 1, when: broken }],
      { effect: "approve", rule: "p0/a", reason: "2 reviewers of dba must agree." },
    ],
    [
      "a rule that does not match is not named",
      [allow, { name: "d", effect: "deny", when: "false" }],
      { effect: "allow", rules: ["p0/allow"] },
    ],
    [
      "deny before approve",
      [
        { name: "a", effect: "approve", reviewers, timeoutMs: 1 },
        { name: "d", effect: "deny" },
      ],
      { effect: "deny", rule: "p0/d", rules: ["p0/a", "p0/d"] },
    ],
    ["allow makes approval needless", [allow, { name: "a", effect: "approve", reviewers, timeoutMs: 1 }], { effect: "allow" }],
    [
      "the lowest limit",
      [
        allow,
        { name: "a", effect: "limit", rows: 9 },
        { name: "b", effect: "limit", rows: 3 },
        { name: "c", effect: "limit", rows: 7 },
      ],
      { effect: "limit", rule: "p0/b", rowsMax: 3 },
    ],
    [
      "the first of several denials by name",
      [
        { name: "z", effect: "deny", reason: "z" },
        { name: "b", effect: "deny", reason: "b" },
      ],
      { rule: "p0/b", reason: "b", rules: ["p0/b", "p0/z", "builtin/default-deny"] },
    ],
  ])("%s", (_name, rules, expected) => {
    expect(decideWith(rules)).toMatchObject(expected);
  });

  it("shows a rule's own reason before a built-in one", () => {
    const model = statement({ settings: [{ name: "client_encoding", value: "latin1", local: false }] });
    const decision = decideWith([{ name: "d", effect: "deny", reason: "own" }], model);
    expect(decision).toMatchObject({
      rule: "p0/d",
      reason: "own",
      rules: ["p0/d", "builtin/session-setting", "builtin/default-deny"],
    });
  });

  it("asks conditions with the class of each effect", () => {
    const model = statement({
      class: "write",
      effects: [
        { name: "select", class: "read" },
        { name: "insert", class: "write" },
      ],
    });
    const reads: RuleSpec = { name: "r", effect: "allow", when: "statement.class == 'read'" };
    const writes: RuleSpec = { name: "w", effect: "allow", when: "statement.class == 'write'" };
    expect(decideWith([reads], model)).toMatchObject({
      effect: "deny",
      reason: "No rule allows the effect 'insert' (class write) for you on resource orders.",
    });
    expect(decideWith([writes], model)).toMatchObject({
      effect: "deny",
      reason: "No rule allows the effect 'select' (class read) for you on resource orders.",
    });
    expect(decideWith([reads, writes], model)).toMatchObject({ effect: "allow", rule: "p0/w" });
    expect(decideWith([allow, { name: "d", effect: "deny", when: "statement.class == 'read'" }], model)).toMatchObject({
      effect: "deny",
      rule: "p0/d",
    });
    expect(decideWith([allow, { name: "l", effect: "limit", rows: 2, when: "statement.class == 'read'" }], model)).toMatchObject({
      rowsMax: 2,
    });
  });

  it("names the approval of the gravest effect", () => {
    const model = statement({
      class: "ddl",
      effects: [
        { name: "insert", class: "write" },
        { name: "create_table", class: "ddl" },
      ],
    });
    const writes: RuleSpec = { name: "a", effect: "approve", reviewers, timeoutMs: 1, when: "statement.class == 'write'" };
    const ddl: RuleSpec = { name: "b", effect: "approve", reviewers, timeoutMs: 1, when: "statement.class == 'ddl'" };
    expect(decideWith([writes, ddl], model)).toMatchObject({ effect: "approve", rule: "p0/b", rules: ["p0/a", "p0/b"] });
  });

  it("keeps policies of other principals and resources out", () => {
    const deny: readonly RuleSpec[] = [{ name: "d", effect: "deny" }];
    const selectors: readonly Partial<PolicySpec>[] = [
      { principals: { groups: ["dba"] } },
      { principals: { subjects: ["somebody"] } },
      { principals: { kinds: ["user"] } },
      { principals: { owners: ["bob"] } },
      { principals: { issuers: ["https://other"] } },
      { principals: { claims: { team: "core", level: "4" } } },
      { principals: { claims: { constructor: "x" } } },
      { principals: { groups: ["agents"], kinds: ["user"] } },
      { resources: { names: ["other"] } },
      { resources: { labels: { env: "prod", sensitivity: "low" } } },
    ];
    const others = selectors.map(
      (over, index): PolicySpec => ({ name: `o${index}`, principals: {}, resources: {}, rules: deny, ...over }),
    );
    const mine: PolicySpec = {
      name: "mine",
      principals: { groups: ["x", "agents"], subjects: ["planner"], claims: { team: "core", level: "3", tags: "b" } },
      resources: { names: ["orders"], labels: { env: "prod" } },
      rules: [allow],
    };
    const decision = decide(inputFor({ ...example, policies: [...others, mine] }));
    expect(decision).toMatchObject({ effect: "allow", rule: "mine/allow", rules: ["mine/allow"] });
  });

  it("fails towards no when a broken snapshot is used all the same", () => {
    const rules: readonly RuleSpec[] = [
      { ...allow, when: "statement.clas == 'x'" },
      { name: "d", effect: "deny", when: "1 +" },
      { name: "m", effect: "allow", when: "session.application == 'psql'" },
    ];
    const { compiled, faults } = compileSnapshot(policies(rules));
    expect(faults).toEqual([
      {
        kind: "Policy",
        name: "p0",
        path: ["spec", "rules", 0, "when"],
        message: "rule 'allow': 'statement.clas' is not a field of conditions. Did you mean 'statement.class'?",
      },
      {
        kind: "Policy",
        name: "p0",
        path: ["spec", "rules", 1, "when"],
        message: "rule 'd': the condition is not valid CEL: Unexpected token: EOF",
      },
      {
        kind: "Policy",
        name: "p0",
        path: ["spec", "rules", 2, "when"],
        message:
          "rule 'm': an allow rule cannot use 'session.declared' or 'session.application': what a client says about itself never allows anything",
      },
    ]);
    expect(decide({ ...inputFor(example), compiled })).toMatchObject({
      effect: "deny",
      rule: "p0/d",
      rules: ["p0/d", "builtin/default-deny"],
    });
  });

  it("decides on what the session is now", () => {
    const rules: readonly RuleSpec[] = [
      allow,
      { name: "d", effect: "deny", when: "request.time > session.startedAt + duration('1h')" },
    ];
    const input = inputFor(policies(rules));
    expect(decide({ ...input, nowMs: session.startedAtMs + 3_600_000 }).effect).toBe("allow");
    expect(decide({ ...input, nowMs: session.startedAtMs + 3_600_001 }).effect).toBe("deny");
  });
});

describe("batches", () => {
  const input = inputFor(example);

  it("merges to the gravest, with everything the statements do", () => {
    const first = statement({ relations: [{ name: "public.orders", access: "read" }], undecided: [] });
    const second = effectOf("write", "update", { relations: [{ name: "public.orders", access: "write" }], hasWhere: false });
    const third = statement({ ...readCustomers, columns: [ssn], limit: 5 });
    const decisions = decideBatch([first, second, third].map((model) => ({ ...input, statement: model })));
    expect(decisions.map(({ effect }) => effect)).toEqual(["limit", "approve", "mask"]);
    expect(mergeDecisions(decisions)).toMatchObject({
      effect: "approve",
      rule: "agents/writes-need-a-dba",
      rules: ["agents/mask-pii", "agents/read", "agents/row-cap", "agents/writes-need-a-dba"],
      statement: {
        class: "write",
        effects: ["select", "update"],
        relations: [
          { name: "public.orders", access: "read" },
          { name: "public.orders", access: "write" },
          { name: "public.customers", access: "read" },
        ],
        hasWhere: false,
        limit: 5,
      },
      columns: [{ name: "ssn", mask: { entity: "US_SSN", operator: "partial" } }],
      rowsMax: 1000,
    });
  });

  it("has nothing to say about nothing", () => {
    expect(() => mergeDecisions([])).toThrow("The text holds no statement");
  });

  it("refuses what cannot be parsed", () => {
    expect(unparsedDecision(input.decisionId, input.compiled)).toMatchObject({
      effect: "deny",
      rule: "builtin/unparsed",
      statement: { class: "unknown" },
      policyVersion: example.version,
    });
  });
});
