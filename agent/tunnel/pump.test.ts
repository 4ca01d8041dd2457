/** Over real sockets: every byte in order both ways, nothing kept back, nothing held without bound, nothing left behind. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { pump } from "./pump.ts";

/** Two connected sockets; the first is the pump's. */
type Pair = readonly [near: Socket, far: Socket];

const opened: Socket[] = [];

async function pair(): Promise<Pair> {
  const server = createServer({ noDelay: true });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  const near = connect({ port: address.port, host: "127.0.0.1", noDelay: true });
  const [far] = (await once(server, "connection")) as [Socket]; // by the event's documentation
  await once(near, "connect");
  server.close();
  near.pause();
  for (const socket of [near, far]) socket.on("error", () => undefined);
  opened.push(near, far);
  return [near, far];
}

/** Collects what arrives until there is as much. */
async function received(socket: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= bytes) resolve();
  });
  socket.resume();
  await promise;
  socket.removeAllListeners("data");
  return Buffer.concat(chunks);
}

/** No two places alike, so that anything lost or out of order shows. */
function numbered(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) buffer.writeUInt32LE(at, at);
  return buffer;
}

describe("between a gateway and a target", () => {
  afterEach(() => {
    for (const socket of opened.splice(0)) socket.destroy();
  });

  it.each([
    ["short answers", [1, 100, 8_192, 5]],
    ["a long answer in full pieces that ends with a short one", [...Array<number>(200).fill(8_192), 77]],
    ["a long answer that ends with a full piece", Array<number>(64).fill(8_192)],
    ["a long answer in pieces of all sizes", Array.from({ length: 300 }, (_, n) => 1 + ((n * 7_919) % 40_000))],
  ])("moves %s whole and in order, and keeps nothing back", async (_, sizes) => {
    const [gateway, caller] = await pair();
    const [target, database] = await pair();
    const ended = pump(gateway, target);
    const bytes = numbered(sizes.reduce((sum, size) => sum + size, 0));
    const arriving = received(caller, bytes.length);
    let at = 0;
    for (const size of sizes) {
      if (!database.write(bytes.subarray(at, at + size))) await once(database, "drain");
      at += size;
    }
    expect((await arriving).equals(bytes)).toBe(true);
    // Questions and answers go on after it.
    const question = received(database, 5);
    caller.write("again");
    expect((await question).toString()).toBe("again");
    const answer = received(caller, 3);
    database.write("yes");
    expect((await answer).toString()).toBe("yes");
    caller.end();
    expect(await ended).toBe("gatewayEnded");
    expect(gateway.writableCorked).toBe(0);
  });

  it("has sent everything on when the target ends in the middle of a long answer", async () => {
    const [gateway, caller] = await pair();
    const [target, database] = await pair();
    const ended = pump(gateway, target);
    const bytes = numbered(80 * 8_192);
    const arriving = received(caller, bytes.length);
    database.end(bytes);
    expect(await ended).toBe("targetEnded");
    expect((await arriving).equals(bytes)).toBe(true);
  });

  it("reads the target no faster than the gateway takes", async () => {
    const [gateway, caller] = await pair();
    const [target, database] = await pair();
    void pump(gateway, target);
    const bytes = numbered(64 * 1024 * 1024);
    database.write(bytes);
    caller.pause();
    await expect.poll(() => target.isPaused(), { timeout: 5_000 }).toBe(true);
    await delay(50); // more would come now, if it were read
    expect(gateway.writableLength).toBeLessThan(512 * 1024);
    expect((await received(caller, bytes.length)).equals(bytes)).toBe(true);
  });

  it("leaves no listener and nothing corked behind", async () => {
    const [gateway, caller] = await pair();
    const [target, database] = await pair();
    const before = [gateway, target].map((socket) => socket.eventNames().map((name) => [name, socket.listenerCount(name)]));
    const ended = pump(gateway, target);
    const arriving = received(caller, 300 * 1024);
    database.write(numbered(300 * 1024));
    await arriving;
    caller.end();
    expect(await ended).toBe("gatewayEnded");
    const after = [gateway, target].map((socket) => socket.eventNames().map((name) => [name, socket.listenerCount(name)]));
    expect(after).toEqual(before);
    expect([gateway.writableCorked, target.writableCorked]).toEqual([0, 0]);
    expect(target.isPaused()).toBe(true);
  });

  it("says at once when a side was gone before it began", async () => {
    const [gateway] = await pair();
    const [target] = await pair();
    target.destroy();
    expect(await pump(gateway, target)).toBe("targetBroke");
    gateway.destroy();
    expect(await pump(gateway, target)).toBe("gatewayBroke");
  });
});
