import { setTimeout as delay } from "node:timers/promises";
import { AckPolicy, jetstream, type JetStreamManager, jetstreamManager, RetentionPolicy } from "@nats-io/jetstream";
import { connect, nanos, type NatsConnection } from "@nats-io/transport-node";
import { systemClock } from "@sluice/core/system.ts";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Nats, startNats } from "../../test/support/nats.ts";
import { testLog } from "../testing.ts";
import { watchForgotten } from "./forgotten.ts";

const STREAM = "THINGS";
const CONSUMER = "reader";

let nats: Nats;
let connection: NatsConnection;
let manager: JetStreamManager;
let stop: () => Promise<void> = async () => {};

beforeEach(async () => {
  nats = await startNats();
  connection = await connect({ servers: nats.url });
  manager = await jetstreamManager(connection);
  // A stream that keeps what was acknowledged looks just as one whose server believes so by mistake.
  await manager.streams.add({ name: STREAM, subjects: ["things.*"], retention: RetentionPolicy.Limits });
  await manager.consumers.add(STREAM, { durable_name: CONSUMER, ack_policy: AckPolicy.Explicit, ack_wait: nanos(60_000) });
});

afterEach(async () => {
  await stop();
  await connection.close();
  await nats.stop();
});

function watch(ageMs: number): ReturnType<typeof testLog> {
  const log = testLog();
  const link = { current: connection, connected: async () => connection, onConnection: () => {}, close: async () => {} };
  stop = watchForgotten({ link, stream: STREAM, consumer: CONSUMER, clock: systemClock, log, lookMs: 20, ageMs });
  return log;
}

async function take(acknowledge: boolean): Promise<string> {
  const message = await (await jetstream(connection).consumers.get(STREAM, CONSUMER)).next({ expires: 2_000 });
  if (acknowledge) await message?.ackAck();
  return message === null ? "" : `${message.subject} ${message.string()}`;
}

test("what the server takes for delivered comes once more, under its subject, in its order", async () => {
  for (const [subject, text] of [
    ["things.a", "one"],
    ["things.b", "two"],
  ] as const)
    await jetstream(connection).publish(subject, text);
  for (let at = 0; at < 2; at++) await take(true);
  watch(0);
  expect([await take(false), await take(false)]).toEqual(["things.a one", "things.b two"]);
});

test("what is young, still to be delivered, or in somebody's hands stays as it is", async () => {
  for (const text of ["held", "waiting"]) await jetstream(connection).publish("things.a", text);
  expect(await take(false)).toBe("things.a held");
  const log = watch(0);
  await delay(200);
  expect(await take(false)).toBe("things.a waiting");
  await delay(200);
  await stop();
  expect((await manager.streams.info(STREAM)).state.last_seq).toBe(2);
  await jetstream(connection).publish("things.a", "young");
  await take(true);
  watch(60_000);
  await delay(200);
  expect((await manager.streams.info(STREAM)).state.last_seq).toBe(3);
  expect(log.sentences).toEqual([]);
});
