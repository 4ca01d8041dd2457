/**
 * Makes the functions that edit cells: for a protected column as it is, for what is derived from one, and for columns that are
 * only searched. The choice of type and format is made once per column, so that nothing of it is left per row.
 * What comes out is always a value that the type admits, or NULL. Never keeps or writes to the bytes it is given.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { CANDIDATE_BYTES_MIN, findCandidates, HAS_HIGH_BYTE } from "./candidates.ts";
import { type CellEncoding, decodeCell, encodeCell, isUtf8Cell } from "./cell-text.ts";
import { applyOperator, maskPartAscii, REDACTED_TEXT } from "./operators.ts";
import { editArray, editOpaque, editRecord } from "./scan-binary.ts";
import type { ScanRule } from "./scan-rules.ts";
import {
  editJson,
  editJsonArray,
  editPlain,
  editStructured,
  editUnknown,
  editWhole,
  editXml,
  editXmlArray,
  type TextEdit,
  type TextEditor,
} from "./scan-syntax.ts";
import { elementShape, isLexemes, SINGLE_CHAR_OID, type TypeShape, typeShape } from "./type-shape.ts";

export type { ScanRule } from "./scan-rules.ts";

type Format = "text" | "binary";
type Partial = Extract<MaskOperator, { readonly kind: "partial" }>;

const nullCell: CellEdit = () => null;

/**
 * For a protected column that reaches the output unmodified. `partial` shows its part of a text; JSON and XML become the
 * constant, since masked letters would break them; types that cannot hold text, arrays and records become NULL. So does a type made
 * by an extension or a user: part of an enum's label or of a composite is no value of it. Who knows that one is written as text is,
 * like citext, names text.
 */
export function maskExact(operator: MaskOperator, typeOid: number, format: Format): CellEdit {
  switch (operator.kind) {
    case "null":
      return nullCell;
    case "redact":
      return constantCell(constantOf(typeOid, format));
    case "partial":
      return maskPartExact(operator, typeOid, format);
    default:
      return assertNever(operator);
  }
}

/**
 * For an output that a protected column flows into: nothing of the value may show, so `partial` is the constant too. NULL for
 * every type that is not built-in text or JSON.
 */
export function maskDerived(operator: MaskOperator, typeOid: number, format: Format): CellEdit {
  return operator.kind === "null" ? nullCell : alsoNull(constantCell(constantOf(typeOid, format)));
}

/**
 * For a column nobody declared: masks what the detectors find. Returns null when the type cannot hold text, so that the column
 * can pass without being looked into.
 */
export function scanCell(rules: readonly ScanRule[], typeOid: number, format: Format): CellEdit | null {
  return rules.length === 0 ? null : scanType(rules, wantedBy(rules), typeOid, format, 0);
}

/** No type at all: what a caller of `scanCell` names where it does not know one. Searched as a type of a user's. */
export const UNKNOWN_TYPE_OID = 0xffffffff;

const constantBytes: Buffer = Buffer.from(REDACTED_TEXT);
const singleCharBytes: Buffer = Buffer.from("*");
const jsonBytes: Buffer = Buffer.from(JSON.stringify(REDACTED_TEXT));
/** jsonb in binary: a version, then the text (jsonb_send in jsonb.c). */
const JSONB_VERSION = 1;
const jsonbBytes: Buffer = Buffer.concat([Buffer.from([JSONB_VERSION]), jsonBytes]);

/** `CASE WHEN ssn LIKE '5%' THEN NULL …` is a question about the value: its NULL must look like its other answer. */
function alsoNull(edit: CellEdit): CellEdit {
  return Object.assign((source: Buffer, start: number, end: number) => edit(source, start, end), { editsNull: true });
}

function constantCell(bytes: Buffer | null): CellEdit {
  return () => bytes;
}

function constantOf(typeOid: number, format: Format): Buffer | null {
  const shape = typeShape(typeOid);
  switch (shape) {
    case "text":
      return typeOid === SINGLE_CHAR_OID ? singleCharBytes : constantBytes;
    case "xml":
      return constantBytes;
    case "json":
      return jsonBytes;
    case "jsonb":
      return format === "binary" ? jsonbBytes : jsonBytes;
    case "user": // an enum, a composite or a range would not parse
    case "none":
    case "array":
    case "record":
    case "syntax":
      return null;
    default:
      return assertNever(shape);
  }
}

function maskPartExact(operator: Partial, typeOid: number, format: Format): CellEdit {
  const shape = typeShape(typeOid);
  if (shape === "text" && typeOid !== SINGLE_CHAR_OID) return (source, start, end) => maskPart(operator, source, start, end);
  return constantCell(constantOf(typeOid, format));
}

function maskPart(operator: Partial, source: Buffer, start: number, end: number): Buffer | null {
  const masked = maskPartAscii(source, start, end, operator);
  if (masked !== undefined) return masked ?? constantBytes;
  if (!isUtf8Cell(source, start, end)) return constantBytes;
  const text = applyOperator(operator, decodeCell(source, start, end, "utf8"));
  return text === null ? null : encodeCell(text, "utf8");
}

/** Containers in containers, as deep as they are walked; below, bytes are searched as they are. */
const NESTING_MAX = 16;

