/**
 * Measures the spool beside the disk it stands on: one client's commit against a bare write and fdatasync, grouped commits of many
 * clients, and the throughput of large released chunks. Run: node events/spool/file-spool.measure.ts [directory on the disk in question]
 */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultLimits } from "@sluice/core/limits.ts";
import { releasedRecord, testLog } from "../testing.ts";
import { type FileSpool, openFileSpool } from "./file-spool.ts";

const ROUNDS = 1_000;
const RECORD_BYTES = 500;
const CHUNK_BYTES = 64 * 1024;
const CHUNKS = 4_000;

const directory = mkdtempSync(join(process.argv[2] ?? tmpdir(), "sluice-measure-"));
try {
  report("bare write and fdatasync, 500 bytes", bareCommits(join(directory, "bare")));
  const spool = await openFileSpool({ directory: join(directory, "spool"), limits: defaultLimits, log: testLog() });
  report("spool, one client, one record a commit", await oneClient(spool));
  for (const clients of [8, 32, 256]) {
    const { latenciesMs, elapsedMs } = await manyClients(spool, clients);
    report(`spool, ${clients} clients`, latenciesMs, `${Math.round((latenciesMs.length / elapsedMs) * 1_000)} commits a second`);
  }
  await spool.trim(spool.end);
  const large = await largeChunks(spool);
  console.log(
    `spool, 64 KiB chunks: ${Math.round(large.megabytesPerSecond)} MB/s, ${large.cpuMsPerGigabyte.toFixed(0)} ms CPU per GB`,
  );
  await spool.close();
} finally {
  rmSync(directory, { recursive: true, force: true });
}

function bareCommits(path: string): number[] {
  const file = openSync(path, "w");
  const bytes = Buffer.alloc(RECORD_BYTES, 7);
  const latenciesMs = Array.from({ length: ROUNDS }, (_, round) => {
    const startMs = performance.now();
    writeSync(file, bytes, 0, bytes.length, round * bytes.length);
    fdatasyncSync(file);
    return performance.now() - startMs;
  });
  closeSync(file);
  return latenciesMs;
}

async function oneClient(spool: FileSpool): Promise<number[]> {
  const latenciesMs: number[] = [];
  const bytes = Buffer.alloc(RECORD_BYTES, 7);
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = performance.now();
    spool.append(releasedRecord(1, round, bytes));
    await spool.durable();
    latenciesMs.push(performance.now() - startMs);
  }
  return latenciesMs;
}

async function manyClients(spool: FileSpool, clients: number): Promise<{ latenciesMs: number[]; elapsedMs: number }> {
  const startMs = performance.now();
  const all = await Promise.all(Array.from({ length: clients }, () => oneClient(spool)));
  return { latenciesMs: all.flat(), elapsedMs: performance.now() - startMs };
}

async function largeChunks(spool: FileSpool): Promise<{ megabytesPerSecond: number; cpuMsPerGigabyte: number }> {
  const record = releasedRecord(1, 0, Buffer.alloc(CHUNK_BYTES, 7));
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  for (let at = 0; at < CHUNKS; at++) {
    spool.append(record);
    if (at % 64 === 63) await spool.durable();
  }
  await spool.durable();
  const bytes = CHUNK_BYTES * CHUNKS;
  const used = process.cpuUsage(cpu);
  return {
    megabytesPerSecond: bytes / 1e3 / (performance.now() - startMs),
    cpuMsPerGigabyte: (used.user + used.system) / 1e3 / (bytes / 1e9),
  };
}

function report(what: string, latenciesMs: number[], more = ""): void {
  const sorted = latenciesMs.sort((a, b) => a - b);
  const at = (share: number): string => `${Math.round(sorted[Math.floor(sorted.length * share)]! * 1_000)} µs`;
  console.log(`${what}: p50 ${at(0.5)}, p95 ${at(0.95)}, p99 ${at(0.99)}${more === "" ? "" : `; ${more}`}`);
}
