/**
 * Splits a psql script into the texts that psql would send: semicolons in strings, comments, brackets and SQL bodies end nothing,
 * backslash commands are psql's own, the lines after COPY … FROM STDIN are data. Must never change a text but for psql's variables.
 * Lexical rules: psqlscan.l and psql's reference page. Escapes in plain strings (standard_conforming_strings off) are not followed.
 */

export interface ScriptStatement {
  readonly text: string;
  /** From 1. */
  readonly line: number;
  /** The lines behind COPY … FROM STDIN, without the last `\.`. */
  readonly data?: string;
  /** Before it psql has connected anew (`\c`), as this user where one is named. */
  readonly connected?: { readonly user: string | null };
  /** What psql does with the result is not followed: `\gset`, `\gexec`, `\crosstabview`. */
  readonly sentBy?: string;
}

/** The statements of a script, in order; comments alone are none. `environment`: what `\getenv` finds. */
export function splitPsqlScript(script: string, environment: Readonly<Record<string, string>> = {}): readonly ScriptStatement[] {
  return new Splitter(script, environment).split();
}

/** Backslash commands that send what has been gathered. */
const sending = /^\\(g|gx|gset|gexec|gdesc|crosstabview|watch|bind|parse)\b/;

class Splitter {
  readonly #script: string;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #found: ScriptStatement[] = [];
  readonly #variables = new Map<string, string>();
  #at = 0;
  #text = "";
  #line = 1;
  #startLine = 0;
  #brackets = 0;
  /** BEGIN and CASE that are open in a function's SQL body. */
  #bodies = 0;
  /** The first words of the statement, lower case. */
  #words: string[] = [];
  #connected: { readonly user: string | null } | undefined;

  constructor(script: string, environment: Readonly<Record<string, string>>) {
    this.#script = script;
    this.#environment = environment;
  }

  split(): readonly ScriptStatement[] {
    while (this.#at < this.#script.length) this.#step();
    this.#send();
    return this.#found;
  }

  #step(): void {
    const rest = this.#script.slice(this.#at, this.#at + 2);
    const char = rest[0]!;
    if (rest === "--") this.#take(this.#lineEnd() - this.#at);
    else if (rest === "/*") this.#take(commentLength(this.#script, this.#at));
    else if (char === "'") this.#take(quotedLength(this.#script, this.#at, /(^|[^\w$])e$/i.test(this.#text.slice(-2))));
    else if (char === '"') this.#take(quotedLength(this.#script, this.#at, false));
    else if (char === "$") this.#take(dollarLength(this.#script, this.#at, this.#text));
    else if (char === "\\") this.#backslash();
    else if (char === ":") this.#colon();
    else if (/[A-Za-z_\u0080-\uffff]/.test(char)) this.#word();
    else if (char === ";" && this.#brackets === 0 && this.#bodies === 0) this.#end();
    else {
      if (char === "(" || char === "[") this.#brackets += 1;
      else if ((char === ")" || char === "]") && this.#brackets > 0) this.#brackets -= 1;
      this.#take(1);
    }
  }

  #take(length: number): void {
    const part = this.#script.slice(this.#at, this.#at + length);
    if (this.#startLine === 0 && part.trim() !== "" && !/^(--|\/\*)/.test(part)) this.#startLine = this.#line;
    this.#text += part;
    this.#skip(length);
  }

  #skip(length: number): void {
    for (let at = this.#at; at < this.#at + length; at++) if (this.#script[at] === "\n") this.#line += 1;
    this.#at += length;
  }

  #lineEnd(): number {
    const end = this.#script.indexOf("\n", this.#at);
    return end < 0 ? this.#script.length : end;
  }

  #word(): void {
    wordPattern.lastIndex = this.#at;
    const word = wordPattern.exec(this.#script)![0];
    const lower = word.toLowerCase();
    if (this.#words.length < 4) this.#words.push(lower);
    if (this.#brackets === 0 && /^create( or replace)? (function|procedure)/.test(this.#words.join(" "))) {
      if (lower === "begin") this.#bodies += 1;
      else if (lower === "case" && this.#bodies > 0) this.#bodies += 1;
      else if (lower === "end" && this.#bodies > 0) this.#bodies -= 1;
    }
    this.#take(word.length);
  }

  #end(): void {
    if (this.#startLine === 0) this.#reset();
    this.#take(1);
    this.#send();
  }

  #send(sentBy?: string): void {
    const text = this.#text.trim();
    const line = this.#startLine;
    this.#reset();
    if (text === "" || line === 0 || text === ";") return;
    const copies = /^(\s|--.*\n|\/\*[\s\S]*?\*\/)*copy\b[\s\S]*\bfrom\s+stdin\b/i.test(text);
    const data = copies ? this.#takeData() : undefined;
    this.#found.push({
      text,
      line,
      ...(data === undefined ? {} : { data }),
      ...(this.#connected === undefined ? {} : { connected: this.#connected }),
      ...(sentBy === undefined ? {} : { sentBy }),
    });
    this.#connected = undefined;
  }

  #reset(): void {
    this.#text = "";
    this.#startLine = 0;
    this.#brackets = 0;
    this.#bodies = 0;
    this.#words = [];
  }

  /** Data lines up to `\.`; none where a statement comes first, since a COPY that fails reads none. */
  #takeData(): string | undefined {
    const start = this.#lineEnd() + 1;
    const end = /^\\\.$/m.exec(this.#script.slice(start));
    if (end === null) return undefined;
    const data = this.#script.slice(start, start + end.index);
    if (/^\s*(alter|begin|copy|create|delete|drop|insert|reset|rollback|select|set|truncate|update|--|\\[a-z])/im.test(data))
      return undefined;
    this.#skip(start + end.index + end[0].length - this.#at);
    return data;
  }

  #backslash(): void {
    if (this.#script.startsWith("\\;", this.#at)) {
      this.#skip(1);
      this.#take(1);
      return;
    }
    const command = this.#script.slice(this.#at, this.#lineEnd());
    this.#skip(command.length);
    const set = /^\\set\s+(\w+)\s+(\S.*)$/.exec(command);
    const environment = /^\\getenv\s+(\w+)\s+(\w+)/.exec(command);
    const connected = /^\\c(?:onnect)?\b\s*(?:(\S+)\s*)?(\S+)?/.exec(command);
    if (set !== null) this.#variables.set(set[1]!, this.#joined(set[2]!));
    else if (environment !== null) this.#variables.set(environment[1]!, this.#environment[environment[2]!] ?? environment[2]!);
    else if (connected !== null)
      this.#connected = { user: connected[2] === undefined || connected[2] === "-" ? null : connected[2] };
    else if (/^\\(r|reset)\b/.test(command)) this.#reset();
    else if (/^\\copy\b.*\bfrom\s+stdin\b/i.test(command)) this.#takeData();
    else if (sending.test(command)) this.#send(/^\\(gset|gexec|crosstabview)/.exec(command)?.[1]);
  }

