/** What waits for a slow node stays bounded and in order, and a node that takes nothing is found out. */
import { expect, it } from "vitest";
import { GatewayError } from "@sluice/core/errors.ts";
import { type Instruction, Outbox } from "./outbox.ts";

let monotonicMs = 0;
const clock = { nowMs: () => 0, monotonicMs: () => monotonicMs };
const heartbeat = (sequence: bigint) => ({ case: "heartbeat" as const, value: { snapshotSequence: sequence, nowMs: 0n } });
const snapshot = (byte: number) => ({ case: "snapshot" as const, value: { content: Uint8Array.of(byte) } });
const dial = (gateway: string): Instruction => ({ case: "dialGateway", value: { gateway } });

async function takeAll(outbox: Outbox): Promise<readonly Instruction[]> {
  const taken: Instruction[] = [];
  const all = outbox.instructions();
  const reading = (async (): Promise<void> => {
    for await (const instruction of all) taken.push(instruction);
  })();
  await new Promise((resolve) => setImmediate(resolve));
  outbox.end(null);
  await reading;
  return taken;
}

it("keeps commands in order and of everything else the latest, trust before what is verified with it", async () => {
  const outbox = new Outbox(clock);
  outbox.latest(heartbeat(1n));
  outbox.latest(snapshot(1));
  outbox.latest(snapshot(2));
  outbox.latest(heartbeat(2n));
  outbox.latest({ case: "trust", value: {} });
  outbox.command(dial("a"));
  outbox.command(dial("b"));
  expect(await takeAll(outbox)).toEqual([dial("a"), dial("b"), { case: "trust", value: {} }, snapshot(2), heartbeat(2n)]);
});

it("gives what comes later to a reader that waits, and tells it why it ended", async () => {
  const outbox = new Outbox(clock);
  const all = outbox.instructions();
  const first = all.next();
  outbox.command(dial("a"));
  expect(await first).toEqual({ done: false, value: dial("a") });
  const second = all.next();
  outbox.end(new GatewayError("unauthorized", "no more"));
  outbox.end(null);
  await expect(second).rejects.toMatchObject({ code: "unauthorized" });
});

it("knows for how long nothing was taken, and refuses commands beyond its bound", async () => {
  const outbox = new Outbox(clock);
  expect(outbox.stuckForMs()).toBe(0);
  outbox.latest(heartbeat(1n));
  monotonicMs += 5_000;
  outbox.latest(heartbeat(2n));
  expect(outbox.stuckForMs()).toBe(5_000);
  const all = outbox.instructions();
  expect(await all.next()).toEqual({ done: false, value: heartbeat(2n) });
  expect(outbox.stuckForMs()).toBe(0);
  let taken = 0;
  while (outbox.command(dial("x")) && taken < 100_000) taken++;
  expect(taken).toBeLessThan(10_000);
});
