/**
 * `node agent/targets/postgres/lent-reads.measure.ts`: what it costs to read a bulk result and to hold it for a while, with memory that
 * is the collector's or is used again. Prints CPU and full collections. Judges nothing.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { PerformanceObserver } from "node:perf_hooks";
import { type Slab, Slabs } from "@sluice/core/slabs.ts";
import { LentReads } from "./lent-reads.ts";

const READ_BYTES = 1_500_000_000;
const HELD_BYTES = 4 * 1024 * 1024;
/** PostgreSQL sends so much at a time. */
const PIECE_BYTES = 8 * 1024;
const RESULT_BYTES = 37_000_000;
const way = process.argv[2];

if (way === "source") source();
else if (way === undefined) {
  for (const one of ["own buffers", "fresh slabs", "slabs used again"]) {
    const child = fork(import.meta.filename, [one]);
    await once(child, "exit");
  }
} else await measure(way);

function source(): void {
  const piece = Buffer.alloc(PIECE_BYTES, 7);
  const server = createServer((socket) => {
    const fill = (): void => {
      while (socket.write(piece));
    };
    socket.on("drain", fill).on("error", () => server.close());
    fill();
  }).listen(0, "127.0.0.1", () => process.send?.((server.address() as { port: number }).port)); // it listens on TCP
}

async function measure(how: string): Promise<void> {
  const child = fork(import.meta.filename, ["source"]);
  const [port] = (await once(child, "message")) as [number];
  const heap = Array.from({ length: 400_000 }, (_, at) => ({ at, text: { of: `${at}` } })); // as much as a gateway has
  let collections = 0;
  const observer = new PerformanceObserver((list) => {
    // Node's types leave out what kind of collection it was.
    for (const entry of list.getEntries()) if ((entry as { detail?: { kind?: number } }).detail?.kind === 4) collections += 1;
  });
  observer.observe({ entryTypes: ["gc"] });
  const held: { readonly bytes: Buffer; readonly slab?: Slab }[] = [];
  let heldBytes = 0;
  let readBytes = 0;
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const hold = (bytes: Buffer, slab?: Slab): void => {
    held.push(slab === undefined ? { bytes } : { bytes, slab });
    readBytes += bytes.length;
    for (heldBytes += bytes.length; heldBytes > HELD_BYTES; ) {
      const first = held.shift()!; // what is held has bytes
      heldBytes -= first.bytes.length;
      first.slab?.letGo();
    }
    if (readBytes >= READ_BYTES) resolve();
  };
  const slabs = new Slabs({ slabBytes: 512 * 1024, keptBytesMax: how === "fresh slabs" ? 0 : 2 * HELD_BYTES });
  const reads = new LentReads();
  const own = how === "own buffers";
  const began = process.cpuUsage();
  const socket = connect({ port, host: "127.0.0.1", ...(own ? {} : { onread: reads.option }) });
  reads.attach(socket);
  if (own) socket.on("data", (bytes: Buffer) => hold(bytes));
  else {
    reads.lendTo((bytes) => {
      const { slab, start } = slabs.room(bytes.length);
      bytes.copy(slab.memory, start);
      hold(slab.memory.subarray(start, start + bytes.length), slab);
    });
  }
  socket.resume();
  await done;
  const { user, system } = process.cpuUsage(began);
  const ms = (user + system) / 1_000 / (readBytes / RESULT_BYTES);
  console.log(
    `${how}: ${ms.toFixed(1)} ms CPU for 37 MB, ${collections} full collections in ${READ_BYTES / 1e9} GB (${heap.length} objects)`,
  );
  observer.disconnect();
  socket.destroy();
  child.kill();
}