  /** The words of `\set name …` put together, as psql does; variables in them have their values. */
  #joined(words: string): string {
    return [...words.matchAll(/'((?:[^']|'')*)'|:'?(\w+)'?|(\S+)/g)]
      .map(
        ([, quoted, variable, plain]) =>
          quoted?.replaceAll("''", "'") ?? this.#variables.get(variable ?? "") ?? plain ?? variable ?? "",
      )
      .join("");
  }

  /** `:name`, `:'name'`, `:"name"`; not `::type`, `:=` or the bound of a slice. */
  #colon(): void {
    variablePattern.lastIndex = this.#at;
    const match = this.#text.endsWith(":") ? null : variablePattern.exec(this.#script);
    if (match === null) {
      this.#take(1);
      return;
    }
    const [whole, plain, text, name] = match;
    const value = this.#variables.get(plain ?? text ?? name ?? "");
    if (plain !== undefined && value === undefined && !/[\s(,=]$/.test(this.#text)) {
      this.#take(1); // the bound of a slice
      return;
    }
    if (this.#startLine === 0) this.#startLine = this.#line;
    if (text !== undefined) this.#text += `'${(value ?? text).replaceAll("'", "''")}'`;
    else if (name !== undefined) this.#text += `"${value ?? name}"`;
    else this.#text += value ?? "NULL"; // set by \gset from a result, or on psql's command line
    this.#skip(whole.length);
  }
}

const wordPattern = /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y;
const variablePattern = /:(?:([A-Za-z_]\w*)|'(\w+)'|"(\w+)")/y;

function commentLength(script: string, start: number): number {
  let depth = 0;
  let at = start;
  do {
    if (script.startsWith("/*", at)) depth += 1;
    else if (script.startsWith("*/", at)) depth -= 1;
    else {
      at += 1;
      continue;
    }
    at += 2;
  } while (depth > 0 && at < script.length);
  return Math.min(at, script.length) - start;
}

function quotedLength(script: string, start: number, escapes: boolean): number {
  for (let at = start + 1; at < script.length; at++) {
    if (escapes && script[at] === "\\") at += 1;
    else if (script[at] === script[start]) return at + 1 - start;
  }
  return script.length - start;
}

function dollarLength(script: string, start: number, before: string): number {
  if (/[\w$\u0080-\uffff]$/.test(before)) return 1; // within a name
  const tag = /^\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/.exec(script.slice(start, start + 70))?.[0];
  if (tag === undefined) return 1;
  const end = script.indexOf(tag, start + tag.length);
  return (end < 0 ? script.length : end + tag.length) - start;
}
