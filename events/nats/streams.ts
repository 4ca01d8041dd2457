/**
 * Names on NATS, and the two streams behind them. Records wait for the recorder until it has them, and are refused when there is no
 * more room: never is an older one dropped for a newer. What the index of sessions is made from is small and may be dropped at last.
 */
import { isDeepStrictEqual } from "node:util";
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from "@nats-io/jetstream";
import { nanos, type NatsConnection } from "@nats-io/transport-node";
import type { NatsConfig } from "./connection.ts";

export const RECORDS_STREAM = "SLUICE_RECORDS";
export const SESSIONS_STREAM = "SLUICE_SESSIONS";
/** Durable consumers: the recorder's on the records, the control plane's on what the recorder says of sessions. */
export const RECORDER_CONSUMER = "recorder";
export const SESSION_INDEX_CONSUMER = "session-index";
/** Asked with a ReceiptRequest, the recorder answers with its latest Receipt. */
export const RECEIPT_REQUESTS = "sluice.receipt-requests";

export const recordsSubject = (gateway: string): string => `sluice.records.${gateway}`;
export const receiptsSubject = (gateway: string): string => `sluice.receipts.${gateway}`;
export const sessionsSubject = (recorder: string): string => `sluice.sessions.${recorder}`;

/** A message that was not acknowledged comes again after this: how long a recorder that was killed holds things up. */
export const ACK_WAIT_MS = 5_000;
/** Far above what gateways have on their way: messages that wait for one before them must not keep that one out. */
const UNACKNOWLEDGED_MAX = 65_536;
/** Longer than any gateway goes on sending the same message. */
const DUPLICATES_MS = 2 * 60_000;
/** The index's share of the configured room. */
const SESSIONS_SHARE = 16;

/** Makes what is missing, and changes room and copies of what is there when `owner` (the recorder: one opinion is enough). */
export async function ensureStreams(
  connection: NatsConnection,
  config: NatsConfig,
  options: { readonly owner: boolean },
): Promise<JetStreamManager> {
  const manager = await jetstreamManager(connection, { checkAPI: false });
  const common = { storage: StorageType.File, num_replicas: config.replicas, max_age: 0 };
  await ensureStream(manager, options.owner, {
    ...common,
    name: RECORDS_STREAM,
    subjects: [recordsSubject("*")],
    retention: RetentionPolicy.Interest,
    discard: DiscardPolicy.New,
    max_bytes: config.streamBytesMax,
    duplicate_window: nanos(DUPLICATES_MS),
  });
  await ensureStream(manager, options.owner, {
    ...common,
    name: SESSIONS_STREAM,
    subjects: [sessionsSubject("*")],
    retention: RetentionPolicy.Workqueue,
    discard: DiscardPolicy.Old,
    max_bytes: Math.max(1024 * 1024, Math.floor(config.streamBytesMax / SESSIONS_SHARE)),
  });
  await ensureConsumer(manager, RECORDS_STREAM, RECORDER_CONSUMER, UNACKNOWLEDGED_MAX);
  // One at a time: replicas of the control plane share it, and sessions begin before they end.
  await ensureConsumer(manager, SESSIONS_STREAM, SESSION_INDEX_CONSUMER, 1);
  return manager;
}

type WantedStream = Partial<StreamConfig> & { readonly name: string };

async function ensureStream(manager: JetStreamManager, owner: boolean, wanted: WantedStream): Promise<void> {
  let present: StreamConfig;
  try {
    present = (await manager.streams.info(wanted.name)).config;
  } catch (error) {
    if (!isApiError(error, JetStreamApiCodes.StreamNotFound)) throw error;
    await manager.streams.add(wanted); // the same from several at once is no error
    return;
  }
  const { max_bytes, num_replicas, subjects } = wanted;
  const same = isDeepStrictEqual(
    [present.max_bytes, present.num_replicas, present.subjects],
    [max_bytes, num_replicas, subjects],
  );
  if (owner && !same) await manager.streams.update(wanted.name, { ...present, ...wanted });
}

async function ensureConsumer(manager: JetStreamManager, stream: string, name: string, unacknowledgedMax: number): Promise<void> {
  try {
    await manager.consumers.info(stream, name);
  } catch (error) {
    if (!isApiError(error, JetStreamApiCodes.ConsumerNotFound)) throw error;
    await manager.consumers.add(stream, {
      durable_name: name,
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      ack_wait: nanos(ACK_WAIT_MS),
      max_ack_pending: unacknowledgedMax,
      max_deliver: -1,
    });
  }
}

export function isApiError(error: unknown, code: number): boolean {
  return error instanceof JetStreamApiError && error.code === code;
}
