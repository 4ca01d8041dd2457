/**
 * What a caller asks for at start-up: who, where, which settings. Only settings on the allow-list reach the target; whatever
 * would change who runs statements or how their text is read is refused. `sluice.*` is what the client declares about itself.
 * Pure. Spec: PostgreSQL documentation, "StartupMessage"; the option syntax is that of the server's own command line.
 */
import { GatewayError } from "@sluice/core/errors.ts";

export interface StartupParameters {
  readonly user: string;
  /** Names the resource, `orders` or `orders/otherdb`; the user's name when the client sent none. */
  readonly database: string;
  /** Settings for the target, names in lower case. Never user, database or client_encoding (the target always gets UTF8). */
  readonly target: Readonly<Record<string, string>>;
  /** `sluice.*` settings without the prefix; never allow anything. */
  readonly declared: Readonly<Record<string, string>>;
}

/** Settings that change formats, time limits or plans, never identity and never how a statement's text is read. */
const forwardedSettings: ReadonlySet<string> = new Set([
  "application_name",
  "bytea_output",
  "client_min_messages",
  "datestyle",
  "default_transaction_deferrable",
  "default_transaction_isolation",
  "default_transaction_read_only",
  "extra_float_digits",
  "geqo",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
  "intervalstyle",
  "jit",
  "lc_monetary",
  "lc_numeric",
  "lc_time",
  "lock_timeout",
  "plan_cache_mode",
  "search_path",
  "statement_timeout",
  "synchronous_commit",
  "timezone",
  "transaction_timeout",
  "xmlbinary",
  "xmloption",
]);

const DECLARED_PREFIX = "sluice.";

/**
 * Sorts the parameters of a startup packet (without `_pq_.` options). Names are case-insensitive; the last of a repeated name
 * wins, and one given by itself wins over one in `options`, as in the server. Throws GatewayError (`login_failed`,
 * `unsupported`) with a sentence for the person who connects.
 */
export function sortStartupParameters(parameters: readonly (readonly [name: string, value: string])[]): StartupParameters {
  let user = "";
  let database = "";
  let options = "";
  const direct: [string, string][] = [];
  for (const [written, value] of parameters) {
    const name = written.toLowerCase();
    if (name === "user") user = value;
    else if (name === "database") database = value;
    else if (name === "options") options = value;
    else direct.push([name, value]);
  }
  if (user === "") {
    throw new GatewayError("login_failed", "No user name was given.", {
      hint: "Connect with user=NAME and the token as password.",
    });
  }
  const target: Record<string, string> = {};
  const declared: Record<string, string> = {};
  for (const [name, value] of [...parseOptions(options), ...direct]) sortSetting(name, value, target, declared);
  return { user, database: database === "" ? user : database, target, declared };
}

function sortSetting(name: string, value: string, target: Record<string, string>, declared: Record<string, string>): void {
  if (name.startsWith(DECLARED_PREFIX) && name.length > DECLARED_PREFIX.length) {
    define(declared, name.slice(DECLARED_PREFIX.length), value);
  } else if (forwardedSettings.has(name)) {
    define(target, name, value);
  } else if (name === "client_encoding") {
    checkEncoding(value);
  } else {
    throw refusedSetting(name, value);
  }
}

/** `__proto__` as a name must become a property like any other. */
function define(record: Record<string, string>, name: string, value: string): void {
  Object.defineProperty(record, name, { value, enumerable: true, configurable: true, writable: true });
}

function checkEncoding(value: string): void {
  const canonical = value.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  if (canonical === "utf8" || canonical === "unicode" || canonical === "sqlascii") return;
  throw new GatewayError("unsupported", "This gateway speaks UTF-8 only, and the client asked for another encoding.", {
    hint: "Set client_encoding=UTF8 (for libpq also: PGCLIENTENCODING=UTF8).",
  });
}

function refusedSetting(name: string, value: string): GatewayError {
  const shown = JSON.stringify(name.slice(0, 64));
  if (name === "replication") {
    const off = /^(false|off|no|0|f|n)$/i.test(value);
    const what = off
      ? "The parameter replication is not accepted, not even switched off."
      : "Replication connections are not served.";
    return new GatewayError("unsupported", what, { hint: "Leave replication out of the connection string." });
  }
  if (name === "role" || name === "session_authorization") {
    return new GatewayError("unsupported", `The setting ${shown} cannot be chosen at start-up: the token says who you are.`, {
      hint: `Leave ${name} out of the connection string and options.`,
    });
  }
  return new GatewayError("unsupported", `The setting ${shown} cannot be chosen at start-up through this gateway.`, {
    hint: "Leave it out of the connection string and options; where policy allows, SET it after connecting.",
  });
}

/** Splits `options` as the server does: white space separates, a backslash takes the next character as it is. */
function parseOptions(text: string): [name: string, value: string][] {
  const words = splitWords(text);
  const settings: [string, string][] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    let assignment: string | undefined;
    if (word === "-c") assignment = words[++at];
    else if (word.startsWith("-c")) assignment = word.slice(2);
    else if (word.startsWith("--")) assignment = word.slice(2);
    settings.push(parseAssignment(assignment));
  }
  return settings;
}

function parseAssignment(assignment: string | undefined): [name: string, value: string] {
  const equals = assignment?.indexOf("=") ?? -1;
  if (assignment === undefined || equals <= 0) {
    throw new GatewayError("unsupported", "The start-up parameter options holds something else than settings.", {
      hint: "Write options='-c name=value'; a backslash before a blank keeps it in the value.",
    });
  }
  return [assignment.slice(0, equals).toLowerCase().replaceAll("-", "_"), assignment.slice(equals + 1)];
}

function splitWords(text: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (/[ \t\n\v\f\r]/.test(character)) {
      if (word !== null) words.push(word);
      word = null;
    } else if (character === "\\" && at + 1 < text.length) {
      word = (word ?? "") + text[++at]!;
    } else if (character !== "\\") {
      word = (word ?? "") + character;
    }
  }
  if (word !== null) words.push(word);
  return words;
}
