/**
 * From the text of a search_path to the schemas it means, in the server's order. Pure. Must never leave out a schema that the server
 * would look in: what cannot be read is `null`, and a name then means its relations in every schema.
 * Follows SplitIdentifierString (varlena.c) and recomputeNamespacePath (namespace.c).
 */

/** Bytes of a name; the server cuts off what is longer (NAMEDATALEN - 1). */
const NAME_BYTES_MAX = 63;

/**
 * Schemas in which unqualified names of relations are looked up, the implicit pg_temp and pg_catalog included; those that do not
 * exist or may not be used are among them. `role`: whose name `$user` stands for. Null: it cannot be known.
 */
export function schemasOf(searchPath: string | null, role: string | null): readonly string[] | null {
  const names = searchPath === null ? null : splitIdentifiers(searchPath);
  if (names === null) return null;
  const schemas = new Set<string>();
  for (const name of names) {
    // By its number a session can name its own temporary schema, which is `pg_temp` to everybody here.
    if (numberedTemporary.test(name)) return null;
    if (name !== "$user") schemas.add(name);
    else if (role === null) return null;
    else schemas.add(role);
  }
  const explicit = [...schemas];
  const withCatalog = schemas.has("pg_catalog") ? explicit : ["pg_catalog", ...explicit];
  return schemas.has("pg_temp") ? withCatalog : ["pg_temp", ...withCatalog];
}

const numberedTemporary = /^pg_(toast_)?temp_\d+$/;

/** The names of a comma-separated list, unquoted, folded and cut as the server does; null when it is no such list. */
export function splitIdentifiers(text: string): readonly string[] | null {
  const names: string[] = [];
  let at = skipSpace(text, 0);
  if (at === text.length) return names;
  for (;;) {
    const read = text[at] === '"' ? quoted(text, at) : unquoted(text, at);
    if (read === null) return null;
    names.push(truncated(read.name));
    at = skipSpace(text, read.end);
    if (at === text.length) return names;
    if (text[at] !== ",") return null;
    at = skipSpace(text, at + 1);
  }
}

/** A list that `splitIdentifiers` reads as exactly these names. */
export function joinIdentifiers(names: readonly string[]): string {
  return names.map((name) => `"${name.replaceAll('"', '""')}"`).join(", ");
}

interface ReadName {
  readonly name: string;
  readonly end: number;
}

function quoted(text: string, start: number): ReadName | null {
  let name = "";
  for (let at = start + 1; ; ) {
    const end = text.indexOf('"', at);
    if (end === -1) return null;
    name += text.slice(at, end);
    if (text[end + 1] !== '"') return { name, end: end + 1 };
    name += '"';
    at = end + 2;
  }
}

function unquoted(text: string, start: number): ReadName | null {
  let end = start;
  while (end < text.length && text[end] !== "," && !isSpace(text[end]!)) end += 1;
  // Letters beyond ASCII are not folded where an encoding has several bytes a character, and targets are read as UTF-8.
  return end === start ? null : { name: text.slice(start, end).replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase()), end };
}

function skipSpace(text: string, start: number): number {
  let at = start;
  while (at < text.length && isSpace(text[at]!)) at += 1;
  return at;
}

/** scanner_isspace. */
function isSpace(character: string): boolean {
  return " \t\n\r\f\v".includes(character);
}

function truncated(name: string): string {
  if (Buffer.byteLength(name) <= NAME_BYTES_MAX) return name;
  let kept = "";
  let bytes = 0;
  for (const character of name) {
    bytes += Buffer.byteLength(character);
    if (bytes > NAME_BYTES_MAX) break;
    kept += character;
  }
  return kept;
}
