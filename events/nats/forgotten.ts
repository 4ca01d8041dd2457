/**
 * A server that was killed may come back with a consumer that counts messages as delivered and acknowledged which nobody has seen: they
 * stay in the stream and are never delivered. Whoever reads the stream puts them at its end once more and takes the old ones away, so that
 * they come like any other. Must never take one away before its copy is in the stream. What comes twice by that changes nothing.
 */
import { jetstream, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Clock } from "@sluice/core/clock.ts";
import type { Log } from "../log.ts";
import type { NatsLink } from "./connection.ts";
import { ACK_WAIT_MS } from "./streams.ts";

export interface ForgottenOptions {
  readonly link: NatsLink;
  readonly stream: string;
  readonly consumer: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Between two looks: two small requests. Milliseconds. */
  readonly lookMs?: number;
  /** Younger messages may be on their way. Milliseconds. */
  readonly ageMs?: number;
}

const LOOK_MS = 5_000;
/** Anything else that was delivered and not acknowledged comes again sooner. */
const AGE_MS = 3 * ACK_WAIT_MS;
/** Of one look: the rest waits for the next. */
const MESSAGES_MAX = 256;

/** Looks now and then. Returns how to stop; what was begun is finished then. */
export function watchForgotten(options: ForgottenOptions): () => Promise<void> {
  const { link, stream, log, lookMs = LOOK_MS } = options;
  let looking: Promise<void> | null = null;
  const look = async (): Promise<void> => {
    const connection = link.current;
    if (connection === null) return;
    try {
      const count = await bringBack(connection, options);
      if (count > 0) log.warn({ stream, messages: count }, "NATS had forgotten to deliver messages; they are put in once more.");
    } catch {
      // Away again, or full: the next look finds out. That NATS is away is logged elsewhere.
    } finally {
      looking = null;
    }
  };
  const timer = setInterval(() => {
    looking ??= look();
  }, lookMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await looking;
  };
}

/** How many messages were put in once more. */
async function bringBack(connection: NatsConnection, options: ForgottenOptions): Promise<number> {
  const { stream, clock, ageMs = AGE_MS } = options;
  const manager = await jetstreamManager(connection, { checkAPI: false });
  if (!(await hasForgotten(manager, options))) return 0;
  const { state } = await manager.streams.info(stream, { deleted_details: true });
  const gone = new Set(state.deleted ?? []);
  let count = 0;
  for (let seq = state.first_seq; seq <= state.last_seq && count < MESSAGES_MAX; seq++) {
    if (gone.has(seq)) continue;
    const message = await manager.streams.getMessage(stream, { seq });
    if (message === null) continue; // acknowledged meanwhile
    if (clock.nowMs() - message.time.getTime() < ageMs) break;
    await jetstream(connection).publish(message.subject, message.data);
    await manager.streams.deleteMessage(stream, seq, false);
    count += 1;
  }
  return count;
}

/** Nothing is left to deliver, and yet there are more messages than somebody has in hand. */
async function hasForgotten(manager: JetStreamManager, { stream, consumer }: ForgottenOptions): Promise<boolean> {
  const before = await manager.consumers.info(stream, consumer);
  if (before.num_pending > 0) return false;
  const { state } = await manager.streams.info(stream);
  return state.messages > before.num_ack_pending;
}
