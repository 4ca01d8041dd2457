/**
 * One session at a real server, in which a script's texts run as psql would send them: one simple Query after the other, data for
 * COPY … FROM STDIN behind it. Tells what came back, row descriptions above all; rows are dropped. Must never wait for ever: a text
 * that takes too long is cancelled, and a session that does not answer then is given up.
 * Spec: PostgreSQL documentation, "Message Flow", "Message Formats".
 */
import { setTimeout as delay } from "node:timers/promises";
import type { OpenPostgresRequest, PostgresConnection } from "@sluice/agent/targets/postgres/open.ts";
import { openPostgres } from "@sluice/agent/targets/postgres/open.ts";
import { nextChunk } from "@sluice/agent/targets/postgres/next-chunk.ts";
import { ScramKeyCache } from "@sluice/agent/targets/postgres/scram-keys.ts";
import { readErrorFields, type ServerError } from "@sluice/agent/targets/postgres/server-error.ts";
import { askSessionStart } from "@sluice/agent/targets/postgres/session-start.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemRandom } from "@sluice/core/system.ts";
import type { StartOfSession } from "@sluice/inspect/sql/session-settings.ts";
import { BodyReader, cstring, encodeMessage, FrameReader } from "@sluice/inspect/wire/postgres/frames.ts";

export interface Field {
  readonly name: string;
  readonly tableOid: number;
  readonly column: number;
}

/** One statement of a text, by its completion; the last one may have failed instead. */
export interface Outcome {
  /** Null when it described no rows. */
  readonly fields: readonly Field[] | null;
  /** Null when it did not end well. */
  readonly tag: string | null;
}

export interface Answer {
  readonly outcomes: readonly Outcome[];
  readonly error: ServerError | undefined;
  /** Rows as text, of the statements that were asked for them. */
  readonly rows: readonly (readonly (string | null)[])[];
  /** ParameterStatus in the order of arrival. */
  readonly reported: readonly (readonly [string, string])[];
  readonly state: "I" | "T" | "E";
}

const scramKeys = new ScramKeyCache(systemRandom, 16);
const FRAME_BYTES_MAX = 256 * 1024 * 1024;
const STATEMENT_TIMEOUT_MS = 12_000;
const CANCELLED_TIMEOUT_MS = 5_000;

export type SessionAddress = Pick<OpenPostgresRequest, "target" | "database" | "user" | "password">;

export function openConnection(address: SessionAddress, signal: AbortSignal): Promise<PostgresConnection> {
  return openPostgres({ ...address, startup: {}, signal }, { limits: defaultLimits, random: systemRandom, scramKeys });
}

export class ServerSession {
  readonly #connection: PostgresConnection;
  readonly #reader = new FrameReader(FRAME_BYTES_MAX);
  readonly #parameters: Map<string, string>;
  readonly start: StartOfSession | undefined;
  state: Answer["state"] = "I";

  private constructor(connection: PostgresConnection, start: StartOfSession | undefined) {
    this.#connection = connection;
    this.#parameters = new Map(connection.parameters);
    this.start = start;
    connection.stream.on("error", () => {});
  }

  static async open(address: SessionAddress): Promise<ServerSession> {
    const signal = AbortSignal.timeout(STATEMENT_TIMEOUT_MS);
    const connection = await openConnection(address, signal);
    return new ServerSession(connection, await askSessionStart(connection, FRAME_BYTES_MAX, signal));
  }

  /** As the server has reported it last. */
  parameter(name: string): string | undefined {
    return this.#parameters.get(name);
  }

  /** Runs a text; `data` is for the first COPY … FROM STDIN. Throws when the session is of no more use. */
  async run(text: string, data?: string, keepRows = false): Promise<Answer> {
    const { stream } = this.#connection;
    stream.write(encodeMessage("Q", [cstring(text)]));
    const over = new AbortController();
    const gone = new AbortController();
    void delay(STATEMENT_TIMEOUT_MS, undefined, { signal: over.signal })
      .then(() => this.#connection.cancel())
      .then(() => delay(CANCELLED_TIMEOUT_MS, undefined, { signal: over.signal }))
      .then(() => gone.abort(new Error("a text took too long and could not be cancelled")))
      .catch(() => {}); // it was over in time
    try {
      return await this.#answer(data, keepRows, gone.signal);
    } finally {
      over.abort();
    }
  }

  close(): void {
    const { stream } = this.#connection;
    stream.end(encodeMessage("X", []));
    stream.resume();
    stream.destroySoon();
  }

  async #answer(data: string | undefined, keepRows: boolean, signal: AbortSignal): Promise<Answer> {
    const outcomes: Outcome[] = [];
    const rows: (readonly (string | null)[])[] = [];
    const reported: [string, string][] = [];
    let fields: readonly Field[] | null = null;
    let error: ServerError | undefined;
    for (;;) {
      const frame = this.#reader.next();
      if (frame === null) {
        this.#reader.push(await nextChunk(this.#connection.stream, signal));
        continue;
      }
      switch (String.fromCharCode(frame.type)) {
        case "T":
          fields = [...(fields ?? []), ...fieldsOf(new BodyReader(frame.body))];
          break;
        case "D":
          if (keepRows) rows.push(rowOf(new BodyReader(frame.body)));
          break;
        case "C":
        case "I":
          outcomes.push({ fields, tag: frame.type === 0x43 ? new BodyReader(frame.body).cstring() : "" });
          fields = null;
          break;
        case "E":
          error = readErrorFields(frame.body);
          outcomes.push({ fields, tag: null });
          fields = null;
          break;
        case "S": {
          const body = new BodyReader(frame.body);
          const [name, value] = [body.cstring(), body.cstring()];
          this.#parameters.set(name, value);
          reported.push([name, value]);
          break;
        }
        case "G":
          this.#connection.stream.write(
            Buffer.concat([encodeMessage("d", [Buffer.from(data ?? "", "utf8")]), encodeMessage("c", [])]),
          );
          break;
        case "Z":
          this.state = String.fromCharCode(frame.body[0] ?? 0) as Answer["state"]; // the protocol has these three
          return { outcomes, error, rows, reported, state: this.state };
        default: // notices, notifications, the rows of COPY … TO STDOUT
      }
    }
  }
}

function fieldsOf(body: BodyReader): readonly Field[] {
  return Array.from({ length: body.int16() }, () => {
    const field = { name: body.cstring(), tableOid: body.uint32(), column: body.int16() };
    body.bytes(12); // type, its size and modifier, format
    return field;
  });
}

function rowOf(body: BodyReader): readonly (string | null)[] {
  return Array.from({ length: body.int16() }, () => {
    const bytes = body.int32();
    return bytes === -1 ? null : body.bytes(bytes).toString("utf8");
  });
}
