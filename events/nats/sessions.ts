/**
 * What the index of sessions is made from, on its way from the recorder to the control plane: beginnings, counts and ends of sessions.
 * Never holds the text of a statement, a value or released bytes. One message at a time and in order, however many replicas of the control
 * plane take them.
 */
import { setTimeout as delay } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { jetstream, type JsMsg } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { type SessionsBatch, SessionsBatchSchema } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { RecordConsumer } from "../bus.ts";
import type { Log } from "../log.ts";
import type { SessionRecord } from "../session-events.ts";
import { encodeRecord } from "../spool/record-codec.ts";
import { packRecords, unpackRecords } from "./batch-codec.ts";
import { type NatsConfig, type NatsLink, openNatsLink } from "./connection.ts";
import type { ReceivedRecords } from "./consume.ts";
import { watchForgotten } from "./forgotten.ts";
import { checkProof, type ProofSigner, type SignedField } from "./proof.ts";
import { ACK_WAIT_MS, ensureStreams, SESSION_INDEX_CONSUMER, SESSIONS_STREAM, sessionsSubject } from "./streams.ts";

export interface ConsumeSessionsOptions {
  readonly config: NatsConfig;
  /** Of this replica, for the server's monitoring. */
  readonly name: string;
  readonly identity: NodeIdentity;
  /** Gets records of one gateway at a time, with `details.source` (whose places say nothing); the same ones possibly again. */
  readonly consumer: RecordConsumer;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Limits;
  readonly log: Log;
}

export interface SessionsConsumption {
  readonly connected: boolean;
  close(): Promise<void>;
}

const CONTEXT = "sluice sessions batch v1";
/** Records in one message: some 300 bytes each before packing, so that it fits wherever a batch of records does. */
const RECORDS_PER_MESSAGE = 2_000;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;
const PUBLISH_TIMEOUT_MS = 3_000;

/** Tells the index about records that the recorder has. Resolves when JetStream has it. */
export async function publishSessions(
  connection: NatsConnection,
  recorder: string,
  received: readonly ReceivedRecords[],
  signer: ProofSigner,
): Promise<void> {
  const client = jetstream(connection, { timeout: PUBLISH_TIMEOUT_MS });
  for (const { source, records } of received) {
    const telling = records.flatMap(briefly);
    for (let at = 0; at < telling.length; at += RECORDS_PER_MESSAGE) {
      const packed = await packRecords(telling.slice(at, at + RECORDS_PER_MESSAGE).map(encodeRecord));
      const { gateway, spoolId, next } = source;
      const runStart = next <= source.runStart ? Math.max(0, source.runStart - 1) : source.runStart; // what an earlier run left is over
      const gateways = [{ gateway, spoolId, runStart: BigInt(runStart), records: packed }];
      const proof = signer.sign(CONTEXT, fieldsOf({ recorder, gateways }));
      await client.publish(
        sessionsSubject(recorder),
        toBinary(SessionsBatchSchema, create(SessionsBatchSchema, { recorder, gateways, ...proof })),
      );
    }
  }
}

/** Begins at once, also while NATS is away, and goes on until closed. */
export async function consumeSessions(options: ConsumeSessionsOptions): Promise<SessionsConsumption> {
  const { config, name, identity, random, log } = options;
  const link = await openNatsLink({ config, name: `sluice control plane ${name}`, identity, random, log });
  const closing = new AbortController();
  const running = run(options, link, closing.signal);
  const stopWatching = watchForgotten({ ...options, link, stream: SESSIONS_STREAM, consumer: SESSION_INDEX_CONSUMER });
  return {
    get connected() {
      return link.current !== null;
    },
    close: async () => {
      closing.abort();
      await running;
      await stopWatching();
      await link.close();
    },
  };
}

