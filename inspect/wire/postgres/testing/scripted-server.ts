/**
 * A PostgreSQL server for tests, reduced to its protocol: pipelines, skipping to Sync, transactions, portals, name spaces shared
 * by SQL and protocol, COPY, buffering until Sync or Flush, cancel between rows. Its rows say which text made them, so that a
 * test sees when something else ran than was judged. Statements are a toy language, separated by semicolons:
 *   rows LABEL N | write LABEL N (returns N rows, changes something) | boom N (N rows, then an error) | badplan (fails at Bind)
 *   notice | begin | commit | rollback | prepare S as … | deallocate S | deallocate all | discard all | declare P cursor for …
 *   close P | copyin | copyout N | set NAME VALUE
 */
import { encodeError, encodeNotice } from "../errors.ts";
import { BodyReader, cstring, encodeMessage, type Frame, FrameReader, int16, int32 } from "../frames.ts";

interface Prepared {
  readonly text: string;
}

interface ServerPortal {
  readonly text: string;
  readonly rows: Generator<Buffer, string, void> | null;
  finished: string | null;
}

/** Gives way between rows; `input`: it waits for a message. */
type Work = Generator<"input" | undefined, undefined | void, void>;

class ServerError extends Error {
  readonly sqlState: string;
  constructor(sqlState: string, message: string) {
    super(message);
    this.sqlState = sqlState;
  }
}

const commands =
  /^(rows|write|boom|badplan|notice|begin|commit|rollback|prepare|deallocate|discard|declare|close|copyin|copyout|set)\b/;
export const SECRET = "secret-of-row";

export class ScriptedServer {
  /** Changes that were committed, by label. */
  readonly committed: string[] = [];
  /** Texts that ran, in order. */
  readonly ran: string[] = [];
  /** COPY data received. */
  copied = "";
  #uncommitted: string[] = [];
  readonly #reader: FrameReader = new FrameReader(64 * 1024 * 1024);
  readonly #prepared = new Map<string, Prepared>();
  readonly #portals = new Map<string, ServerPortal>();
  #status: "I" | "T" | "E" = "I";
  #skipping = false;
  #buffered: Buffer[] = [];
  #sent: Buffer[] = [];
  #running: Work | null = null;
  #wantsInput = false;
  #cancelled = false;
  #unread: Frame[] = [];

