/** Built-in denials: the forms through which a protected value would get past its mask, and who they do not concern. */
import type { MaskOperator, PolicySpec, RuleSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { describe, expect, it } from "vitest";
import type { CopyForm } from "@sluice/core/copy-form.ts";
import type { StatementModel } from "../sql/model.ts";
import { decide } from "./decide.ts";
import type { Decision } from "./decision.ts";
import { effectOf, inputFor, principal, statement } from "./sample-input.ts";

type MaskSpec = Extract<RuleSpec, { effect: "mask" }>;

const redact: MaskOperator = { kind: "redact" };
const mask: MaskSpec = { name: "mask", effect: "mask", entities: ["US_SSN"], operator: redact, influences: "equality" };

/** Everything is allowed; what is refused is refused by a built-in rule. */
function snapshotWith(masks: readonly RuleSpec[], values = false): Snapshot {
  const policy: PolicySpec = { name: "p", principals: {}, resources: {}, rules: [{ name: "all", effect: "allow" }, ...masks] };
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
      {
        name: "ssn",
        entity: "US_SSN",
        columns: [],
        columnNames: ["ssn"],
        ...(values ? { values: { kind: "builtin", detector: "US_SSN" } } : {}),
      },
      { name: "email", entity: "EMAIL_ADDRESS", columns: [], columnNames: ["email"] },
    ],
    policies: [policy],
    identityProviders: [],
  };
}

function decided(model: StatementModel, masks: readonly RuleSpec[] = [mask], values = false): Decision {
  return decide(inputFor(snapshotWith(masks, values), { statement: model }));
}

const setting = (name: string, value: string | null): StatementModel =>
  effectOf("session", "set", { settings: [{ name, value, local: false }] });
const influence = (column: string, form: "equality" | "other"): StatementModel => statement({ influences: [{ column, form }] });
const plainCopy: CopyForm = { format: "text", header: false, delimiter: "\t", nullText: "\\N", quote: '"', escape: '"' };
const copyOut = (reaches: readonly string[], over: Partial<StatementModel> = {}): StatementModel =>
  effectOf("export", "copy_to", { copy: "out", columns: [], copyForm: plainCopy, reaches, ...over });

