/**
 * Edits hits inside texts that have a syntax around their values, so that what comes out can still be parsed: JSON, XML, array
 * and composite literals. Where that cannot be promised the answer is null, the whole cell; a hit is never left in place.
 * JSON: RFC 8259. Array and composite literals: PostgreSQL manual, 8.15.6 and 8.16.6.
 */
import { REDACTED_TEXT } from "./operators.ts";
import { findRuleHits, mergeRuleHits, replaceRuleHits, type RuleHit, type ScanRule } from "./scan-rules.ts";

/** The edited text, null for NULL, undefined when nothing was found. */
export type TextEdit = string | null | undefined;
export type TextEditor = (rules: readonly ScanRule[], text: string) => TextEdit;

/** Plain text: whatever stands there may change. */
export function editPlain(rules: readonly ScanRule[], text: string): TextEdit {
  const hits = findRuleHits(rules, text);
  return hits.length === 0 ? undefined : replaceRuleHits(text, hits);
}

const LITERAL = /"(?:[^"\\]|\\.)*"/gsu;

/**
 * JSON: hits inside string literals (also those spelled with escapes, also in member names) are replaced, a hit anywhere else
 * (a number) takes the whole cell. The text as a whole is searched as well, so that a member's name is context for its value.
 */
export function editJson(rules: readonly ScanRule[], text: string): TextEdit {
  const wholeHits = findRuleHits(rules, text);
  let next = 0;
  let edited = "";
  let at = 0;
  for (const literal of text.matchAll(LITERAL)) {
    const start = literal.index;
    const end = start + literal[0].length;
    if (hitsBareToken(rules, text.slice(at, start))) return null;
    const inside: RuleHit[] = [];
    for (; next < wholeHits.length && wholeHits[next]!.start < end; next += 1) {
      const hit = wholeHits[next]!; // below the length, just checked
      if (hit.start <= start || hit.end >= end) return null; // not within the quotes
      inside.push({ start: hit.start - start, end: hit.end - start, operator: hit.operator });
    }
    const replaced = editLiteral(rules, literal[0], inside);
    if (replaced === null) return null;
    edited += text.slice(at, start) + (replaced ?? literal[0]);
    at = end;
  }
  if (next < wholeHits.length || hitsBareToken(rules, text.slice(at))) return null;
  edited += text.slice(at);
  return edited === text ? undefined : edited;
}

/** `inside`: hits that the text around the literal gave, counted from its opening quote. */
function editLiteral(rules: readonly ScanRule[], literal: string, inside: readonly RuleHit[]): TextEdit {
  const escaped = literal.includes("\\");
  const content = escaped ? decodeLiteral(literal) : literal.slice(1, -1);
  if (content === undefined) return null;
  const own = findRuleHits(rules, content);
  if (own.length === 0 && inside.length === 0) return undefined;
  if (!escaped) {
    const shifted = inside.map((hit) => ({ ...hit, start: hit.start - 1, end: hit.end - 1 }));
    return quote(replaceRuleHits(content, mergeRuleHits([...own, ...shifted])));
  }
  if (own.length > 0) return quote(replaceRuleHits(content, own));
  // Found only in its spelling with escapes: which characters that means is not worth knowing.
  return inside.some((hit) => hit.operator.kind === "null") ? null : quote(REDACTED_TEXT);
}

function quote(content: string | null): string | null {
  return content === null ? null : JSON.stringify(content);
}

