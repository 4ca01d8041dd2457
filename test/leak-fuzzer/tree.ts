/**
 * Statements as trees of text, so that what was generated can be made smaller piece by piece and so that it is known what was
 * written: which features, and whether anything protected is named. Must never be read back from text.
 */

/** What stands where: a node may be put in the place of another of its sort. */
export type Sort =
  | "text"
  | "number"
  | "truth"
  | "date"
  | "bytes"
  | "texts"
  | "json"
  | "row"
  | "range"
  | "mood"
  | "item"
  | "from"
  | "query"
  | "clause"
  | "statement";

export interface Node {
  readonly sort: Sort;
  readonly parts: readonly (Node | string)[];
  /** Between the parts, of which all but one may then be left out. */
  readonly join?: string;
  /** May be left out altogether. */
  readonly optional?: boolean;
  /** What the coverage table calls it. */
  readonly feature?: string;
  /** Something protected is named in it, or may be. */
  readonly guarded: boolean;
}

type Piece = Node | string | number;

/** A node from a template: `` node("text")`upper(${x})` ``. */
export function node(sort: Sort, feature?: string): (texts: TemplateStringsArray, ...pieces: readonly Piece[]) => Node {
  return (texts, ...pieces) => {
    const parts: (Node | string)[] = [];
    for (const [at, text] of texts.entries()) {
      if (text !== "") parts.push(text);
      const piece = pieces[at];
      if (piece !== undefined && piece !== "") parts.push(typeof piece === "number" ? String(piece) : piece);
    }
    return made(sort, parts, feature === undefined ? {} : { feature });
  };
}

/** A list of which elements can be dropped. */
export function list(sort: Sort, elements: readonly Node[], join = ", "): Node {
  return made(sort, elements, { join });
}

/** A node that may be left out. */
export function optional(part: Node): Node {
  return { ...part, optional: true };
}

export function leaf(sort: Sort, text: string, guarded = false, feature?: string): Node {
  return { sort, parts: [text], guarded, ...(feature === undefined ? {} : { feature }) };
}

/** The same node, known to speak of protected values or not to. */
export function guardedAs(part: Node, guarded: boolean): Node {
  return { ...part, guarded };
}

export function print(part: Node): string {
  return part.parts.map((piece) => (typeof piece === "string" ? piece : print(piece))).join(part.join ?? "");
}

export function featuresOf(part: Node, found: Set<string> = new Set()): ReadonlySet<string> {
  if (part.feature !== undefined) found.add(part.feature);
  for (const piece of part.parts) if (typeof piece !== "string") featuresOf(piece, found);
  return found;
}

/** Smaller trees than this one, the ones that leave out most first. Whether they still say what is looked for has to be tried. */
export function* smaller(part: Node): Generator<Node> {
  const size = sizeOf(part);
  if (size > 1) {
    yield* descendants(part, part.sort);
    const constant = constants.get(part.sort);
    if (constant !== undefined && print(part) !== constant) yield leaf(part.sort, constant);
  }
  if (part.join !== undefined && part.parts.length > 1) {
    for (let at = part.parts.length - 1; at >= 0; at--) yield { ...part, parts: part.parts.filter((_, other) => other !== at) };
  }
  for (const [at, piece] of part.parts.entries()) {
    if (typeof piece === "string") continue;
    const instead = (next: Node | string): Node => ({
      ...part,
      parts: part.parts.map((old, other) => (other === at ? next : old)),
    });
    if (piece.optional === true) yield instead("");
    for (const next of smaller(piece)) yield instead(next);
  }
}

/** Parts anywhere below, of the sort, the outermost first. */
function* descendants(part: Node, sort: Sort): Generator<Node> {
  for (const piece of part.parts) {
    if (typeof piece === "string") continue;
    if (piece.sort === sort) yield { ...piece, optional: part.optional === true };
    else yield* descendants(piece, sort);
  }
}

export function sizeOf(part: Node): number {
  return part.parts.reduce((sum, piece) => sum + (typeof piece === "string" ? 1 : sizeOf(piece)), 0);
}

const constants: ReadonlyMap<Sort, string> = new Map([
  ["text", "'q'"],
  ["number", "1"],
  ["truth", "true"],
  ["date", "date '2020-01-01'"],
  ["texts", "ARRAY['q']"],
  ["json", "'1'::jsonb"],
]);

function made(sort: Sort, parts: readonly (Node | string)[], more: Partial<Node>): Node {
  return { sort, parts, guarded: parts.some((part) => typeof part !== "string" && part.guarded), ...more };
}
