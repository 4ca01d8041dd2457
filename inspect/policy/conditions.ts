/**
 * Conditions (`when`) of rules: CEL over the documented fields, typed, so that a misspelt field is a fault when the policy is
 * applied and not a surprise when a statement runs. It must never decide what an error means: it throws, the rule's kind decides.
 * Spec: https://github.com/google/cel-spec; `matches` runs on RE2 because the library's own backtracks.
 */
import { type ASTNode, Environment, type ParseResult } from "@marcbachmann/cel-js";
import { didYouMean } from "@sluice/core/did-you-mean.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { RE2JS } from "re2js";
import type { StatementClass, StatementModel } from "../sql/model.ts";

/** What a client says or is seen as. `declared` (and `application`, which is declared too) never allows anything. */
export interface SessionFacts {
  readonly id: string;
  readonly clientAddress: string;
  readonly application: string;
  readonly startedAtMs: number;
  readonly declared: Readonly<Record<string, string>>;
}

/** What a condition sees. Built by `factsFor`; opaque to everybody else. */
export interface ConditionFacts {
  readonly principal: PrincipalFacts;
  readonly resource: ResourceFacts;
  readonly statement: StatementFacts;
  readonly session: DocumentedSession;
  readonly request: RequestFacts;
}

/** True or false; throws when the expression cannot be evaluated or gives anything else. */
export type Condition = (facts: ConditionFacts) => boolean;

export type CompiledCondition =
  | { readonly ok: true; readonly condition: Condition }
  | { readonly ok: false; readonly message: string };

export interface FactsInput {
  readonly principal: Principal;
  readonly resource: ResourceSpec;
  readonly session: SessionFacts;
  readonly statement: StatementModel;
  readonly text: string;
  readonly nowMs: number;
  /** Protected columns used outside the output. */
  readonly influences: readonly string[];
  readonly bulkExport: boolean;
}

/**
 * Compiles one condition. `permits` is true for rules that let a statement through by themselves: those may not look at what
 * a client says about itself. Never throws; the message is for the author of the policy.
 */
export function compileCondition(text: string, permits: boolean): CompiledCondition {
  let parsed: ParseResult;
  try {
    parsed = environment.parse(text);
  } catch (error) {
    return { ok: false, message: `the condition is not valid CEL: ${summaryOf(error)}` };
  }
  const patternFault = bindMatches(parsed.ast);
  if (patternFault !== undefined) return { ok: false, message: patternFault };
  const checked = parsed.check();
  if (!checked.valid) return { ok: false, message: explain(checked.error, text) };
  if (checked.type !== "bool" && checked.type !== "dyn") {
    return { ok: false, message: `the condition must give true or false, but gives ${checked.type ?? "nothing"}` };
  }
  if (permits) {
    const claimed = declaredUse(parsed.ast);
    if (claimed !== undefined) return { ok: false, message: claimed };
  }
  return { ok: true, condition: (facts) => evaluate(parsed, facts) };
}

/** Facts for one class of one statement. Cheap to call again with another class: what does not change is kept. */
export function factsFor(input: FactsInput): (statementClass: StatementClass) => ConditionFacts {
  const { principal, resource, session, statement, text } = input;
  const shape = shapeOf(statement);
  const fixed = {
    principal: principalFacts(principal),
    resource: resourceFacts(resource),
    session: new DocumentedSession({
      id: session.id,
      clientAddress: session.clientAddress,
      application: session.application,
      startedAt: new Date(session.startedAtMs),
      declared: session.declared,
    }),
    request: new RequestFacts({ time: new Date(input.nowMs) }),
  };
  const common = {
    effects: shape.effects,
    relations: shape.relations,
    columns: shape.columns,
    influences: input.influences,
    bulkExport: input.bulkExport,
    hasWhere: statement.hasWhere,
    limit: wholeNumber(statement.limit),
    undecided: statement.undecided,
    text,
  };
  return (statementClass) => ({ ...fixed, statement: new StatementFacts({ class: statementClass, ...common }) });
}

/** The class is what tells the evaluator the type; the fields are checked against the tables below. */
// oxlint-disable-next-line typescript/no-extraneous-class -- the evaluator knows a value's type by its class
class Facts {
  constructor(fields: Readonly<Record<string, unknown>>) {
    Object.assign(this, fields);
  }
}
class PrincipalFacts extends Facts {}
class ResourceFacts extends Facts {}
class StatementFacts extends Facts {}
class DocumentedSession extends Facts {}
class RequestFacts extends Facts {}
class RelationFacts extends Facts {}
class ColumnFacts extends Facts {}

