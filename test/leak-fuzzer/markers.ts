/**
 * The second net: pieces of protected values, four characters and longer, anywhere in an answer, as they are, reversed, in other
 * letters, in hexadecimal and in base64. It finds what comes out alike on both sides of a comparison.
 */
import type { Kind } from "./installation.ts";
import { odd, oddOther, type Person } from "./values.ts";

const PIECE = 4;
/** Base64 shows at least seven characters of any six bytes, whatever stands before them. */
const BASE64_PIECE = 6;
const BASE64_SHOWN = 7;

const plain = new Set<string>();
const hexadecimal = new Set<string>();
const base64 = new Set<string>();

for (const value of [...odd, ...oddOther].flatMap(textsOf)) {
  for (const text of [value, value.toLowerCase(), value.toUpperCase()]) {
    for (const direction of [text, text.split("").reverse().join("")]) addPieces(Buffer.from(direction));
  }
}

/** The first piece of a protected value in the answer that is not in the statement itself; undefined when there is none. */
export function findMarker(kind: Kind, answer: string, statement: string): string | undefined {
  // A mask that leaves a part shows pieces by design: there only the comparison can tell.
  if (kind !== "redacted") return undefined;
  for (let at = 0; at + PIECE <= answer.length; at++) {
    const piece = answer.substring(at, at + PIECE);
    if (plain.has(piece) && !statement.toLowerCase().includes(piece.toLowerCase())) return piece;
    const longer = answer.substring(at, at + 2 * PIECE);
    if (hexadecimal.has(longer.toLowerCase())) return longer;
    const shown = answer.substring(at, at + BASE64_SHOWN);
    if (base64.has(shown)) return shown;
  }
  return undefined;
}

function textsOf({ ssn, email, card, token }: Person): readonly string[] {
  return [ssn ?? "", email ?? "", card, token];
}

function addPieces(bytes: Buffer): void {
  for (let at = 0; at + PIECE <= bytes.length; at++) {
    const piece = bytes.subarray(at, at + PIECE);
    // Numbers and spaces stand in many texts.
    if (/[A-Za-z]{3}/.test(piece.toString("latin1"))) {
      plain.add(piece.toString("latin1"));
      hexadecimal.add(piece.toString("hex"));
    }
  }
  for (let at = 0; at + BASE64_PIECE <= bytes.length; at++) {
    const piece = bytes.subarray(at, at + BASE64_PIECE);
    for (const before of [0, 1, 2]) {
      const encoded = Buffer.concat([Buffer.alloc(before), piece]).toString("base64");
      const first = Math.ceil((before * 8) / 6);
      base64.add(encoded.substring(first, first + BASE64_SHOWN));
    }
  }
}
