/**
 * Connections to PostgreSQL that are used again by later sessions. A connection is kept only after everything that the former
 * session left behind is gone: cancels have settled and `DISCARD ALL` was answered with nothing but its own answer, outside a
 * transaction, in step with what was asked. Whatever is unexpected closes it; a session never sees a trace of the one before.
 * Spec: PostgreSQL documentation, "DISCARD", "Simple Query".
 */
import { createHmac } from "node:crypto";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { ResourceSpec, TargetSpec } from "@sluice/core/snapshot.ts";
import { BodyReader, cstring, encodeMessage, FrameReader } from "@sluice/inspect/wire/postgres/frames.ts";
import type { SessionStart } from "@sluice/rpc/agent-link.ts";
import type { Logger } from "pino";
import type { TargetAddress } from "../addresses.ts";
import { nextChunk } from "./next-chunk.ts";
import type { PostgresConnection } from "./open.ts";
import { readSessionStart, SESSION_START_QUERY } from "./session-start.ts";

export type PoolSettings = NonNullable<TargetSpec["pool"]>;

/** Two sessions with equal keys may use the same connection, one after the other. */
export interface PoolKeyParts {
  readonly resource: ResourceSpec;
  readonly address: TargetAddress;
  readonly user: string;
  readonly password: string | undefined;
  readonly database: string;
  readonly startup: Readonly<Record<string, string>>;
}

export interface PostgresPoolOptions {
  readonly limits: Limits;
  readonly random: Random;
  readonly log: Pick<Logger, "debug">;
}

/**
 * What a kept connection logs in with: RESET in a later session brings it back, so it must not name the former one. The session's
 * own name is set at take.
 */
export const POOLED_APPLICATION_NAME = "sluice";
const RESET_QUERY = "DISCARD ALL";
const KEY_BYTES = 32;
const MARK_BYTES = 16;

export class PostgresPool {
  readonly #options: PostgresPoolOptions;
  /** Of this process: keys of the pool tell nothing about passwords. */
  readonly #secret: Uint8Array;
  readonly #byKey = new Map<string, Set<PooledConnection>>();
  /** Being opened, by key. */
  readonly #opening = new Map<string, number>();
  #closed = false;

  constructor(options: PostgresPoolOptions) {
    this.#options = options;
    this.#secret = options.random.bytes(KEY_BYTES);
  }