describe("for a caller with masked columns", () => {
  it.each<[string, StatementModel, string, string]>([
    [
      "undecided",
      statement({ undecided: ["function public.f"] }),
      "builtin/undecided",
      "It cannot be known what function public.f does with protected data.",
    ],
    [
      "escape",
      statement({ escapes: ["dblink", "lo_export", "dblink"] }),
      "builtin/escape-function",
      "dblink, lo_export can carry protected data past its mask.",
    ],
    [
      "many names",
      statement({ escapes: ["a", "b", "c", "d", "e", "f", "g"] }),
      "builtin/escape-function",
      "a, b, c, d, e and 2 more can carry protected data past its mask.",
    ],
    [
      "catalog",
      statement({ sensitiveCatalogs: ["pg_stats"] }),
      "builtin/protected-catalog",
      "pg_stats can hold samples of protected columns or other sessions' statements.",
    ],
    [
      "DDL",
      effectOf("ddl", "alter_table", { relations: [{ name: "public.customers", access: "ddl" }] }),
      "builtin/protected-ddl",
      "public.customers has columns that are masked for you, so you may not change its definition or rights.",
    ],
    [
      "rights",
      effectOf("privilege", "grant", { relations: [{ name: "public.customers", access: "ddl" }] }),
      "builtin/protected-ddl",
      "public.customers has columns that are masked for you, so you may not change its definition or rights.",
    ],
    [
      "write flow",
      effectOf("write", "insert", { writeFlows: ["public.customers.ssn"] }),
      "builtin/protected-write-flow",
      "The statement copies public.customers.ssn to where it would no longer be masked.",
    ],
    [
      "unknown write flow",
      effectOf("write", "insert", { writeFlows: ["*"] }),
      "builtin/protected-write-flow",
      "The statement copies data whose origin cannot be known to where it would no longer be masked.",
    ],
    [
      "influence",
      influence("public.customers.ssn", "other"),
      "builtin/protected-influence",
      "The statement filters, joins, sorts or groups by public.customers.ssn, which would tell about masked values.",
    ],
    [
      "unknown influence",
      influence("*", "equality"),
      "builtin/protected-influence",
      "The statement filters, joins, sorts or groups by data whose origin cannot be known, which would tell about masked values.",
    ],
    [
      "an expression that tells",
      statement({ tells: ["public.customers.id", "public.customers.ssn"] }),
      "builtin/protected-influence",
      "The statement computes from public.customers.ssn what may fail or be left out for some values, which would tell about them.",
    ],
    [
      "COPY of unknown columns",
      copyOut([], { columnsKnown: false }),
      "builtin/copy-out-masked",
      "COPY TO would send columns that cannot be known without the masks that apply to you.",
    ],
    [
      "COPY written in a way that cannot be read",
      { ...effectOf("export", "copy_to"), copy: "out", columns: [] },
      "builtin/copy-out-masked",
      "The options of this COPY write rows in a way that cannot be masked.",
    ],
    [
      "role",
      setting("role", "postgres"),
      "builtin/session-setting",
      "role would change whose rights the target applies, on a resource with columns that are masked for you.",
    ],
    [
      "authorization",
      setting("SESSION_AUTHORIZATION", "x"),
      "builtin/session-setting",
      "session_authorization would change whose rights the target applies, on a resource with columns that are masked for you.",
    ],
    ...[
      ["session_replication_role", "which triggers and rules the target runs"],
      ["Allow_System_Table_Mods", "whether the target's catalogs may be written"],
      ["dynamic_library_path", "which code the target loads"],
      ["local_preload_libraries", "which code the target loads"],
      ["session_preload_libraries", "which code the target loads"],
      ["lo_compat_privileges", "who may read large objects"],
    ].map(
      ([name, what]) =>
        [
          `setting ${name}`,
          setting(name!, "x"),
          "builtin/session-setting",
          `${name!.toLowerCase()} would change ${what}, on a resource with columns that are masked for you.`,
        ] as [string, StatementModel, string, string],
    ),
  ])("%s is refused", (_name, model, rule, reason) => {
    const decision = decided(model);
    expect(decision).toMatchObject({ effect: "deny", rule, reason });
    expect(decision.rules).toContain(rule);
    expect(decision.hint).toMatch(/^[A-Z].*\.$/);
  });

  it.each<[string, StatementModel]>([
    ["equality", influence("public.customers.ssn", "equality")],
    ["influence of another column", influence("public.customers.email", "other")],
    ["DDL elsewhere", effectOf("ddl", "alter_table", { relations: [{ name: "public.orders", access: "ddl" }] })],
    ["reading the table", statement({ relations: [{ name: "public.customers", access: "read" }] })],
    ["write flow of another column", effectOf("write", "insert", { writeFlows: ["public.customers.email"] })],
    ["COPY of another table", copyOut(["public.orders.note"])],
    ["COPY of a protected column, which is masked", copyOut(["public.customers.ssn"])],
    ["COPY in", effectOf("write", "copy_from", { copy: "in", reaches: ["public.customers.ssn"] })],
  ])("%s passes", (_name, model) => {
    expect(decided(model).effect).toBe("allow");
  });

  it.each<[MaskSpec["influences"], MaskSpec["influences"], readonly [string, string]]>([
    ["allow", "allow", ["allow", "allow"]],
    ["allow", "equality", ["allow", "deny"]],
    ["equality", "allow", ["allow", "deny"]],
    ["deny", "allow", ["deny", "deny"]],
    ["equality", "deny", ["deny", "deny"]],
  ])("of influences %s and %s the stricter holds", (one, other, expected) => {
    const rules = [
      { ...mask, name: "a", influences: one },
      { ...mask, name: "b", influences: other },
    ];
    const forms = ["equality", "other"] as const;
    expect(forms.map((form) => decided(influence("public.customers.ssn", form), rules).effect)).toEqual(expected);
  });

  it("counts a mask rule with a condition as protecting, whatever the statement", () => {
    const sometimes = [{ ...mask, when: "statement.class == 'write'" }];
    expect(decided(copyOut([], { columnsKnown: false }), sometimes)).toMatchObject({
      effect: "deny",
      rule: "builtin/copy-out-masked",
    });
    expect(decided(statement({ undecided: ["f"] }), sometimes)).toMatchObject({ effect: "deny", rule: "builtin/undecided" });
  });

  it("lets COPY of texts pass where values are looked into, unless it is not known which columns it has", () => {
    expect(decided(copyOut(["public.orders.note"]), [mask], true).effect).toBe("allow");
    expect(decided(copyOut([], { columns: null }), [mask], true)).toMatchObject({ rule: "builtin/copy-out-masked" });
  });
});

