import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { LentReads } from "./lent-reads.ts";
import { nextChunk } from "./next-chunk.ts";

const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function pair(): Promise<{ socket: Socket; reads: LentReads; server: Socket }> {
  const listening = createServer();
  listening.listen(0, "127.0.0.1");
  await once(listening, "listening");
  const accepted = once(listening, "connection");
  const reads = new LentReads();
  const { port } = listening.address() as { port: number }; // it listens on TCP
  const socket = connect({ host: "127.0.0.1", port, noDelay: true, onread: reads.option });
  reads.attach(socket);
  const [server] = (await accepted) as [Socket];
  stops.push(() => {
    listening.close();
    socket.destroy();
    server.destroy();
  });
  return { socket, reads, server };
}

const signal = AbortSignal.timeout(10_000);

test("bytes go to listeners, then to the borrower, then to listeners again; none is lost or out of order", async () => {
  const { socket, reads, server } = await pair();
  socket.pause();
  server.write("login ");
  let received = (await nextChunk(socket, signal)).toString();
  socket.unshift(Buffer.from("rest "));
  const lent: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => (received += chunk.toString()));
  const borrowed = Promise.withResolvers<void>();
  reads.lendTo((bytes) => {
    lent.push(bytes);
    received += bytes.toString();
    if (received.endsWith("two ")) borrowed.resolve();
  });
  socket.resume();
  server.write("one ");
  setImmediate(() => server.write("two "));
  await borrowed.promise;
  expect(lent.length).toBeGreaterThan(0);
  expect(new Set(lent.map(({ buffer }) => buffer)).size).toBe(1);
  reads.lendTo(null);
  server.write("last");
  while (!received.endsWith("last")) await once(socket, "data", { signal });
  expect(received).toBe("login rest one two last");
});

test("what is large comes whole, while the borrower stops and goes on", async () => {
  const { socket, reads, server } = await pair();
  const sent = Buffer.alloc(5_000_000, "0123456789abcdefghijklmnopqrstuvwxyz");
  const copies: Buffer[] = [];
  let bytesTaken = 0;
  const ended = once(socket, "end", { signal });
  reads.lendTo((bytes) => {
    copies.push(Buffer.from(bytes));
    bytesTaken += bytes.length;
    bytes.fill(0xee);
    if (copies.length % 3 !== 0) return;
    socket.pause();
    const before = bytesTaken;
    setImmediate(() => {
      expect(bytesTaken).toBe(before);
      socket.resume();
    });
  });
  socket.resume();
  server.end(sent);
  await ended;
  expect(Buffer.concat(copies).equals(sent)).toBe(true);
});

test("a paused listener holds back the other side", async () => {
  const { socket, server } = await pair();
  socket.pause();
  server.write(Buffer.alloc(50_000_000));
  await nextChunk(socket, signal);
  await new Promise((resolve) => setImmediate(resolve));
  expect(socket.readableLength).toBeLessThan(1_000_000);
  expect(server.writableLength).toBeGreaterThan(1_000_000);
});
