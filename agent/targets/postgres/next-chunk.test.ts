/** Reading chunk by chunk loses nothing, however much the socket already holds. */
import { once } from "node:events";
import { createServer, connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { nextChunk } from "./next-chunk.ts";

const open: { destroy(): void }[] = [];
const never = new AbortController().signal;
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

async function pair(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const near = connect(address.port, "127.0.0.1");
  const [far] = (await once(server, "connection")) as [Socket];
  server.close();
  near.pause();
  open.push(near, far);
  return { near, far };
}

describe("nextChunk", () => {
  test("several chunks that came while the socket was paused come one by one, then the rest to its next holder", async () => {
    const { near, far } = await pair();
    near.on("error", () => {});
    const words = ["one,", "two,", "three,", "four,", "five"];
    // A paused socket that somebody read from once goes on filling its buffer.
    far.write("zero,");
    expect((await nextChunk(near, never)).toString()).toBe("zero,");
    for (const word of words) {
      far.write(word);
      await delay(5);
    }
    let got = "";
    while (got.length < "one,two,".length) got += (await nextChunk(near, never)).toString();
    expect(near.isPaused()).toBe(true);
    near.on("data", (chunk: Buffer) => void (got += chunk.toString()));
    near.resume();
    await delay(20);
    expect(got).toBe(words.join(""));
  });

  test("leaves no listener behind, whatever happens", async () => {
    const { near, far } = await pair();
    near.on("error", () => {});
    const before = near.eventNames().map((name) => [name, near.listenerCount(name)]);
    const gone = new AbortController();
    const waiting = nextChunk(near, gone.signal);
    gone.abort(new Error("given up"));
    await expect(waiting).rejects.toThrow("given up");
    await expect(nextChunk(near, gone.signal)).rejects.toThrow("given up");
    far.write("x");
    await nextChunk(near, never);
    expect(near.eventNames().map((name) => [name, near.listenerCount(name)])).toEqual(before);
    far.end();
    await expect(nextChunk(near, never)).rejects.toMatchObject({ code: "target_unreachable" });
    await expect(nextChunk(near, never)).rejects.toMatchObject({ code: "target_unreachable" });
  });
});