const TIME = "google.protobuf.Timestamp";
const listFields = {
  Relation: { name: "string", access: "string" },
  Column: { name: "string", origins: "list<string>", exact: "bool" },
} as const;
/** The documented fields and their CEL types: the only place they are listed. */
const fields = {
  principal: {
    subject: "string",
    issuer: "string",
    groups: "list<string>",
    kind: "string",
    owner: "string",
    claims: "map<string, dyn>",
    task: "string",
  },
  resource: { name: "string", labels: "map<string, string>", protocol: "string" },
  statement: {
    class: "string",
    effects: "list<string>",
    relations: "list<Relation>",
    columns: "list<Column>",
    influences: "list<string>",
    bulkExport: "bool",
    hasWhere: "bool",
    limit: "int",
    undecided: "list<string>",
    text: "string",
  },
  session: { id: "string", clientAddress: "string", application: "string", startedAt: TIME, declared: "map<string, string>" },
  request: { time: TIME },
} as const;
/** Of `session`, what the gateway itself knows; the rest is the client's word. */
const observedSessionFields: readonly string[] = ["id", "clientAddress", "startedAt"];
/** Our name for `matches`: the library does not let its own be replaced, so calls are renamed before they are checked. */
const LINEAR_MATCHES = "matchesLinear";

const environment = buildEnvironment();

function buildEnvironment(): Environment {
  const built = new Environment({ unlistedVariablesAreDyn: false });
  built.registerType("Relation", { ctor: RelationFacts, fields: listFields.Relation });
  built.registerType("Column", { ctor: ColumnFacts, fields: listFields.Column });
  built.registerType("Principal", { ctor: PrincipalFacts, fields: fields.principal });
  built.registerType("Resource", { ctor: ResourceFacts, fields: fields.resource });
  built.registerType("Statement", { ctor: StatementFacts, fields: fields.statement });
  built.registerType("Session", { ctor: DocumentedSession, fields: fields.session });
  built.registerType("Request", { ctor: RequestFacts, fields: fields.request });
  built.registerVariable("principal", "Principal");
  built.registerVariable("resource", "Resource");
  built.registerVariable("statement", "Statement");
  built.registerVariable("session", "Session");
  built.registerVariable("request", "Request");
  built.registerFunction(`string.${LINEAR_MATCHES}(string): bool`, (text: string, pattern: string) =>
    linearPattern(pattern).test(text),
  );
  return built;
}

function evaluate(parsed: ParseResult, facts: ConditionFacts): boolean {
  const value: unknown = parsed({ ...facts });
  if (typeof value !== "boolean") throw new TypeError("the condition gave neither true nor false");
  return value;
}

const patterns = new Map<string, RE2JS>();

function linearPattern(pattern: string): RE2JS {
  const known = patterns.get(pattern);
  if (known !== undefined) return known;
  const compiled = RE2JS.compile(pattern);
  if (patterns.size >= defaultLimits.conditionPatternsMax) patterns.clear();
  patterns.set(pattern, compiled);
  return compiled;
}

/** Renames calls of `matches` to ours; returns a message when a literal pattern is not valid. */
function bindMatches(ast: ASTNode): string | undefined {
  let fault: string | undefined;
  visit(ast, (node) => {
    if (node.op !== "rcall" || !Array.isArray(node.args) || node.args[0] !== "matches") return;
    const args: unknown[] = node.args; // [name, receiver, arguments] of a method call in this library's tree
    args[0] = LINEAR_MATCHES;
    const pattern = Array.isArray(args[2]) ? (args[2][0] as AnyNode | undefined) : undefined; // shape of the same tree
    if (pattern?.op !== "value" || typeof pattern.args !== "string") return;
    try {
      linearPattern(pattern.args);
    } catch (error) {
      fault ??= `the pattern '${pattern.args}' is not valid: ${summaryOf(error)} (RE2 syntax: no look-around, no back references)`;
    }
  });
  return fault;
}

/** Any way to `session` but by one of the fields that the gateway observes itself counts as using a claim. */
function declaredUse(ast: ASTNode): string | undefined {
  const allowed = new Set<AnyNode>();
  visit(ast, (node) => {
    if ((node.op !== "." && node.op !== "[]") || !Array.isArray(node.args)) return;
    const [receiver, key] = node.args as [AnyNode, unknown]; // both node kinds hold [receiver, key]
    if (!isNode(receiver) || receiver.op !== "id" || receiver.args !== "session") return;
    const name = isNode(key) ? (key.op === "value" ? key.args : undefined) : key;
    if (typeof name === "string" && observedSessionFields.includes(name)) allowed.add(receiver);
  });
  let claimed = false;
  visit(ast, (node) => {
    if (node.op === "id" && node.args === "session" && !allowed.has(node)) claimed = true;
  });
  if (!claimed) return undefined;
  return "an allow rule cannot use 'session.declared' or 'session.application': what a client says about itself never allows anything";
}

/** Parsed alone: nothing is checked, and calls keep the names that the author gave them. Null: it does not parse. */
export function parseAlone(text: string): ASTNode | null {
  try {
    return environment.parse(text).ast;
  } catch {
    return null;
  }
}

/** What is known of any statement of one class: the rest is left out, and who asks for it gets an error. */
export interface PartialFacts {
  readonly principal: Principal;
  readonly resource: ResourceSpec;
  readonly statementClass: StatementClass;
}

