import { describe, expect, it } from "vitest";
import { type CompiledCondition, compileCondition, factsFor, type FactsInput } from "./conditions.ts";
import { principal, session, statement } from "./sample-input.ts";

const resource: FactsInput["resource"] = {
  name: "orders",
  labels: { env: "prod" },
  protocol: "postgres",
  target: { host: "db", port: 5432, database: "orders", databases: [], tls: { mode: "verify-full" } },
  credential: { username: { kind: "value", value: "app" } },
  inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
};

const input: FactsInput = {
  principal: principal(),
  resource,
  session,
  statement: statement({
    limit: 10,
    effects: [
      { name: "select", class: "read" },
      { name: "select", class: "read" },
    ],
  }),
  text: "select 1",
  nowMs: Date.UTC(2026, 0, 2, 9),
  influences: ["public.customers.ssn"],
  bulkExport: true,
};

function run(text: string, over: Partial<FactsInput> = {}): boolean {
  const compiled = compileCondition(text, false);
  if (!compiled.ok) throw new Error(compiled.message);
  return compiled.condition(factsFor({ ...input, ...over })("read"));
}

function messageOf(compiled: CompiledCondition): string {
  if (compiled.ok) throw new Error("compiled");
  return compiled.message;
}

describe("conditions", () => {
  it.each([
    "principal.subject == 'planner' && principal.issuer == 'https://login.example.com'",
    "'agents' in principal.groups && principal.kind == 'agent' && principal.owner == 'ann' && principal.task == 't1'",
    "principal.claims.team == 'core' && principal.claims.level >= 3 && 'a' in principal.claims.tags",
    "resource.name == 'orders' && resource.labels.env == 'prod' && resource.protocol == 'postgres'",
    "statement.class == 'read' && statement.effects == ['select'] && statement.bulkExport && statement.hasWhere",
    "statement.relations.exists(r, r.name == 'public.orders' && r.access == 'read')",
    "statement.columns.all(c, c.exact && c.origins == ['public.orders.id'] && c.name == 'id')",
    "statement.influences.exists(i, i.endsWith('.ssn')) && statement.undecided.size() == 0",
    "statement.limit == 10 && statement.text == 'select 1'",
    "session.id == 's_1' && session.clientAddress == '127.0.0.1' && session.application == 'psql'",
    "session.declared.purpose == 'test'",
    "request.time - session.startedAt == duration('1h')",
    "request.time.getHours('UTC') == 9",
    "!has(principal.claims.nothing)",
  ])("%s", (text) => {
    expect(run(text)).toBe(true);
  });

  it("gives -1 for no limit", () => {
    expect(run("statement.limit == -1", { statement: statement({ limit: null }) })).toBe(true);
  });

  it.each([
    "principal.claims.nothing == 'x'",
    "principal.claims.gone > 1",
    "principal.claims.team",
    "session.declared.nothing == 'x'",
    "statement.text.matches(principal.claims.team + '(')",
  ])("%s throws: what that means is the rule's affair", (text) => {
    expect(() => run(text, { principal: principal({ claims: { team: "core", gone: null } }) })).toThrow();
  });

  it("matches without backtracking, also inside macros", () => {
    const evil = `${"a".repeat(30)}!`;
    const began = performance.now();
    expect(run("statement.text.matches('^(a+)+$')", { text: evil })).toBe(false);
    expect(run("statement.undecided.exists(u, u.matches('^(a|a)+$'))", { statement: statement({ undecided: [evil] }) })).toBe(
      false,
    );
    expect(performance.now() - began).toBeLessThan(500); // a backtracking engine tries 2^30 ways: seconds
    expect(run("statement.text.matches('sel.ct')")).toBe(true);
  });

  it.each([
    ["statement.clas == 'read'", "'statement.clas' is not a field of conditions. Did you mean 'statement.class'?"],
    [
      "principal.zzzzzz == 'x'",
      "'principal.zzzzzz' is not a field of conditions. Fields are subject, issuer, groups, kind, owner, claims, task.",
    ],
    ["statement.relations.exists(r, r.nmae == 'x')", "'nmae' is not a field of conditions. Did you mean 'name'?"],
    ["statment.class == 'read'", "'statment' is not known to conditions. Did you mean 'statement'?"],
    ["bulkExport", "'bulkExport' is not known to conditions. Did you mean 'statement.bulkExport'?"],
    ["zzzz == 1", "'zzzz' is not known to conditions. Conditions know principal, resource, statement, session, request."],
    ["statement.limit", "the condition must give true or false, but gives int"],
    ["statement.class ==", "the condition is not valid CEL: Unexpected token: EOF"],
    ["statement.class == 1", "the condition does not type-check: no such overload: string == int"],
    ["statement.limit.matches('a')", "the condition does not type-check: found no matching overload for 'int.matches(string)'"],
  ])("%s is a fault", (text, message) => {
    expect(messageOf(compileCondition(text, false))).toBe(message);
  });

  it("says what is wrong with a pattern", () => {
    expect(messageOf(compileCondition("statement.text.matches('(?=a)')", false))).toMatch(
      /^the pattern '\(\?=a\)' is not valid: .*look-around/,
    );
  });

  const claimed =
    "an allow rule cannot use 'session.declared' or 'session.application': what a client says about itself never allows anything";
  it.each([
    "session.declared.purpose == 'x'",
    "session['declared']['purpose'] == 'x'",
    "session.application == 'psql'",
    "has(session.declared.purpose)",
    "[session].exists(s, s.declared.size() > 0)",
    "dyn(session).declared.size() > 0",
    "true || session.application == 'x'",
    "session[resource.name] == 'x'",
  ])("an allow rule cannot use a claim of the client: %s", (text) => {
    expect(messageOf(compileCondition(text, true))).toBe(claimed);
  });

  it("a deny rule may use a claim of the client", () => {
    expect(compileCondition("session.application == 'psql' || 'purpose' in session.declared", false).ok).toBe(true);
  });

  it("an allow rule can use what the gateway sees of the session", () => {
    expect(
      compileCondition("session.clientAddress == '10.0.0.1' && session.id != '' && session.startedAt < request.time", true).ok,
    ).toBe(true);
    expect(compileCondition("session['clientAddress'] == '10.0.0.1'", true).ok).toBe(true);
  });
});
