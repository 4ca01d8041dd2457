/**
 * How replicas on one store tell each other that something changed: LISTEN and NOTIFY on a connection of its own. A notification is a
 * hint to look, never the content itself: it may be lost with the connection, and every listener is then told that it may have
 * missed something. Must never carry data, tokens or secrets.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "@sluice/core/random.ts";
import { type Kysely, sql } from "kysely";
import { Client, type ClientConfig } from "pg";
import type { Logger } from "pino";
import { codeOf } from "./store.ts";
import type { Tables } from "./tables.ts";

export interface ChangesOptions {
  /** `Store.connection`. Not through a pooler that shares server connections between transactions: it would lose LISTEN. */
  readonly connection: ClientConfig;
  readonly random: Random;
  readonly log: Logger;
  /** How often the connection is asked whether it lives. Milliseconds; 5,000. */
  readonly probeMs?: number;
}

/** Gets the payload; null: notifications may have been missed, so look at the store. Also called for what this replica itself notified. */
export type ChangeListener = (payload: string | null) => void;

export interface Changes {
  /** Topics are lower-case words with hyphens. Returns how to stop. */
  onChange(topic: string, listener: ChangeListener): () => void;
  /** With a transaction: sent when it commits, and only then. Payloads are ids or small JSON, 7,000 bytes at most. */
  notify(db: Kysely<Tables>, topic: string, payload: string): Promise<void>;
  close(): Promise<void>;
}

const CHANNEL = "sluice_changes";
/** PostgreSQL takes less than 8,000 bytes. */
const PAYLOAD_BYTES_MAX = 7_000;
const PROBE_MS = 5_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** The first try to connect again, and the longest wait between two. */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;

/** Resolves once it listens. Rejects with the driver's error when the store does not answer. */
export async function listenForChanges(options: ChangesOptions): Promise<Changes> {
  const { log } = options;
  const listeners = new Map<string, Set<ChangeListener>>();
  const closing = new AbortController();

  const call = (listener: ChangeListener, topic: string, payload: string | null): void => {
    try {
      listener(payload);
    } catch (error) {
      log.error({ err: error, topic }, "a listener for changes in the store threw");
    }
  };
  const received = (message: string | undefined): void => {
    const at = message?.indexOf(" ") ?? -1;
    if (message === undefined || at < 1) return;
    const topic = message.slice(0, at);
    for (const listener of listeners.get(topic) ?? []) call(listener, topic, message.slice(at + 1));
  };
  const missed = (): void => {
    for (const [topic, of] of listeners) for (const listener of of) call(listener, topic, null);
  };

  const first = await connect(options, received);
  const kept = keepListening(first, { options, received, missed, signal: closing.signal });

  return {
    onChange: (topic, listener) => {
      checkTopic(topic);
      const of = listeners.get(topic) ?? new Set();
      listeners.set(topic, of.add(listener));
      return () => void of.delete(listener);
    },
    notify: notifyChange,
    close: async () => {
      closing.abort();
      await kept;
    },
  };
}

/** The sending half alone. */
export async function notifyChange(db: Kysely<Tables>, topic: string, payload: string): Promise<void> {
  checkTopic(topic);
  if (Buffer.byteLength(payload) > PAYLOAD_BYTES_MAX) throw new Error("a notification is a hint to look, not the content");
  await sql`select pg_notify(${CHANNEL}, ${`${topic} ${payload}`})`.execute(db);
}

function checkTopic(topic: string): void {
  if (!/^[a-z][a-z-]*$/.test(topic)) throw new Error("a topic is lower-case letters and hyphens");
}

interface Listening {
  readonly client: Client;
  /** Resolves when the connection is gone, for whatever reason. */
  readonly ended: Promise<void>;
}

async function connect({ connection, log }: ChangesOptions, received: (message: string | undefined) => void): Promise<Listening> {
  const client = new Client({ ...connection, connectionTimeoutMillis: CONNECT_TIMEOUT_MS, keepAlive: true });
  const ended = new Promise<void>((resolve) => {
    client.on("end", () => resolve());
    client.on("error", (error) => {
      log.warn({ reason: codeOf(error) }, "the connection on which changes in the store are heard broke");
      resolve();
    });
  });
  client.on("notification", ({ payload }) => received(payload));
  try {
    await client.connect();
    await client.query(`listen ${CHANNEL}`);
  } catch (error) {
    void client.end().catch(() => undefined); // it never connected, or is broken: there is nothing to end in order
    throw error;
  }
  return { client, ended };
}

interface Keeping {
  readonly options: ChangesOptions;
  readonly received: (message: string | undefined) => void;
  readonly missed: () => void;
  readonly signal: AbortSignal;
}

/** Ends with the signal. A connection that neither works nor breaks (half-open TCP) is found by the probe and left. */
async function keepListening(first: Listening, { options, received, missed, signal }: Keeping): Promise<void> {
  let listening = first;
  while (!signal.aborted) {
    await probeUntilGone(listening, options.probeMs ?? PROBE_MS, signal);
    void listening.client.end().catch(() => undefined); // gone already, or about to be
    if (signal.aborted) return;
    const next = await reconnect(options, received, signal);
    if (next === undefined) return;
    listening = next;
    options.log.info("changes in the store are heard again");
    missed();
  }
}

async function probeUntilGone({ client, ended }: Listening, probeMs: number, signal: AbortSignal): Promise<void> {
  const gone = ended.then(() => true);
  const aborted = new Promise<boolean>((resolve) => signal.addEventListener("abort", () => resolve(true), { once: true }));
  for (;;) {
    const answered = client.query("select 1").then(
      () => false,
      () => true,
    );
    if (await Promise.race([gone, aborted, answered, after(probeMs, true, signal)])) return;
    if (await Promise.race([gone, aborted, after(probeMs, false, signal)])) return;
  }
}

async function after<Value>(ms: number, value: Value, signal: AbortSignal): Promise<Value> {
  return await delay(ms, value, { signal, ref: false }).catch(() => value);
}

async function reconnect(
  options: ChangesOptions,
  received: (message: string | undefined) => void,
  signal: AbortSignal,
): Promise<Listening | undefined> {
  for (let waitMs = RETRY_MS_MIN; !signal.aborted; waitMs = Math.min(waitMs * 2, RETRY_MS_MAX)) {
    try {
      return await connect(options, received);
    } catch (error) {
      options.log.warn({ reason: codeOf(error) }, "the store does not answer: changes are not heard until it does");
      const share = (options.random.bytes(1)[0] ?? 0) / 255;
      await after(waitMs * (0.5 + share / 2), undefined, signal);
    }
  }
  return undefined;
}