function decodeLiteral(literal: string): string | undefined {
  try {
    const value: unknown = JSON.parse(literal);
    return typeof value === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Numbers and words between string literals, each alone, since a pattern may be anchored. */
function hitsBareToken(rules: readonly ScanRule[], between: string): boolean {
  return piecesHit(rules, between, /[^\s,:{}[\]]+/gu);
}

/** Characters that array and composite literals give a meaning to. */
const STRUCTURE = /[{}(),"\\]/u;
const BETWEEN_STRUCTURE = /[^{}(),"\\]+/gu;

/** Array, composite and similar literals: a hit free of their own characters is replaced in place, any other takes the cell. */
export function editStructured(rules: readonly ScanRule[], text: string): TextEdit {
  const hits = [...findRuleHits(rules, text)];
  for (const piece of text.matchAll(BETWEEN_STRUCTURE)) {
    for (const hit of findRuleHits(rules, piece[0])) {
      hits.push({ start: hit.start + piece.index, end: hit.end + piece.index, operator: hit.operator });
    }
  }
  if (hits.length === 0) return undefined;
  if (hits.some((hit) => STRUCTURE.test(text.slice(hit.start, hit.end)))) return null;
  return replaceRuleHits(text, mergeRuleHits(hits));
}

/** Array literals of JSON: two layers of quoting, so any hit, also one spelled with escapes, takes the cell. */
export function editJsonArray(rules: readonly ScanRule[], text: string): TextEdit {
  const unquoted = text.replaceAll(/\\(.)/gsu, "$1");
  const decoded = decodeEscapes(unquoted);
  const found = [text, unquoted, decoded].some((form) => findRuleHits(rules, form).length > 0);
  return found || piecesHit(rules, decoded, BETWEEN_STRUCTURE) ? null : undefined;
}

/** A syntax that nobody reads here: any hit takes the cell. */
export function editWhole(rules: readonly ScanRule[], text: string): TextEdit {
  return findRuleHits(rules, text).length > 0 || piecesHit(rules, text, BETWEEN_STRUCTURE) ? null : undefined;
}

/** Numbers; ranges, also in arrays and multiranges; arrays with bounds: no constant fits into their order. */
const UNFIT = /^(?:[-+]?\d+(?:\.\d+)?$|\[|\([^,]*,[^,]*[)\]]$|\{"?[[(])/u;
/** Opens like JSON: an object, an array or a string. */
const MAY_BE_JSON = /^\s*[{["]/u;

/** A type that is not known: it may be plain text, JSON, XML, an array, a composite or a range of these, and stays one or becomes NULL. */
export function editUnknown(rules: readonly ScanRule[], text: string): TextEdit {
  if (MAY_BE_JSON.test(text) && isJson(text)) {
    const edited = editJson(rules, text);
    // `[123,"4111 1111 1111 1111"]` may be a range as well: its bounds have an order.
    return edited !== undefined && text.startsWith("[") ? null : edited;
  }
  const edited = editStructured(rules, text);
  if (edited === null) return null;
  if (edited !== undefined && (UNFIT.test(text) || isMarkup(text))) return null;
  const left = edited ?? text;
  return spellings(left).some((form) => editStructured(rules, form) !== undefined) ? null : edited;
}

/** What the text may say in other characters; empty as a rule. */
function spellings(text: string): readonly string[] {
  const forms: string[] = [];
  if (text.includes("\\")) {
    const unquoted = text.replaceAll(/\\(.)/gsu, "$1");
    forms.push(unquoted, decodeEscapes(unquoted));
  }
  if (text.includes("&#")) forms.push(decodeReferences(text));
  return forms;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function isMarkup(text: string): boolean {
  return text.startsWith("<");
}

const XML_MARKUP = /[<>&"]/u;

/** XML: hits are replaced in place; one that touches markup or is spelled with character references takes the cell. */
export function editXml(rules: readonly ScanRule[], text: string): TextEdit {
  if (text.includes("&#") && findRuleHits(rules, decodeReferences(text)).length > 0) return null;
  const hits = findRuleHits(rules, text);
  if (hits.length === 0) return piecesHit(rules, text, /[^<>]+/gu) ? null : undefined;
  return hits.some((hit) => XML_MARKUP.test(text.slice(hit.start, hit.end))) ? null : replaceRuleHits(text, hits);
}

/** Array literals of XML: as other arrays, but a hit spelled with character references takes the cell. */
export function editXmlArray(rules: readonly ScanRule[], text: string): TextEdit {
  if (text.includes("&#") && findRuleHits(rules, decodeReferences(text)).length > 0) return null;
  return editStructured(rules, text);
}

function decodeEscapes(text: string): string {
  return text.replaceAll(/\\u([0-9a-f]{4})/giu, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}

function decodeReferences(text: string): string {
  return text.replaceAll(/&#(?:x([0-9a-f]{1,8})|([0-9]{1,8}));/giu, (reference, hex?: string, decimal?: string) => {
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : reference;
  });
}

function piecesHit(rules: readonly ScanRule[], text: string, pieces: RegExp): boolean {
  for (const piece of text.matchAll(pieces)) {
    if (findRuleHits(rules, piece[0]).length > 0) return true;
  }
  return false;
}