describe("for a caller without masked columns", () => {
  const elsewhere: readonly RuleSpec[] = [{ ...mask, entities: ["CREDIT_CARD"] }];
  it.each<[string, StatementModel]>([
    ["undecided", statement({ undecided: ["function public.f"] })],
    ["escape", statement({ escapes: ["dblink"] })],
    ["catalog", statement({ sensitiveCatalogs: ["pg_stats"] })],
    ["DDL", effectOf("ddl", "alter_table", { relations: [{ name: "public.customers", access: "ddl" }] })],
    ["write flow", effectOf("write", "insert", { writeFlows: ["public.customers.ssn", "*"] })],
    ["influence", influence("public.customers.ssn", "other")],
    ["COPY", copyOut(["public.customers.ssn", "*"])],
    ["role", setting("role", "postgres")],
  ])("%s passes", (_name, model) => {
    expect(decided(model, []).effect).toBe("allow");
    expect(decided(model, elsewhere).effect).toBe("allow");
  });
});

describe("session settings, for everybody", () => {
  it.each<[string, string | null, "allow" | "deny"]>([
    ["standard_conforming_strings", "off", "deny"],
    ["standard_conforming_strings", null, "deny"],
    ["Standard_Conforming_Strings", "OFF", "deny"],
    ["standard_conforming_strings", "on", "allow"],
    ["backslash_quote", "on", "deny"],
    ["backslash_quote", "safe_encoding", "allow"],
    ["client_encoding", "LATIN1", "deny"],
    ["client_encoding", "SJIS", "deny"],
    ["client_encoding", null, "deny"],
    ["client_encoding", "UTF8", "allow"],
    ["client_encoding", "utf-8", "allow"],
    ["escape_string_warning", "off", "allow"],
    ["search_path", "public", "allow"],
    ["sluice.session_id", "x", "deny"],
    ["SLUICE.anything", "x", "deny"],
    ["sluice.wait", "60s", "allow"],
    ["sluice.grant", "g", "allow"],
    ["sluice.task", "t", "allow"],
    ["sluice.purpose", "p", "allow"],
    ["sluice.step", "s", "allow"],
    ["constructor", "x", "allow"],
    ["__proto__", "x", "allow"],
  ])("%s = %s: %s", (name, value, effect) => {
    const decision = decided(setting(name, value), []);
    expect(decision.effect).toBe(effect);
    if (effect === "deny") expect(decision.rule).toBe("builtin/session-setting");
  });
});

