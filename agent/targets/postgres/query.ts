/**
 * A few queries on a connection of our own, all rows in memory, as text: for reading catalogs and nothing else.
 * Bounded in rows and bytes over its whole life; no statement of a caller ever runs here.
 * Spec: PostgreSQL documentation, "Simple Query".
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { BodyReader, cstring, encodeMessage, type Frame, FrameReader } from "@sluice/inspect/wire/postgres/frames.ts";
import { nextChunk } from "./next-chunk.ts";
import type { PostgresConnection } from "./open.ts";
import { readErrorFields, type ServerError, serverErrorCause } from "./server-error.ts";

export interface QueryBounds {
  readonly rowsMax: number;
  readonly bytesMax: number;
  readonly frameBytesMax: number;
}

/** Null is SQL NULL. */
export type QueryRow = readonly (string | null)[];

/** A statement that the server refused; the connection goes on. */
export class QueryRefused extends Error {
  readonly sqlState: string;

  constructor(error: ServerError) {
    super("the target refused a query", { cause: serverErrorCause(error) });
    this.name = "QueryRefused";
    this.sqlState = error.sqlState;
  }
}

export class QueryClient {
  readonly #connection: PostgresConnection;
  readonly #signal: AbortSignal;
  readonly #reader: FrameReader;
  #rowsLeft: number;
  #bytesLeft: number;
  #notified = false;

  constructor(connection: PostgresConnection, bounds: QueryBounds, signal: AbortSignal) {
    this.#connection = connection;
    this.#signal = signal;
    this.#reader = new FrameReader(bounds.frameBytesMax);
    this.#rowsLeft = bounds.rowsMax;
    this.#bytesLeft = bounds.bytesMax;
    connection.stream.on("error", ignore);
  }

  /**
   * Runs one simple query and returns all rows of all its statements. Throws QueryRefused, or GatewayError `target_protocol`
   * (then the connection is of no more use), or what the socket or the signal says.
   */
  async query(text: string): Promise<readonly QueryRow[]> {
    this.#connection.stream.write(encodeMessage("Q", [cstring(text)]));
    const rows: QueryRow[] = [];
    let refused: QueryRefused | undefined;
    for (;;) {
      const frame = this.#reader.next();
      if (frame === null) {
        const chunk = await nextChunk(this.#connection.stream, this.#signal);
        this.#bytesLeft -= chunk.length;
        if (this.#bytesLeft < 0) throw tooMuch();
        this.#reader.push(chunk);
        continue;
      }
      switch (String.fromCharCode(frame.type)) {
        case "D":
          if (--this.#rowsLeft < 0) throw tooMuch();
          rows.push(readRow(frame));
          break;
        case "E":
          refused ??= new QueryRefused(readErrorFields(frame.body));
          break;
        case "Z":
          if (refused !== undefined) throw refused;
          return rows;
        case "T": // described by the queries themselves
        case "C":
        case "I":
        case "N":
        case "S":
          break;
        case "A":
          this.#notified = true;
          break;
        default:
          throw new GatewayError("target_protocol", "The database answered a query with an unknown message.");
      }
    }
  }

  /** Between queries: true as soon as a notification has come since the last call, false when `until` aborts before. Throws as `query` does. */
  async notified(until: AbortSignal): Promise<boolean> {
    for (;;) {
      for (let frame = this.#reader.next(); frame !== null; frame = this.#reader.next()) {
        if (frame.type === NOTIFICATION) this.#notified = true;
      }
      if (this.#notified) {
        this.#notified = false;
        return true;
      }
      try {
        const chunk = await nextChunk(this.#connection.stream, AbortSignal.any([this.#signal, until]));
        this.#bytesLeft -= chunk.length;
        if (this.#bytesLeft < 0) throw tooMuch();
        this.#reader.push(chunk);
      } catch (error) {
        this.#signal.throwIfAborted();
        if (until.aborted) return false;
        throw error;
      }
    }
  }

  /** Ends the connection. */
  close(): void {
    const { stream } = this.#connection;
    stream.end(encodeMessage("X", []));
    stream.resume();
    stream.destroySoon();
  }
}

const NOTIFICATION = "A".charCodeAt(0);

function readRow(frame: Frame): QueryRow {
  const body = new BodyReader(frame.body);
  const columns = body.int16();
  const row: (string | null)[] = [];
  for (let index = 0; index < columns; index++) {
    const bytes = body.int32();
    row.push(bytes === -1 ? null : body.bytes(bytes).toString("utf8"));
  }
  body.end();
  return row;
}

function tooMuch(): GatewayError {
  return new GatewayError("target_protocol", "The database's catalog is larger than an agent reads.");
}

function ignore(): void {}