/** Evaluates a piece that asks for nothing but what is given. Null: it gives neither true nor false. */
export function evaluatePiece(text: string, { principal, resource, statementClass }: PartialFacts): boolean | null {
  let compiled = pieces.get(text);
  if (compiled === undefined) {
    compiled = compileCondition(text, false);
    if (pieces.size >= PIECES_MAX) pieces.clear();
    pieces.set(text, compiled);
  }
  if (!compiled.ok) return null;
  const facts = {
    principal: principalFacts(principal),
    resource: resourceFacts(resource),
    statement: new StatementFacts({ class: statementClass }),
  };
  try {
    return compiled.condition(facts as ConditionFacts); // the piece asks for no more: whoever cut it out has looked
  } catch {
    return null;
  }
}

/** Pieces kept compiled: many rules ask the same few things. About 2 KiB each. */
const PIECES_MAX = 1_024;
const pieces = new Map<string, CompiledCondition>();

function principalFacts(principal: Principal): PrincipalFacts {
  return new PrincipalFacts({
    subject: principal.subject,
    issuer: principal.issuer,
    groups: principal.groups,
    kind: principal.kind,
    owner: principal.owner,
    claims: principal.claims,
    task: principal.task,
  });
}

function resourceFacts(resource: ResourceSpec): ResourceFacts {
  return new ResourceFacts({ name: resource.name, labels: resource.labels, protocol: resource.protocol });
}

interface AnyNode {
  readonly op: string;
  readonly args: unknown;
}

function isNode(value: unknown): value is AnyNode {
  return typeof value === "object" && value !== null && "op" in value && "args" in value;
}

function visit(value: unknown, see: (node: AnyNode) => void): void {
  if (Array.isArray(value)) {
    for (const item of value) visit(item, see);
  } else if (isNode(value)) {
    see(value);
    visit(value.args, see);
  }
}

interface CelError {
  readonly code?: unknown;
  readonly summary?: unknown;
  readonly message?: unknown;
  readonly range?: { readonly start: number; readonly end: number };
}

function explain(error: unknown, text: string): string {
  const { code, range } = (error ?? {}) as CelError; // fields of the library's errors, each tested before use
  const word = range === undefined ? "" : text.slice(range.start, range.end);
  if (code === "no_such_key") return unknownField(word, text.slice(0, range?.start ?? 0));
  if (code === "unknown_variable") return unknownVariable(word);
  return `the condition does not type-check: ${summaryOf(error).replaceAll(LINEAR_MATCHES, "matches")}`;
}

function unknownField(word: string, before: string): string {
  const owner = /([A-Za-z_]+)\s*\.\s*$/.exec(before)?.[1];
  const known = owner !== undefined && isFieldOwner(owner) ? Object.keys(fields[owner]) : undefined;
  const prefix = known === undefined ? "" : `${owner ?? ""}.`;
  const candidates = known ?? Object.values(listFields).flatMap((of) => Object.keys(of));
  const guess = didYouMean(word, candidates);
  const help = guess === undefined ? `Fields are ${candidates.join(", ")}.` : `Did you mean '${prefix}${guess}'?`;
  return `'${prefix}${word}' is not a field of conditions. ${help}`;
}

function unknownVariable(word: string): string {
  for (const [owner, known] of Object.entries(fields)) {
    if (Object.hasOwn(known, word)) return `'${word}' is not known to conditions. Did you mean '${owner}.${word}'?`;
  }
  const guess = didYouMean(word, Object.keys(fields));
  const help = guess === undefined ? `Conditions know ${Object.keys(fields).join(", ")}.` : `Did you mean '${guess}'?`;
  return `'${word}' is not known to conditions. ${help}`;
}

function isFieldOwner(name: string): name is keyof typeof fields {
  return Object.hasOwn(fields, name);
}

function summaryOf(error: unknown): string {
  const { summary, message } = (error ?? {}) as CelError; // fields of the library's errors, each tested before use
  if (typeof summary === "string") return summary;
  return typeof message === "string" ? message : "unknown fault";
}

interface StatementShape {
  readonly effects: readonly string[];
  readonly relations: readonly RelationFacts[];
  readonly columns: readonly ColumnFacts[];
}

/** Cached analyses are decided again and again: their lists are turned into facts once. */
const shapes = new WeakMap<StatementModel, StatementShape>();

function shapeOf(model: StatementModel): StatementShape {
  const known = shapes.get(model);
  if (known !== undefined) return known;
  const shape: StatementShape = {
    effects: [...new Set(model.effects.map((effect) => effect.name))],
    relations: model.relations.map(({ name, access }) => new RelationFacts({ name, access })),
    columns: (model.columns ?? []).map(({ name, origins, exact }) => new ColumnFacts({ name, origins, exact })),
  };
  shapes.set(model, shape);
  return shape;
}

/** CEL integers are BigInt; no limit, or one that is not a number of rows, is -1. */
function wholeNumber(value: number | null): bigint {
  return value === null || !Number.isFinite(value) ? -1n : BigInt(Math.floor(value));
}