function scanType(rules: readonly ScanRule[], wanted: number, typeOid: number, format: Format, depth: number): CellEdit | null {
  const shape = typeShape(typeOid);
  if (shape === "none") return null;
  if (format === "binary" && depth > NESTING_MAX) return editOpaque(rules, wanted);
  switch (shape) {
    case "text":
      return scanText(rules, wanted, editPlain);
    case "json":
      return scanText(rules, wanted, editJson, [JSON_ESCAPE]);
    case "xml":
      return scanText(rules, wanted, editXml, [XML_REFERENCE]);
    case "jsonb":
      return scanJsonb(scanText(rules, wanted, editJson, [JSON_ESCAPE]), format);
    case "array":
      if (format === "binary") return editArray(innerEdits(rules, wanted, depth));
      return scanArrayLiteral(rules, wanted, typeOid);
    case "record":
      return format === "binary" ? editRecord(innerEdits(rules, wanted, depth)) : scanText(rules, wanted, editStructured);
    case "syntax":
      if (format === "binary") return editOpaque(rules, wanted);
      return scanText(rules, wanted, isLexemes(typeOid) ? editStructured : editWhole);
    case "user":
      if (format === "binary") return editOpaque(rules, wanted);
      return scanText(rules, wanted, editUnknown, [JSON_ESCAPE, XML_REFERENCE]);
    default:
      return assertNever(shape);
  }
}

function scanArrayLiteral(rules: readonly ScanRule[], wanted: number, typeOid: number): CellEdit {
  switch (elementShape(typeOid)) {
    case "json":
      return scanText(rules, wanted, editJsonArray, [JSON_ESCAPE]);
    case "xml":
      return scanText(rules, wanted, editXmlArray, [XML_REFERENCE]);
    default:
      return scanText(rules, wanted, editStructured);
  }
}

/** Bits that make a cell worth reading; 0 when every cell is, since some detector does not say what it needs. */
function wantedBy(rules: readonly ScanRule[]): number {
  if (rules.some((rule) => rule.detector.needs === undefined)) return 0;
  return rules.reduce((bits, rule) => bits | (rule.detector.needs ?? 0), 0);
}

/** Tells the rules that can hit where these bits were found; each combination is worked out once. */
function rulesByBits(rules: readonly ScanRule[]): (bits: number) => readonly ScanRule[] {
  const needed = rules.reduce((bits, rule) => bits | (rule.detector.needs ?? 0), 0);
  const known: (readonly ScanRule[])[] = [];
  return (bits) => {
    const key = bits & needed;
    return (known[key] ??= rules.filter(({ detector }) => detector.needs === undefined || (detector.needs & bits) !== 0));
  };
}

/** Two bytes with which a text can spell any character without writing it: there the bytes alone clear nothing. */
type Spelling = readonly [number, number];
/** `\u` */
const JSON_ESCAPE: Spelling = [0x5c, 0x75];
/** `&#` */
const XML_REFERENCE: Spelling = [0x26, 0x23];

function scanText(rules: readonly ScanRule[], wanted: number, editor: TextEditor, spellings: readonly Spelling[] = []): CellEdit {
  const rulesFor = rulesByBits(rules);
  return (source, start, end) => {
    if (wanted !== 0 && end - start < CANDIDATE_BYTES_MIN) return undefined;
    const bits = findCandidates(source, start, end);
    const spelled = spellings.some((spelling) => holds(source, start, end, spelling));
    const active = spelled ? rules : rulesFor(bits);
    return active.length === 0 ? undefined : editBytes(active, editor, source, start, end, (bits & HAS_HIGH_BYTE) !== 0);
  };
}

function editBytes(
  rules: readonly ScanRule[],
  editor: TextEditor,
  source: Buffer,
  start: number,
  end: number,
  high: boolean,
): Buffer | null | undefined {
  const encoding: CellEncoding = high && isUtf8Cell(source, start, end) ? "utf8" : "latin1";
  const edited: TextEdit = editor(rules, decodeCell(source, start, end, encoding));
  if (typeof edited === "string") return encodeCell(edited, encoding);
  if (edited === null || !high || encoding === "utf8") return edited;
  // Not UTF-8 as a whole, but a stretch of it may be, and the bytes of its letters may have read as spaces.
  return editor(rules, decodeCell(source, start, end, "utf8")) === undefined ? undefined : null;
}

function holds(source: Buffer, start: number, end: number, pair: Spelling): boolean {
  const [first, second] = pair;
  for (let at = start; at < end - 1; at += 1) {
    if (source[at] === first && source[at + 1] === second) return true;
  }
  return false;
}

function scanJsonb(inner: CellEdit, format: Format): CellEdit {
  if (format === "text") return inner;
  return (source, start, end) => {
    if (start >= end || source[start] !== JSONB_VERSION) return null; // a version nobody knows how to read
    const edited = inner(source, start + 1, end);
    return edited ? Buffer.concat([source.subarray(start, start + 1), edited]) : edited;
  };
}

/** Edits for what a container holds, made once per type. Types of users share one, since their numbers have no bound. */
function innerEdits(rules: readonly ScanRule[], wanted: number, depth: number): (typeOid: number) => CellEdit | null {
  const made = new Map<number, CellEdit | null>();
  const opaque = editOpaque(rules, wanted);
  return (typeOid) => {
    const shape: TypeShape = typeShape(typeOid);
    if (shape === "user" || shape === "syntax") return opaque;
    let edit = made.get(typeOid);
    if (edit === undefined) {
      edit = scanType(rules, wanted, typeOid, "binary", depth + 1);
      made.set(typeOid, edit);
    }
    return edit;
  };
}