async function run(options: ConsumeSessionsOptions, link: NatsLink, signal: AbortSignal): Promise<void> {
  for (let retryMs = RETRY_FIRST_MS; !signal.aborted; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
    try {
      const connection = await link.connected(signal);
      await ensureStreams(connection, options.config, { owner: false });
      const consumer = await jetstream(connection).consumers.get(SESSIONS_STREAM, SESSION_INDEX_CONSUMER);
      const messages = await consumer.consume({ max_messages: 1, abort_on_missing_resource: true });
      const stop = (): void => messages.stop();
      signal.addEventListener("abort", stop);
      if (signal.aborted) stop();
      retryMs = RETRY_FIRST_MS;
      for await (const message of messages) await take(message, options, signal);
      signal.removeEventListener("abort", stop);
    } catch (error) {
      if (signal.aborted) return;
      options.log.warn({ err: error, retryMs }, "What the recorder says of sessions could not be read from NATS; trying again.");
    }
    await delay(retryMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks at the signal
  }
}

async function take(message: JsMsg, options: ConsumeSessionsOptions, signal: AbortSignal): Promise<void> {
  const { consumer, log } = options;
  const batch = await read(message, options);
  if (typeof batch === "string") {
    message.term(); // servers before 2.11 understand no reason, and then not the word
    return log.error({ reason: batch }, "A message about sessions was not accepted.");
  }
  const working = setInterval(() => message.working(), ACK_WAIT_MS / 3);
  try {
    for (let retryMs = RETRY_FIRST_MS; !signal.aborted; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      try {
        for (const { source, records } of batch) await consumer.consume(records, { source });
        await message.ackAck().catch(() => false); // it comes again then, and changes nothing
        return;
      } catch (error) {
        log.warn({ err: error, retryMs }, "The index of sessions could not be brought up to date; trying again.");
        await delay(retryMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks at the signal
      }
    }
    message.nak();
  } finally {
    clearInterval(working);
  }
}

async function read(
  message: JsMsg,
  { identity, limits }: ConsumeSessionsOptions,
): Promise<readonly Pick<ReceivedRecords, "source" | "records">[] | string> {
  let batch: SessionsBatch;
  try {
    batch = fromBinary(SessionsBatchSchema, message.data);
  } catch {
    return "it is no batch of sessions";
  }
  // Before it is fed to the signature: what is no place would end the reading of all messages, again and again.
  if (batch.gateways.some(({ runStart }) => !Number.isSafeInteger(Number(runStart)))) return "a place in it is impossible";
  const expected = { role: "recorder", name: batch.recorder, atMs: message.time.getTime() } as const;
  const refusal = checkProof(identity, expected, CONTEXT, fieldsOf(batch), batch);
  if (refusal !== null) return refusal;
  const read: Pick<ReceivedRecords, "source" | "records">[] = [];
  for (const { gateway, spoolId, runStart, records: packed } of batch.gateways) {
    const unpacked = await unpackRecords(packed, limits.busBatchBytesMax);
    if (typeof unpacked === "string") return unpacked;
    const source = { gateway, spoolId, from: 0, next: 0, kept: 0, runStart: Number(runStart) };
    read.push({ source, records: unpacked.records });
  }
  return read;
}

/** What of a record the index needs; nothing of most. */
function briefly(record: SessionRecord): readonly SessionRecord[] {
  switch (record.kind) {
    case "opened":
    case "closed":
      return [record];
    case "statement": {
      const { number, phase, decision } = record.statement;
      const statement = { number, phase, text: "", parameters: [], decision: { effect: decision["effect"] } };
      return [{ ...record, statement }];
    }
    default:
      return [];
  }
}

function fieldsOf({
  recorder,
  gateways,
}: Pick<SessionsBatch, "recorder"> & { readonly gateways: readonly GatewayFields[] }): SignedField[] {
  return [
    recorder,
    ...gateways.flatMap(({ gateway, spoolId, runStart, records }) => [gateway, spoolId, Number(runStart), records]),
  ];
}

interface GatewayFields {
  readonly gateway: string;
  readonly spoolId: string;
  readonly runStart: bigint;
  readonly records: Uint8Array;
}
