/** Backup and restore between real databases: everything comes back, what is cut or edited does not, and nothing goes back in time. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { Readable, Writable } from "node:stream";
import { promisify } from "node:util";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Authority, openAuthority } from "../ca/authority.ts";
import { createEnrolment } from "../enrolment/enrolment.ts";
import { localEncryption } from "../keys/key-encryption.ts";
import { backupStore, restoreStore, settleRestored } from "./backup.ts";
import { type Changes, listenForChanges } from "./changes.ts";
import { packagedBinaries } from "./embedded-postgres.ts";
import { migrationSteps } from "./migrations.ts";
import type { Store } from "./store.ts";
import { startTestCluster, type TestCluster } from "./testing.ts";

const run = promisify(execFile);
const log = pino({ level: "silent" });
const keys = localEncryption(systemRandom.bytes(32), "a test's key", systemRandom);
const open: (Authority | Changes)[] = [];
let cluster: TestCluster;
let store: Store;
let saved: Buffer;
let authority: Authority;

async function openOn(on: Store): Promise<Authority> {
  const changes = await listenForChanges({ connection: on.connection, random: systemRandom, log });
  const opened = await openAuthority({
    db: on.db,
    keys,
    changes,
    clock: systemClock,
    random: systemRandom,
    limits: defaultLimits,
    log,
    importFrom: null,
  });
  open.push(opened, changes);
  return opened;
}

async function fill(): Promise<void> {
  authority = await openOn(store);
  await authority.issueSigner();
  const { joinTokens } = createEnrolment({
    db: store.db,
    authority,
    clock: systemClock,
    random: systemRandom,
    limits: defaultLimits,
    log,
    workloads: [],
  });
  await joinTokens.create({ role: "agent", name: null, labels: { a: "b" }, hosts: [], ttlMs: 60_000, author: "ada" });
  for (const version of ["one", "two"]) {
    await store.db
      .insertInto("snapshots")
      .values({ version, content: JSON.stringify({ version, odd: 'a\u2028b\u2029c\r\n\t"\\ü😀' }), created_at: new Date() })
      .execute();
  }
  await sql`insert into manifest_documents (kind, name, change, origin, author, applied_at, content, source_path, source_line)
    select 'Policy', 'p' || n, 'created', 'apply', 'ada', clock_timestamp(), repeat('line ' || n || chr(10), 10), 'p.yaml', n
    from generate_series(1, 1234) n`.execute(store.db);
  await sql`insert into nodes (role, name, labels, hosts, slot, capability, enrolled_at, enrolled_with, connected_to, snapshot_sequence)
    values ('gateway', 'gw', '{"a": "b"}', '[]', 7, 2, now(), 'test', 'replica', 9007199254740993)`.execute(store.db);
}

async function backup(from: Store): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const out = new Writable({
    highWaterMark: 1_000, // so that it must wait
    write: (chunk: Buffer, _encoding, done) => {
      chunks.push(chunk);
      setImmediate(done);
    },
  });
  await backupStore(from.db, out);
  return Buffer.concat(chunks);
}

/** In pieces of odd sizes. */
function asStream(bytes: Buffer): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += 7_777) yield bytes.subarray(at, at + 7_777);
    })(),
  );
}

async function dump(from: Store, table: string): Promise<unknown> {
  const { rows } = await sql`select row_to_json(t)::text as line from ${sql.table(table)} t order by 1`.execute(from.db);
  return rows;
}

beforeAll(async () => {
  cluster = await startTestCluster();
  store = await cluster.open();
  await fill();
  saved = await backup(store);
}, 60_000);

afterAll(async () => {
  await Promise.all(open.map((one) => one.close()));
  await cluster.close();
});

it("comes back whole, keys included, and the authority goes on", async () => {
  const other = await cluster.open();
  const summary = await restoreStore(other.db, asStream(saved));
  expect(summary).toMatchObject({ schema: migrationSteps.at(-1)?.[0], installation: expect.stringMatching(/^[0-9a-f]{32}$/) });
  for (const table of ["settings", "manifest_documents", "authorities", "signers", "certificates", "commands"]) {
    expect(await dump(other, table)).toEqual(await dump(store, table));
  }
  const node = await other.db.selectFrom("nodes").selectAll().executeTakeFirstOrThrow();
  expect(node).toMatchObject({ slot: 7, connected_to: null, snapshot_sequence: "9007199254740993", labels: { a: "b" } });
  expect((await openOn(other)).caPem()).toBe(authority.caPem());
});

it("puts the newest snapshot into force above every number that nodes may have seen, and used or open tokens are good no more", async () => {
  const other = await cluster.open();
  await restoreStore(other.db, asStream(saved));
  const newest = await other.db.selectFrom("snapshots").selectAll().orderBy("id", "desc").limit(1).executeTakeFirstOrThrow();
  expect(newest).toMatchObject({ version: "two", id: "1000003", content: { odd: 'a\u2028b\u2029c\r\n\t"\\ü😀' } });
  const [token] = await other.db.selectFrom("join_tokens").select("revoked_at").execute();
  expect(token?.revoked_at).toBeInstanceOf(Date);
  const revision = await other.db
    .insertInto("manifest_documents")
    .values({
      kind: "Policy",
      name: "after",
      change: "created",
      origin: "apply",
      author: "ada",
      applied_at: new Date(),
      content: "",
      source_path: "",
      source_line: 1,
    })
    .returning("revision")
    .executeTakeFirstOrThrow();
  expect(Number(revision.revision)).toBeGreaterThan(1_234);
});