describe("column masks", () => {
  const masked = (rules: readonly RuleSpec[], origins: readonly string[], exact: boolean): Decision["columns"][number]["mask"] =>
    decided(statement({ columns: [{ name: "x", origins, exact }] }), rules).columns[0]?.mask;
  const partial = (keepFirst: number, keepLast: number): MaskOperator => ({ kind: "partial", keepFirst, keepLast });
  const ssn = ["public.customers.ssn"];

  it.each<[string, readonly RuleSpec[], readonly string[], boolean, Decision["columns"][number]["mask"]]>([
    [
      "partial on the column itself",
      [{ ...mask, operator: partial(0, 4) }],
      ssn,
      true,
      { entity: "US_SSN", operator: "partial" },
    ],
    ["partial on what is derived", [{ ...mask, operator: partial(0, 4) }], ssn, false, { entity: "US_SSN", operator: "redact" }],
    [
      "exact but of two origins",
      [{ ...mask, operator: partial(0, 4) }],
      [...ssn, "public.orders.id"],
      true,
      { entity: "US_SSN", operator: "redact" },
    ],
    ["null on what is derived", [{ ...mask, operator: { kind: "null" } }], ssn, false, { entity: "US_SSN", operator: "null" }],
    ["unknown origin", [{ ...mask, operator: partial(0, 4) }], ["*"], false, { entity: "UNKNOWN", operator: "redact" }],
    ["unknown and known origin", [mask], ["*", ...ssn], false, { entity: "US_SSN", operator: "redact" }],
    ["unprotected", [mask], ["public.customers.email"], true, undefined],
    ["no origin", [mask], [], false, undefined],
    ["unknown origin, nothing protected", [], ["*"], false, undefined],
    ["condition does not hold", [{ ...mask, when: "false" }], ssn, true, undefined],
    [
      "unknown origin though the condition does not hold",
      [{ ...mask, when: "false" }],
      ["*"],
      false,
      { entity: "UNKNOWN", operator: "redact" },
    ],
    [
      "condition fails",
      [{ ...mask, when: "principal.claims.missing == 1" }],
      ssn,
      true,
      { entity: "US_SSN", operator: "redact" },
    ],
    [
      "redact before partial",
      [
        { ...mask, name: "a", operator: partial(0, 4) },
        { ...mask, name: "b" },
      ],
      ssn,
      true,
      { entity: "US_SSN", operator: "redact" },
    ],
    [
      "null before redact",
      [
        { ...mask, name: "a" },
        { ...mask, name: "b", operator: { kind: "null" } },
      ],
      ssn,
      true,
      { entity: "US_SSN", operator: "null" },
    ],
    [
      "two partials with nothing in common",
      [
        { ...mask, name: "a", operator: partial(2, 0) },
        { ...mask, name: "b", operator: partial(0, 4) },
      ],
      ssn,
      true,
      { entity: "US_SSN", operator: "redact" },
    ],
    [
      "two partials",
      [
        { ...mask, name: "a", operator: partial(2, 4) },
        { ...mask, name: "b", operator: partial(1, 6) },
      ],
      ssn,
      true,
      { entity: "US_SSN", operator: "partial" },
    ],
  ])("%s", (_name, rules, origins, exact, expected) => {
    expect(masked(rules, origins, exact)).toEqual(expected);
  });

  it("names the rule that decided, with its own reason", () => {
    const rules: readonly RuleSpec[] = [
      { ...mask, reason: "personal data" },
      { name: "cap", effect: "limit", rows: 3 },
    ];
    const decision = decided(statement({ columns: [{ name: "x", origins: ssn, exact: true }] }), rules);
    expect(decision).toMatchObject({ effect: "mask", rule: "p/mask", reason: "personal data", rowsMax: 3 });
    expect(decision.rules).toEqual(["p/all", "p/cap", "p/mask"]);
  });

  it("asks the mask rule's principal, not anybody's", () => {
    const snapshot = snapshotWith([]);
    const other: PolicySpec = { name: "other", principals: { groups: ["dba"] }, resources: {}, rules: [mask] };
    const input = inputFor(
      { ...snapshot, policies: [...snapshot.policies, other] },
      { statement: statement({ columns: [{ name: "x", origins: ssn, exact: true }] }) },
    );
    expect(decide(input).effect).toBe("allow");
    expect(decide({ ...input, principal: principal({ groups: ["dba"] }) }).effect).toBe("mask");
  });
});