  receive(bytes: Buffer): void {
    this.#reader.push(bytes);
    for (let frame = this.#reader.next(); frame !== null; frame = this.#reader.next()) this.#unread.push(frame);
  }

  /** Does a little work; false when there is none. */
  step(): boolean {
    if (this.#running === null) {
      const frame = this.#unread.shift();
      if (frame === undefined) return false;
      // A cancel that arrives while nothing runs is lost, as in the real server.
      this.#cancelled = false;
      this.#running = this.#handle(frame);
    }
    if (this.#wantsInput && this.#unread.length === 0) return false;
    this.#wantsInput = false;
    const next = this.#running.next();
    if (next.done === true) this.#running = null;
    else this.#wantsInput = next.value === "input";
    return true;
  }

  /** What has left the server's buffer. */
  take(): Buffer {
    const bytes = Buffer.concat(this.#sent);
    this.#sent = [];
    return bytes;
  }

  cancel(): void {
    this.#cancelled = true;
  }

  #emit(type: string, ...parts: Buffer[]): void {
    this.#buffered.push(encodeMessage(type, parts));
  }

  #flush(): void {
    this.#sent.push(...this.#buffered);
    this.#buffered = [];
  }

  *#handle(frame: Frame): Work {
    const type = String.fromCharCode(frame.type);
    if (this.#skipping && type !== "S") return;
    try {
      yield* this.#dispatch(type, frame);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      this.#report(error);
      if (type !== "Q" && type !== "S") this.#skipping = true;
      else this.#ready();
    }
  }

  *#dispatch(type: string, frame: Frame): Work {
    const reader = new BodyReader(frame.body);
    switch (type) {
      case "Q":
        return yield* this.#query(reader.cstring());
      case "P":
        return this.#parse(reader.cstring(), reader.cstring());
      case "B":
        return this.#bind(reader);
      case "D":
        return this.#describe(reader.byte() === 0x53, reader.cstring());
      case "E":
        return yield* this.#execute(reader.cstring(), reader.int32());
      case "C": {
        const statement = reader.byte() === 0x53;
        if (statement) this.#prepared.delete(reader.cstring());
        else this.#portals.delete(reader.cstring());
        return this.#emit("3");
      }
      case "S":
        this.#skipping = false;
        if (this.#status === "I") this.#endTransaction(true);
        return this.#ready();
      case "H":
        return this.#flush();
      default:
        return undefined;
    }
  }

  *#query(text: string): Work {
    this.#prepared.delete("");
    const statements = splitText(text);
    for (const statement of statements) checkSyntax(statement);
    if (statements.length > 0) this.#portals.delete("");
    if (statements.length === 0) this.#emit("I");
    for (const statement of statements) {
      this.#checkTransaction(statement);
      if (/^(rows|write|boom)/.test(statement)) this.#emit("T", ...description(statement));
      if (statement === "copyin") {
        yield* this.#copyIn();
        continue;
      }
      const rows = this.#run(statement);
      let next = rows.next();
      for (; next.done !== true; next = rows.next()) {
        this.#buffered.push(next.value);
        this.#flush();
        yield undefined;
        if (this.#cancelled) throw new ServerError("57014", "canceling statement due to user request");
      }
      this.#emit("C", cstring(next.value));
    }
    if (this.#status === "I") this.#endTransaction(true);
    this.#portals.delete("");
    this.#ready();
  }

  #parse(name: string, text: string): void {
    if (name === "") this.#prepared.delete("");
    const statements = splitText(text);
    if (statements.length > 1) throw new ServerError("42601", "cannot insert multiple commands into a prepared statement");
    for (const statement of statements) checkSyntax(statement);
    if (statements.length === 1) this.#checkTransaction(statements[0]!);
    if (this.#prepared.has(name)) throw new ServerError("42P05", `prepared statement "${name}" already exists`);
    this.#prepared.set(name, { text: statements[0] ?? "" });
    this.#emit("1");
  }

  #bind(reader: BodyReader): void {
    const name = reader.cstring();
    const prepared = this.#prepared.get(reader.cstring());
    if (prepared === undefined) throw new ServerError("26000", "prepared statement does not exist");
    this.#checkTransaction(prepared.text);
    if (name !== "" && this.#portals.has(name)) throw new ServerError("42P03", "cursor already exists");
    if (prepared.text.startsWith("badplan")) throw new ServerError("22P02", `bad constant ${SECRET}`);
    this.#portals.set(name, { text: prepared.text, rows: null, finished: null });
    this.#emit("2");
  }

  #describe(statement: boolean, name: string): void {
    const found = statement ? this.#prepared.get(name) : this.#portals.get(name);
    if (found === undefined) throw new ServerError(statement ? "26000" : "34000", "does not exist");
    if (statement) this.#emit("t", int16(0));
    if (/^(rows|write|boom)/.test(found.text)) this.#emit("T", ...description(found.text));
    else this.#emit("n");
  }

  *#execute(name: string, rowsMax: number): Work {
    const portal = this.#portals.get(name);
    if (portal === undefined) throw new ServerError("34000", "portal does not exist");
    if (portal.text === "") return this.#emit("I");
    this.#checkTransaction(portal.text);
    if (portal.finished !== null) return this.#emit("C", cstring(portal.finished));
    if (portal.text === "copyin") return yield* this.#copyIn();
    const rows = portal.rows ?? this.#run(portal.text);
    let count = 0;
    for (let next = rows.next(); ; next = rows.next()) {
      if (next.done === true) {
        this.#portals.set(name, { ...portal, rows, finished: next.value });
        return this.#emit("C", cstring(next.value));
      }
      this.#buffered.push(next.value);
      count += 1;
      if (count % 3 === 0) this.#flush();
      if (rowsMax > 0 && count >= rowsMax && !portal.text.startsWith("copyout")) {
        this.#portals.set(name, { ...portal, rows });
        return this.#emit("s");
      }
      yield undefined;
      if (this.#cancelled) throw new ServerError("57014", "canceling statement due to user request");
    }
  }

  /** Yields rows; returns the tag. */
  *#run(text: string): Generator<Buffer, string, void> {
    this.ran.push(text);
    const words = text.split(" ");
    const verb = words[0]!;
    const count = Number(words.at(-1));
    if (verb === "rows" || verb === "write") {
      if (verb === "write") this.#uncommitted.push(words[1]!);
      for (let row = 1; row <= count; row++) yield dataRow(`${text}#${row}`);
      return verb === "rows" ? `SELECT ${count}` : `INSERT 0 ${count}`;
    }
    if (verb === "boom") {
      for (let row = 1; row <= count; row++) yield dataRow(`${text}#${row}`);
      throw new ServerError("22012", `division of ${SECRET}`);
    }
    if (verb === "copyout") {
      this.#emit("H", Buffer.from([0]), int16(0));
      for (let row = 1; row <= count; row++) yield encodeMessage("d", [Buffer.from(`line ${row}\n`)]);
      this.#emit("c");
      return `COPY ${count}`;
    }
    return this.#utility(text, words);
  }