it("is not restored when it is cut anywhere or changed anywhere, and the store stays empty and usable", async () => {
  const other = await cluster.open();
  const text = saved.toString("utf8");
  const lines = text.trimEnd().split("\n");
  const flipped = Buffer.from(saved);
  const middle = saved.indexOf("line 600");
  flipped[middle + 5] = 0x39;
  const broken: readonly Buffer[] = [
    Buffer.alloc(0),
    Buffer.from("{}\n"),
    saved.subarray(0, 10),
    saved.subarray(0, saved.length / 2),
    Buffer.from(`${lines.slice(0, -1).join("\n")}\n`),
    saved.subarray(0, saved.length - 1),
    Buffer.from(`${lines.slice(0, -2).join("\n")}\n${lines.at(-1)}\n`),
    Buffer.concat([saved, Buffer.from("\n")]),
    Buffer.from(text.replace('"author":"ada"', '"author":"eve"')),
    Buffer.from(text.replace('{"table":"nodes"', '{"table":"pg_authid"')),
    flipped,
  ];
  for (const bytes of broken) {
    await expect(restoreStore(other.db, asStream(bytes))).rejects.toMatchObject({ code: "config_invalid" });
    expect(await dump(other, "manifest_documents")).toEqual([]);
    expect(await dump(other, "authorities")).toEqual([]);
  }
  await restoreStore(other.db, asStream(saved));
  expect(await dump(other, "manifest_documents")).toEqual(await dump(store, "manifest_documents"));
});

it("to a disk that is full is an error, not a short file", async () => {
  const full = new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error("full"), { code: "ENOSPC" })) });
  const failed = new Promise((_resolve, reject) => full.once("error", reject));
  await expect(Promise.race([backupStore(store.db, full), failed])).rejects.toMatchObject({ code: "ENOSPC" });
  expect(await store.ready()).toBe(true);
});

it("is not restored over anything, nor from a newer version", async () => {
  await expect(restoreStore(store.db, asStream(saved))).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("not empty"),
  });
  const newer = Buffer.from(saved.toString("utf8").replace(/"schema":"[^"]+"/, '"schema":"9999_from_the_future"'));
  await expect(restoreStore((await cluster.open()).db, asStream(newer))).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("9999_from_the_future"),
  });
});

it("of an older schema is restored and brought up to date", async () => {
  const lines = [
    JSON.stringify({
      format: "sluice store backup 1",
      schema: migrationSteps[0]?.[0],
      installation: "",
      madeAt: new Date(0).toISOString(),
    }),
    JSON.stringify({ table: "snapshots", columns: ["id", "version", "content", "created_at"] }),
    JSON.stringify({ id: 41, version: "old", content: { a: 1 }, created_at: "2026-01-01T00:00:00Z" }),
  ];
  const body = `${lines.join("\n")}\n`;
  const sha256 = createHash("sha256").update(body).digest("hex");
  const other = await cluster.open();
  await restoreStore(other.db, asStream(Buffer.from(`${body}${JSON.stringify({ rows: 1, sha256 })}\n`)));
  const rows = await other.db
    .selectFrom("snapshots")
    .select(["id", "version", "author", "capability_min"])
    .orderBy("id")
    .execute();
  expect(rows).toEqual([
    { id: "41", version: "old", author: "", capability_min: 1 },
    { id: "1000042", version: "old", author: "restore", capability_min: 1 },
  ]);
  expect((await openOn(other)).trust().authorities.length).toBe(1);
});

it("of a server of one's own may as well be pg_dump's", async () => {
  const server = await startTestCluster(packagedBinaries("@embedded-postgres-15/linux-x64"));
  try {
    const source = await server.freshDatabase();
    const first = await server.open(source);
    const made = await openOn(first);
    const { stdout } = await run("pg_dump", ["--no-owner", source], { maxBuffer: 64 * 1024 * 1024 });
    const target = await server.freshDatabase();
    const loading = run("psql", ["-q", "-v", "ON_ERROR_STOP=1", target]);
    loading.child.stdin?.end(stdout);
    await loading;
    const second = await server.open(target);
    expect((await openOn(second)).caPem()).toBe(made.caPem());
    await second.db.insertInto("snapshots").values({ version: "v", content: "{}", created_at: new Date() }).execute();
    await settleRestored(second.db);
    const ids = await second.db.selectFrom("snapshots").select("id").orderBy("id").execute();
    expect(ids).toEqual([{ id: "1" }, { id: "1000002" }]);
    await Promise.all(open.splice(-4).map((one) => one.close()));
  } finally {
    await server.close();
  }
});
