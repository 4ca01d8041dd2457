/**
 * What a condition can come to for statements of one class, when nothing else is known of them. Used to say what a principal can
 * never do; it must never leave out an outcome that some statement has: what it does not understand can be anything.
 */
import type { ASTNode } from "@marcbachmann/cel-js";
import { evaluatePiece, type PartialFacts, parseAlone } from "./conditions.ts";

/** Which ways a condition can end. */
export interface Outcomes {
  readonly yes: boolean;
  readonly no: boolean;
  readonly error: boolean;
}

/**
 * The outcomes of a condition over all statements of a class, to be asked for any number of classes. A text that does not parse can
 * only fail.
 */
export function possibleOutcomes(text: string): (facts: PartialFacts) => Outcomes {
  const tree = parseAlone(text);
  return (facts) => (tree === null ? failing : outcomesOf(tree, facts));
}

const anything: Outcomes = { yes: true, no: true, error: true };
const failing: Outcomes = { yes: false, no: false, error: true };

/** An operand that fails may be outdone by the other one or not, and either may be asked first: all ways are counted. */
function outcomesOf(node: ASTNode, facts: PartialFacts): Outcomes {
  switch (node.op) {
    case "&&": {
      const [a, b] = [outcomesOf(node.args[0], facts), outcomesOf(node.args[1], facts)];
      return { yes: a.yes && b.yes, no: a.no || (b.no && (a.yes || a.error)), error: failsWith(a, b, a.yes, b.yes) };
    }
    case "||": {
      const [a, b] = [outcomesOf(node.args[0], facts), outcomesOf(node.args[1], facts)];
      return { yes: a.yes || (b.yes && (a.no || a.error)), no: a.no && b.no, error: failsWith(a, b, a.no, b.no) };
    }
    case "!_": {
      const inner = outcomesOf(node.args, facts);
      return { yes: inner.no, no: inner.yes, error: inner.error };
    }
    case "?:": {
      const [condition, then, otherwise] = node.args.map((part) => outcomesOf(part, facts)) as [Outcomes, Outcomes, Outcomes]; // the operator has three operands
      return {
        yes: (condition.yes && then.yes) || (condition.no && otherwise.yes),
        no: (condition.yes && then.no) || (condition.no && otherwise.no),
        error: condition.error || (condition.yes && then.error) || (condition.no && otherwise.error),
      };
    }
    default:
      return isKnown(node) ? evaluated(node, facts) : anything;
  }
}

/** `goesOn`: the value that does not settle the matter, so that the other operand is asked. */
function failsWith(a: Outcomes, b: Outcomes, aGoesOn: boolean, bGoesOn: boolean): boolean {
  return (a.error && (bGoesOn || b.error || b.yes || b.no)) || (b.error && (aGoesOn || a.error));
}

/** Asks for the principal, the resource and the statement's class alone. Names bound by macros stay inside their macro. */
function isKnown(node: ASTNode): boolean {
  let known = true;
  const look = (value: unknown): void => {
    if (Array.isArray(value)) {
      for (const item of value) look(item);
    } else if (isNode(value)) {
      if (value.op === "." && isNode(value.args[0]) && value.args[0].op === "id" && value.args[0].args === "statement") {
        if (value.args[1] !== "class") known = false;
      } else if (value.op === "id") {
        if (value.args === "statement" || value.args === "session" || value.args === "request") known = false;
      } else look(value.args);
    }
  };
  look(node);
  return known;
}

/** The piece is written out and evaluated by itself, but only where what is written reads as the very same expression. */
function evaluated(node: ASTNode, facts: PartialFacts): Outcomes {
  const piece = written(node);
  const alone = piece === null ? null : parseAlone(piece);
  if (piece === null || alone === null || shapeOf(alone) !== shapeOf(node)) return anything;
  const value = evaluatePiece(piece, facts);
  return value === null ? failing : { yes: value, no: !value, error: false };
}

/** CEL for a tree, with all its brackets. Null: it holds something that is not written here. */
function written(node: ASTNode): string | null {
  switch (node.op) {
    case "value":
      return literal(node.args);
    case "id":
      return node.args;
    case ".":
      return join`${written(node.args[0])}.${node.args[1]}`;
    case "[]":
      return join`${written(node.args[0])}[${written(node.args[1])}]`;
    case "call":
      return join`${node.args[0]}(${listed(node.args[1])})`;
    case "rcall":
      return join`${written(node.args[1])}.${node.args[0]}(${listed(node.args[2])})`;
    case "list":
      return join`[${listed(node.args)}]`;
    case "!_":
      return join`!(${written(node.args)})`;
    case "-_":
      return join`-(${written(node.args)})`;
    case "?:":
      return join`((${written(node.args[0])}) ? (${written(node.args[1])}) : (${written(node.args[2])}))`;
    case ".?":
    case "[?]":
    case "map":
      return null;
    default:
      return join`(${written(node.args[0])} ${node.op} ${written(node.args[1])})`;
  }
}

function listed(nodes: readonly ASTNode[]): string | null {
  const parts = nodes.map(written);
  return parts.includes(null) ? null : parts.join(", ");
}

function literal(value: unknown): string | null {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint" || typeof value === "boolean") return `${value}`;
  return value === null ? "null" : null;
}

function join(texts: TemplateStringsArray, ...parts: readonly (string | null)[]): string | null {
  return parts.includes(null) ? null : String.raw({ raw: texts }, ...parts);
}

/** The tree without where in the text it stood. */
function shapeOf(value: unknown): string {
  if (isNode(value)) return `${value.op}:${shapeOf(value.args)}`;
  if (Array.isArray(value)) return `[${value.map(shapeOf).join(",")}]`;
  return typeof value === "bigint" ? `${value}n` : JSON.stringify(value);
}

function isNode(value: unknown): value is ASTNode {
  return typeof value === "object" && value !== null && "op" in value && "args" in value;
}
