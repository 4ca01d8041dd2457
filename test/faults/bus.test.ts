/**
 * Between gateway and NATS and between recorder and NATS: wires that go deaf or are cut. It is noticed within a quarter of a minute,
 * nothing is lost, nothing counts as kept that is not, and everything arrives in order when they are back. A real nats-server.
 */
import { afterEach, beforeEach, expect, it } from "vitest";
import { type Installation, RecorderDisk, startInstallation, upTo } from "../support/bus-installation.ts";
import { type DelayProxy, startDelayProxy } from "../support/delay-proxy.ts";

/** A server that does not answer two pings, one each five seconds, is gone; connecting again takes its time too. */
const NOTICED_MS = 16_000;
/** The server goes on giving records to a recorder's dead connection until its last request ends: half a minute, and the wait for an answer. */
const HEALED_MS = 45_000;

let installation: Installation;
let toGateway: DelayProxy;
let toRecorder: DelayProxy;

beforeEach(async () => {
  installation = await startInstallation();
  const port = Number(new URL(installation.nats.url).port);
  [toGateway, toRecorder] = await Promise.all([startDelayProxy(port), startDelayProxy(port)]);
});
afterEach(async () => {
  await installation.end();
  await toGateway.stop();
  await toRecorder.stop();
});

const through = ({ port }: DelayProxy): Installation["config"] => ({
  ...installation.config,
  servers: [`nats://127.0.0.1:${port}`],
});

it("deaf to both, then to one, then to none; then cut again and again", { timeout: 150_000 }, async () => {
  installation.config = through(toGateway);
  const bus = await installation.openBus();
  installation.ship(bus);
  installation.config = through(toRecorder);
  const disk = new RecorderDisk();
  const recorder = await installation.openRecorder(disk);
  installation.append(5);
  await expect.poll(() => disk.sequences, { timeout: 10_000 }).toEqual(upTo(5));
  await expect.poll(() => installation.spool.start, { timeout: 10_000 }).toBe(installation.spool.end);

  toGateway.deaf = true;
  toRecorder.deaf = true;
  installation.append(5, 5);
  await expect.poll(() => [bus.connected, recorder.connected], { timeout: NOTICED_MS }).toEqual([false, false]);
  expect(disk.sequences).toEqual(upTo(5));

  // What is in the stream and not with the recorder does not count as kept.
  toGateway.deaf = false;
  await expect.poll(() => bus.connected, { timeout: HEALED_MS }).toBe(true);
  expect(disk.sequences).toEqual(upTo(5));
  expect(installation.spool.start).toBeLessThan(installation.spool.end);

  toRecorder.deaf = false;
  await expect.poll(() => disk.sequences, { timeout: HEALED_MS }).toEqual(upTo(10));
  for (const [round, proxy] of [toGateway, toRecorder, toGateway, toRecorder].entries()) {
    proxy.cut(true);
    installation.append(5, 10 + round * 5);
    await expect.poll(() => bus.connected && recorder.connected, { timeout: 5_000 }).toBe(false);
    proxy.cut(false);
    await expect.poll(() => disk.sequences, { timeout: HEALED_MS }).toEqual(upTo(15 + round * 5));
  }
  await expect.poll(() => installation.spool.start, { timeout: HEALED_MS }).toBe(installation.spool.end);
});