  #utility(text: string, words: readonly string[]): string {
    switch (words[0]) {
      case "badplan":
        throw new ServerError("22P02", `bad constant ${SECRET}`);
      case "notice":
        this.#buffered.push(encodeNotice({ severity: "NOTICE", sqlState: "00000", message: `about ${SECRET}` }));
        return "DO";
      case "begin":
        if (this.#status === "I") this.#status = "T";
        return "BEGIN";
      case "commit":
      case "rollback": {
        const failed = this.#status === "E" || words[0] === "rollback";
        this.#status = "I";
        this.#endTransaction(!failed);
        return failed ? "ROLLBACK" : "COMMIT";
      }
      case "prepare":
        if (this.#prepared.has(words[1]!)) throw new ServerError("42P05", "exists");
        this.#prepared.set(words[1]!, { text: words.slice(3).join(" ") });
        return "PREPARE";
      case "deallocate":
        if (words[1] === "all") {
          this.#prepared.clear();
          return "DEALLOCATE ALL";
        }
        if (!this.#prepared.delete(words[1]!)) throw new ServerError("26000", "no such statement");
        return "DEALLOCATE";
      case "discard":
        this.#prepared.clear();
        this.#portals.clear();
        return "DISCARD ALL";
      case "declare":
        if (this.#portals.has(words[1]!)) throw new ServerError("42P03", "cursor already exists");
        this.#portals.set(words[1]!, { text: words.slice(4).join(" "), rows: null, finished: null });
        return "DECLARE CURSOR";
      case "close":
        if (!this.#portals.delete(words[1]!)) throw new ServerError("34000", "no such cursor");
        return "CLOSE CURSOR";
      case "set":
        this.#emit("S", cstring(words[1]!), cstring(words[2]!));
        return "SET";
      default:
        throw new Error(`the scripted server does not know ${text}`);
    }
  }

  *#copyIn(): Work {
    this.ran.push("copyin");
    this.#emit("G", Buffer.from([0]), int16(0));
    this.#flush();
    let ending = "";
    while (ending === "") {
      yield "input";
      const frame = this.#unread.shift()!;
      const type = String.fromCharCode(frame.type);
      if (type === "d") this.copied += frame.body.toString();
      else if (type === "c" || type === "f") ending = type;
      else if (type !== "S" && type !== "H") throw new Error(`message ${type} inside COPY data`);
    }
    if (ending === "f") throw new ServerError("57014", "COPY from stdin failed");
    this.#uncommitted.push("copy");
    this.#emit("C", cstring("COPY 1"));
  }

  #checkTransaction(text: string): void {
    if (this.#status === "E" && !/^(commit|rollback)/.test(text))
      throw new ServerError("25P02", "current transaction is aborted");
  }

  #report(error: ServerError): void {
    this.#buffered.push(encodeError({ severity: "ERROR", sqlState: error.sqlState, message: error.message }));
    this.#flush();
    this.#cancelled = false;
    if (this.#status === "T") this.#status = "E";
    this.#uncommitted = [];
    if (this.#status === "I") this.#endTransaction(false);
  }

  #endTransaction(commits: boolean): void {
    if (commits) this.committed.push(...this.#uncommitted);
    this.#uncommitted = [];
    this.#portals.clear();
  }

  #ready(): void {
    this.#emit("Z", Buffer.from(this.#status));
    this.#flush();
  }
}

function splitText(text: string): string[] {
  return text
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
}

function checkSyntax(statement: string): void {
  if (!commands.test(statement)) throw new ServerError("42601", `syntax error at "${statement}"`);
}

export function dataRow(...values: (string | null)[]): Buffer {
  const cells = values.map((value) =>
    value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)]),
  );
  return encodeMessage("D", [int16(values.length), ...cells]);
}

function description(text: string): Buffer[] {
  const name = text.split(" ")[1] ?? "value";
  return [int16(1), cstring(name), int32(1000), int16(1), int32(25), int16(-1), int32(-1), int16(0)];
}