  keyOf(parts: PoolKeyParts): string {
    const { resource, address, user, password, database, startup } = parts;
    const others = Object.entries(startup)
      .filter(([name]) => !isApplicationName(name))
      .sort(([a], [b]) => (a < b ? -1 : 1));
    const text = JSON.stringify([resource.name, address, resource.target.tls, user, password ?? null, database, others]);
    return createHmac("sha256", this.#secret).update(text).digest("base64");
  }

  /** An idle connection made ready for the next session, or one that `open` makes and that may be kept later; `null` when there may be no more. */
  async take(
    key: string,
    settings: PoolSettings,
    use: { readonly resource: string; readonly applicationName: string; readonly signal: AbortSignal },
    open: () => Promise<PostgresConnection>,
  ): Promise<PostgresConnection | null> {
    for (;;) {
      const idle = this.#latestIdle(key);
      if (idle === undefined) break;
      if (await idle.begin(use.applicationName, use.signal)) return idle.lend();
      use.signal.throwIfAborted();
    }
    if (this.#closed || this.#count(key) >= settings.connectionsMax) return null;
    this.#opening.set(key, (this.#opening.get(key) ?? 0) + 1);
    try {
      const pooled = new PooledConnection(await open(), use.resource, settings, this.#options, (event) => {
        if (event === "closed") this.#forget(key, pooled);
        else this.#makeRoom(pooled);
      });
      this.#remember(key, pooled);
      if (await pooled.begin(use.applicationName, use.signal)) return pooled.lend();
    } finally {
      const left = (this.#opening.get(key) ?? 1) - 1;
      if (left > 0) this.#opening.set(key, left);
      else this.#opening.delete(key);
    }
    use.signal.throwIfAborted();
    throw new GatewayError("target_protocol", "The database did not take the session's settings.");
  }

  /** Closes what is idle; what is in use closes when it is released. */
  close(): void {
    this.#closed = true;
    for (const connections of this.#byKey.values()) for (const pooled of connections) pooled.retire();
  }

  get idle(): number {
    return [...this.#byKey.values()].flatMap((connections) => [...connections].filter(({ idle }) => idle)).length;
  }

  /** The one used last: the others may then reach the end of their idle time. */
  #latestIdle(key: string): PooledConnection | undefined {
    return [...(this.#byKey.get(key) ?? [])].findLast(({ idle }) => idle);
  }

  #count(key: string): number {
    return (this.#byKey.get(key)?.size ?? 0) + (this.#opening.get(key) ?? 0);
  }

  #remember(key: string, pooled: PooledConnection): void {
    const connections = this.#byKey.get(key);
    if (connections === undefined) this.#byKey.set(key, new Set([pooled]));
    else connections.add(pooled);
  }

  #forget(key: string, pooled: PooledConnection): void {
    const connections = this.#byKey.get(key);
    connections?.delete(pooled);
    if (connections?.size === 0) this.#byKey.delete(key);
  }

  /** Callers choose startup parameters, so keys are without number: idle connections are bounded over all keys of a resource. */
  #makeRoom(added: PooledConnection): void {
    if (this.#closed) added.retire();
    const idle = [...this.#byKey.values()].flatMap((connections) =>
      [...connections].filter((pooled) => pooled.idle && pooled.resource === added.resource),
    );
    idle.sort((a, b) => a.idleSince - b.idleSince);
    for (const pooled of idle.slice(0, Math.max(0, idle.length - added.settings.connectionsMax))) pooled.retire();
  }
}

let idleCount = 0;

/** One connection, from its first session to its end. */
class PooledConnection {
  readonly resource: string;
  readonly settings: PoolSettings;
  /** A count, not a time: what is larger became idle later. */
  idleSince = 0;
  readonly #connection: PostgresConnection;
  readonly #options: PostgresPoolOptions;
  readonly #changed: (event: "idle" | "closed") => void;
  readonly #parameters: Map<string, string>;
  readonly #cancels = new Set<Promise<void>>();
  #state: "busy" | "resetting" | "idle" | "closed" = "busy";
  #idleTimer: NodeJS.Timeout | undefined;
  /** What names mean to the session that has it now. */
  #session: SessionStart | undefined;
  /** A cancel whose delivery is not known may hit whatever runs next. */
  #cancelUncertain = false;
  #retired = false;

  constructor(
    connection: PostgresConnection,
    resource: string,
    settings: PoolSettings,
    options: PostgresPoolOptions,
    changed: (event: "idle" | "closed") => void,
  ) {
    this.#connection = connection;
    this.resource = resource;
    this.settings = settings;
    this.#options = options;
    this.#changed = changed;
    this.#parameters = new Map(connection.parameters);
    connection.stream.once("close", this.#onClosed);
  }

  get idle(): boolean {
    return this.#state === "idle";
  }

  /** Gives it to a session: from idle or just opened. False when it turned out to be of no use; it is closed then. */
  async begin(applicationName: string, signal: AbortSignal): Promise<boolean> {
    const { stream } = this.#connection;
    clearTimeout(this.#idleTimer);
    this.#state = "busy";
    stream.off("data", this.#onUnexpected);
    stream.pause();
    stream.on("error", ignore);
    try {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(this.#options.limits.targetResetTimeoutMs)]);
      // Asked anew each time: a server's configuration may have been read again since the last session.
      this.#session = undefined;
      const queries = [`SET application_name = ${quoteLiteral(applicationName)}`, SESSION_START_QUERY];
      const start: ExpectedAnswer = {
        type: "D",
        matches: (body) => {
          this.#session = readSessionStart(body);
          return this.#session !== undefined;
        },
      };
      const answers = [tagged("SET"), ready, { type: "T", matches: () => true }, start, tagged("SELECT 1"), ready];
      await this.#run(queries, answers, deadline);
      return true;
    } catch (error) {
      this.#close("it did not take the session's name", error);
      return false;
    } finally {
      stream.off("error", this.#onUnexpected);
      // A closed one keeps it: a late fault of a socket that nobody holds must not end the process.
      if (this.#state === "busy") stream.off("error", ignore);
    }
  }

  /** What the session gets: it works until it is released and never afterwards. */
  lend(): PostgresConnection {
    const { stream, serverVersion, lendTo } = this.#connection;
    let lent = true;
    return {
      stream,
      serverVersion,
      ...(lendTo === undefined ? {} : { lendTo: (take) => void (lent && lendTo(take)) }),
      parameters: [...this.#parameters],
      ...(this.#session === undefined ? {} : { session: this.#session }),
      cancel: async () => {
        // After the release the connection may be somebody else's.
        if (lent) await this.#cancel();
      },
      release: () => {
        if (!lent) return;
        lent = false;
        lendTo?.(null);
        void this.#reset();
      },
    };
  }

  /** No more sessions. In use, it ends with its session. */
  retire(): void {
    this.#retired = true;
    if (this.#state !== "idle") return;
    this.#connection.stream.write(encodeMessage("X", []));
    this.#close("it is no longer needed");
  }

  async #cancel(): Promise<void> {
    const sent = this.#connection.cancel();
    this.#cancels.add(sent);
    try {
      await sent;
    } catch (error) {
      this.#cancelUncertain = true;
      throw error;
    } finally {
      this.#cancels.delete(sent);
    }
  }

  async #reset(): Promise<void> {
    const { stream } = this.#connection;
    if (this.#state !== "busy" || stream.destroyed) return;
    this.#state = "resetting";
    stream.on("error", this.#onUnexpected);
    try {
      const deadline = AbortSignal.timeout(this.#options.limits.targetResetTimeoutMs);
      await withinDeadline(Promise.allSettled(this.#cancels), deadline);
      if (this.#retired) throw new Error("it is no longer needed");
      if (this.#cancelUncertain) throw new Error("a cancel request may still be on its way");
      if (stream.listenerCount("data") > 0) throw new Error("the former session still reads");
      // The mark is random: an answer that the former session left unread cannot pass for this one.
      const mark = Buffer.from(this.#options.random.bytes(MARK_BYTES)).toString("hex");
      const answers = [tagged(RESET_QUERY), ready, { type: "T", matches: () => true }, row(mark), tagged("SELECT 1"), ready];
      await this.#run([RESET_QUERY, `SELECT '${mark}'`], answers, deadline);
    } catch (error) {
      this.#close("it could not be reset", error);
      return;
    }
    this.#rest();
  }

  #rest(): void {
    if (this.#state !== "resetting") return;
    this.#state = "idle";
    this.idleSince = ++idleCount;
    const { stream } = this.#connection;
    stream.on("data", this.#onUnexpected);
    stream.resume();
    this.#idleTimer = setTimeout(() => this.retire(), this.settings.idleMs).unref();
    this.#changed("idle");
  }

  /** Simple queries sent at once, with exactly these answers: nothing before them, between them or behind them but settings reported. Throws otherwise. */
  async #run(queries: readonly string[], answers: readonly ExpectedAnswer[], signal: AbortSignal): Promise<void> {
    const { stream } = this.#connection;
    if (stream.readableLength > 0) throw new Error("an answer was left unread");
    const reader = new FrameReader(this.#options.limits.targetLoginFrameBytesMax);
    stream.write(Buffer.concat(queries.map((query) => encodeMessage("Q", [cstring(query)]))));
    const expected = [...answers];
    for (let next = expected.shift(); next !== undefined; ) {
      const frame = reader.next();
      if (frame === null) {
        reader.push(await nextChunk(stream, signal));
        continue;
      }
      const type = String.fromCharCode(frame.type);
      const body = new BodyReader(frame.body);
      if (type === "S") this.#parameters.set(body.cstring(), body.cstring());
      else if (type === next.type && next.matches(body)) next = expected.shift();
      else throw new Error(`the target sent ${JSON.stringify(type)} where it should not`);
    }
    if (!reader.empty || stream.readableLength > 0) throw new Error("the target sent more than it was asked for");
  }

  readonly #onUnexpected = (): void => this.#close("the target said something while it was idle");

  readonly #onClosed = (): void => this.#close("the connection ended");

  #close(reason: string, cause?: unknown): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    clearTimeout(this.#idleTimer);
    const { stream } = this.#connection;
    stream.off("data", this.#onUnexpected);
    stream.on("error", ignore);
    stream.destroySoon();
    const why = cause instanceof Error ? cause.message : undefined;
    this.#options.log.debug({ resource: this.resource, reason, cause: why }, "target connection closed instead of kept");
    this.#changed("closed");
  }
}

interface ExpectedAnswer {
  readonly type: string;
  readonly matches: (body: BodyReader) => boolean;
}

/** ReadyForQuery, outside a transaction. */
const ready: ExpectedAnswer = { type: "Z", matches: (body) => body.byte() === 0x49 };

function tagged(tag: string): ExpectedAnswer {
  return { type: "C", matches: (body) => body.cstring() === tag };
}

/** One column of text. */
function row(value: string): ExpectedAnswer {
  return { type: "D", matches: (body) => body.int16() === 1 && body.bytes(body.int32()).toString("latin1") === value };
}

/** An escape string: means the same whatever standard_conforming_strings says. Throws when the text holds a NUL. */
export function quoteLiteral(text: string): string {
  if (text.includes("\0")) throw new GatewayError("protocol_violation", "A start-up parameter holds a NUL byte.");
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

export function isApplicationName(name: string): boolean {
  return name.toLowerCase() === "application_name";
}

async function withinDeadline(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function ignore(): void {}
