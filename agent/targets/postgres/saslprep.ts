/**
 * Prepares a password for SCRAM as PostgreSQL does: ASCII stays as it is; other text is mapped, normalised to NFKC and checked,
 * and where a check fails the password is used as it was given. Follows RFC 4013 with the platform's Unicode tables instead of
 * Unicode 3.2: code points assigned later that change under NFKC are the one difference. Source: PostgreSQL's saslprep.c.
 */

/** RFC 3454 C.1.2 (non-ASCII spaces become a space) and B.1 (mapped to nothing). */
const SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu;
const NOTHING = /[\u00ad\u034f\u1806\u180b-\u180d\u200c\u200d\u2060\ufe00-\ufe0f\ufeff]/gu; // oxlint-disable-line no-misleading-character-class -- a list of single code points

/** RFC 3454 C.2 to C.9: controls, private use, surrogates, non-characters, display controls, tags. */
const PROHIBITED: readonly RegExp[] = [
  /[\p{Cc}\p{Co}\p{Cs}\p{Noncharacter_Code_Point}]/u,
  /[\u06dd\u070f\u180e\u2028-\u202e\u2061-\u2063\u206a-\u206f\u2ff0-\u2ffb\ufff9-\ufffd\u200e\u200f]/u,
  /\u0340|\u0341|[\u{1d173}-\u{1d17a}\u{e0001}\u{e0020}-\u{e007f}]/u,
];

/** Right-to-left letters stand in for RFC 3454's table D.1, all other letters for D.2. */
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}]/u;
const LETTER = /\p{L}/u;

export function saslPrepare(password: string): string {
  if (isAscii(password)) return password;
  const prepared = password.replace(SPACES, " ").replace(NOTHING, "").normalize("NFKC");
  if (prepared === "" || PROHIBITED.some((pattern) => pattern.test(prepared)) || !directionsAgree(prepared)) return password;
  return prepared;
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text, "utf8") === text.length;
}

/** RFC 3454 section 6: with a right-to-left letter there is no left-to-right one, and it stands first and last. */
function directionsAgree(text: string): boolean {
  const characters = Array.from(text);
  if (!characters.some((character) => RIGHT_TO_LEFT.test(character))) return true;
  if (characters.some((character) => LETTER.test(character) && !RIGHT_TO_LEFT.test(character))) return false;
  return RIGHT_TO_LEFT.test(characters[0]!) && RIGHT_TO_LEFT.test(characters.at(-1)!);
}
