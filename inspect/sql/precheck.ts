/**
 * A look at a text before any parser sees it: what would hide from the parser or hurt it is refused, what is merely unusual is
 * marked, so that a parser nobody else depends on tries it first. Must never be the judge of what a text means: it counts.
 * Lexical rules: PostgreSQL manual 4.1. Where strings end is only guessed (it depends on settings), so raw counts decide too.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";

/** `abnormal`: parse in a disposable worker first. */
export type TextNature = "trusted" | "abnormal";

export type PrecheckLimits = Pick<Limits, "statementBytesMax" | "trustedStatementBytesMax" | "statementDepthMax">;

/**
 * Checks a text. Throws GatewayError `statement_invalid` for a NUL byte (the parser would stop there, the server would not see the
 * same text) and `statement_too_long` for too many bytes of UTF-8 or too deep nesting of comments and brackets.
 */
export function precheck(text: string, limits: PrecheckLimits): TextNature {
  if (text.includes("\0")) {
    throw new GatewayError("statement_invalid", "The statement holds a NUL character.", {
      hint: "Send bytes as a parameter or as a hexadecimal literal.",
    });
  }
  // Every UTF-16 unit is at least one byte: the exact count is needed only near the limit.
  if (text.length > limits.statementBytesMax || Buffer.byteLength(text) > limits.statementBytesMax) {
    throw new GatewayError("statement_too_long", `The statement is longer than ${limits.statementBytesMax} bytes.`, {
      hint: "Send data with COPY or as parameters instead of as text.",
    });
  }
  const depth = nesting(text);
  if (depth.comments > limits.statementDepthMax || depth.brackets > limits.statementDepthMax) {
    throw new GatewayError(
      "statement_too_long",
      `The statement nests brackets or comments deeper than ${limits.statementDepthMax}.`,
      {
        hint: "Put long lists in an array parameter, or split the statement.",
      },
    );
  }
  if (Buffer.byteLength(text) > limits.trustedStatementBytesMax) return "abnormal";
  if (depth.comments > NESTED_COMMENTS_USUAL || countOf(text, "/*") > limits.statementDepthMax) return "abnormal";
  return countOf(text, "::") > CASTS_USUAL || countOf(text, "(") > BRACKETS_USUAL ? "abnormal" : "trusted";
}

/** Casts in one text. A bulk INSERT that casts every value has hundreds; a chain of thousands is meant to exhaust the stack. */
const CASTS_USUAL = 1_000;
/** Opening brackets in one text: a bulk INSERT has one for each row. */
const BRACKETS_USUAL = 8_000;
/** Comments within comments: people write one or two. */
const NESTED_COMMENTS_USUAL = 8;

function nesting(text: string): { readonly comments: number; readonly brackets: number } {
  let comments = 0;
  let brackets = 0;
  let open = 0;
  for (let at = 0; at < text.length; ) {
    const char = text[at];
    if (char === "-" && text[at + 1] === "-") {
      const end = text.indexOf("\n", at);
      at = end < 0 ? text.length : end + 1;
    } else if (char === "/" && text[at + 1] === "*") {
      const comment = commentAt(text, at);
      comments = Math.max(comments, comment.depth);
      at = comment.end;
    } else if (char === "'" || char === '"') {
      at = quoteEnd(text, at, char === "'" && isEscapeString(text, at));
    } else if (char === "$") {
      at = dollarEnd(text, at);
    } else {
      if (char === "(" || char === "[") brackets = Math.max(brackets, ++open);
      else if ((char === ")" || char === "]") && open > 0) open--;
      at++;
    }
  }
  return { comments, brackets };
}

function commentAt(text: string, start: number): { readonly end: number; readonly depth: number } {
  let depth = 0;
  let deepest = 0;
  let at = start;
  do {
    if (text.startsWith("/*", at)) {
      deepest = Math.max(deepest, ++depth);
      at += 2;
    } else if (text.startsWith("*/", at)) {
      depth--;
      at += 2;
    } else {
      at++;
    }
  } while (depth > 0 && at < text.length);
  return { end: at, depth: deepest };
}

function quoteEnd(text: string, start: number, escapes: boolean): number {
  const quote = text[start]!;
  for (let at = start + 1; at < text.length; at++) {
    if (escapes && text[at] === "\\") at++;
    else if (text[at] === quote) return at + 1;
  }
  return text.length;
}

function isEscapeString(text: string, quoteAt: number): boolean {
  const prefix = text[quoteAt - 1];
  return (prefix === "e" || prefix === "E") && !/[\w$]/.test(text[quoteAt - 2] ?? "");
}

function dollarEnd(text: string, start: number): number {
  // `a$b$` is a name, `$1` a parameter.
  if (/[\w\u0080-\uffff]/.test(text[start - 1] ?? "")) return start + 1;
  dollarTag.lastIndex = start;
  const tag = dollarTag.exec(text)?.[0];
  if (tag === undefined) return start + 1;
  const end = text.indexOf(tag, start + tag.length);
  return end < 0 ? text.length : end + tag.length;
}

const dollarTag = /\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]{0,62})?\$/y;

function countOf(text: string, part: string): number {
  let count = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) count++;
  return count;
}
