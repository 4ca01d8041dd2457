/**
 * Writes the whole store as JSON lines from one consistent moment, and reads it back into an empty store, all or nothing. First line:
 * what it is; then a line for each table and each row; last: a SHA-256 of everything before, so that a cut or damaged file is
 * found (it does not guard against somebody who edits and counts again: keep backups where only you may write). Private keys stay
 * encrypted as they are in the store: who restores needs the same encryption key.
 *
 * After a restore nodes must not take an older snapshot for a newer one and used tokens must not be good again, so the newest
 * snapshot comes into force again under a number far above, and open join tokens are revoked.
 */
import { createHash, type Hash } from "node:crypto";
import type { Readable, Writable } from "node:stream";
import { GatewayError } from "@sluice/core/errors.ts";
import { type Kysely, sql, type Transaction } from "kysely";
import { storeLocks } from "./locks.ts";
import { migrationSteps } from "./migrations.ts";
import type { Tables } from "./tables.ts";

export interface BackupSummary {
  readonly schema: string;
  readonly installation: string;
  /** RFC 3339. */
  readonly madeAt: string;
  readonly rows: number;
}

/** In the order in which they can be filled. Leases belong to processes that run, so they stay behind. */
const tables: readonly (keyof Tables)[] = [
  "settings",
  "manifest_documents",
  "snapshots",
  "disabled_principals",
  "authorities",
  "signers",
  "certificates",
  "join_tokens",
  "nodes",
  "sessions",
  "commands",
  "column_bindings",
];
const FORMAT = "sluice store backup 1";
/** Rows fetched and inserted at a time. */
const BATCH = 500;
/** One row. The largest are snapshots: ten thousand rules are some megabytes. */
const LINE_BYTES_MAX = 512 * 1024 * 1024;
const LINE_FEED = 0x0a;
/** How far the numbers of snapshots go ahead: more than an installation publishes between a backup and its restore. */
const SEQUENCE_LEAP = 1_000_000;

/** Writes everything, then waits until `out` has taken it; does not end it. */
export async function backupStore(db: Kysely<Tables>, out: Writable): Promise<BackupSummary> {
  return await db
    .transaction()
    .setIsolationLevel("repeatable read")
    .setAccessMode("read only")
    .execute(async (transaction) => {
      await sql`set local statement_timeout = 0`.execute(transaction);
      await sql`set local timezone = 'UTC'`.execute(transaction);
      const writer = new LineWriter(out);
      const head = {
        format: FORMAT,
        schema: newestStep(),
        installation: await installationOf(transaction),
        madeAt: await timeOf(transaction),
      };
      await writer.line(JSON.stringify(head));
      let rows = 0;
      for (const table of tables) rows += await writeTable(transaction, table, writer);
      await writer.last(JSON.stringify({ rows, sha256: writer.digest() }));
      return { schema: head.schema, installation: head.installation, madeAt: head.madeAt, rows };
    });
}

/**
 * Rejects with `config_invalid`, and changes nothing, when the store is not empty, the backup is cut, was changed, or comes from a
 * newer version. Run it while no control plane uses the store.
 */
export async function restoreStore(db: Kysely<Tables>, input: Readable): Promise<BackupSummary> {
  return await db.transaction().execute(async (transaction) => {
    await sql`set local statement_timeout = 0`.execute(transaction);
    for (const lock of [storeLocks.migration, storeLocks.apply, storeLocks.authorities]) {
      await sql`select pg_advisory_xact_lock(${sql.lit(lock)})`.execute(transaction);
    }
    await requireEmpty(transaction);
    const reader = new LineReader(input);
    const head = readHead(await reader.next());
    await rebuild(transaction, head.schema);
    const rows = await readRows(transaction, reader);
    await migrateFrom(transaction, head.schema);
    await afterRestore(transaction);
    return { ...head, rows };
  });
}

/** After a restore by other means (pg_dump, a copy of the disk): what `restoreStore` does at its end. Run it once, before control planes start. */
export async function settleRestored(db: Kysely<Tables>): Promise<void> {
  await db.transaction().execute(afterRestore);
}

async function writeTable(transaction: Transaction<Tables>, table: keyof Tables, writer: LineWriter): Promise<number> {
  await writer.line(JSON.stringify({ table, columns: await columnsOf(transaction, table) }));
  await sql`declare backup_rows no scroll cursor for select row_to_json(t)::text as line from ${sql.table(table)} t`.execute(
    transaction,
  );
  let rows = 0;
  for (;;) {
    const batch = await sql<{ line: string }>`fetch ${sql.lit(BATCH)} from backup_rows`.execute(transaction);
    for (const { line } of batch.rows) await writer.line(line);
    rows += batch.rows.length;
    if (batch.rows.length < BATCH) break;
  }
  await sql`close backup_rows`.execute(transaction);
  return rows;
}

/** The steps up to the backup's, in tables that are made anew: its rows fit them exactly. The store is empty, so nothing is lost. */
async function rebuild(transaction: Transaction<Tables>, schema: string): Promise<void> {
  for (const table of [...tables, "leases" as const]) await sql`drop table ${sql.table(table)} cascade`.execute(transaction);
  for (const [name, step] of migrationSteps) if (name <= schema) await step.up(transaction);
}

async function migrateFrom(transaction: Transaction<Tables>, schema: string): Promise<void> {
  for (const [name, step] of migrationSteps) if (name > schema) await step.up(transaction);
}

/** Rows go to the database as they stand in the file: it reads them, so that nothing is rounded on the way. */
async function readRows(transaction: Transaction<Tables>, reader: LineReader): Promise<number> {
  let rows = 0;
  let into: TableHead | null = null;
  let batch: string[] = [];
  const flush = async (): Promise<void> => {
    if (into !== null && batch.length > 0) await insertRows(transaction, into, batch);
    batch = [];
  };
  for (;;) {
    const before = reader.digest();
    const line = await reader.next();
    if (line.startsWith('{"table":')) {
      await flush();
      into = readTableHead(line);
    } else if (line.startsWith('{"rows":')) {
      await flush();
      const tail = parseObject(line);
      if (tail["sha256"] !== before || tail["rows"] !== rows || (await reader.hasMore())) throw damaged();
      return rows;
    } else {
      if (into === null) throw damaged();
      batch.push(line);
      rows += 1;
      if (batch.length >= BATCH) await flush();
    }
  }
}

interface TableHead {
  readonly table: keyof Tables;
  readonly columns: readonly string[];
}

async function insertRows(
  transaction: Transaction<Tables>,
  { table, columns }: TableHead,
  lines: readonly string[],
): Promise<void> {
  const names = sql.join(columns.map((column) => sql.ref(column)));
  const override = (await hasIdentity(transaction, table)) ? sql`overriding system value` : sql``;
  await sql`insert into ${sql.table(table)} (${names}) ${override}
    select ${names} from json_populate_recordset(null::${sql.table(table)}, ${`[${lines.join(",")}]`}::json)`
    .execute(transaction)
    .catch((error: unknown) => {
      throw damaged(error);
    });
}

async function hasIdentity(transaction: Transaction<Tables>, table: string): Promise<boolean> {
  const found = await sql`select 1 from pg_attribute where attrelid = ${table}::regclass and attidentity <> ''`.execute(
    transaction,
  );
  return found.rows.length > 0;
}

async function afterRestore(transaction: Transaction<Tables>): Promise<void> {
  for (const [table, column] of [
    ["manifest_documents", "revision"],
    ["snapshots", "id"],
    ["disabled_principals", "id"],
  ] as const) {
    const leap = table === "snapshots" ? SEQUENCE_LEAP : 0;
    await sql`select setval(pg_get_serial_sequence(${table}, ${column}),
      greatest((select max(${sql.ref(column)}) from ${sql.table(table)}), 1) + ${sql.lit(leap)},
      exists (select from ${sql.table(table)}))`.execute(transaction);
  }
  await sql`insert into snapshots (version, content, created_at, author, capability_min)
    select version, content, clock_timestamp(), 'restore', capability_min from snapshots order by id desc limit 1`.execute(
    transaction,
  );
  await sql`update join_tokens set revoked_at = clock_timestamp() where used_at is null and revoked_at is null`.execute(
    transaction,
  );
  await sql`update nodes set connected_to = null`.execute(transaction);
}

async function requireEmpty(transaction: Transaction<Tables>): Promise<void> {
  for (const table of tables) {
    await sql`lock table ${sql.table(table)} in access exclusive mode`.execute(transaction);
    const { rows } = await sql`select 1 from ${sql.table(table)} limit 1`.execute(transaction);
    if (rows.length === 0) continue;
    throw new GatewayError("config_invalid", `The store is not empty (${table}), so nothing is restored into it.`, {
      hint: "Restore into a new database, or a new data directory, before the first control plane starts on it.",
    });
  }
}

function readHead(line: string): Omit<BackupSummary, "rows"> {
  const { format, schema, installation, madeAt } = parseObject(line);
  if (format !== FORMAT || typeof schema !== "string" || typeof installation !== "string" || typeof madeAt !== "string") {
    throw new GatewayError(
      "config_invalid",
      "This is not a backup of Sluice's store, or one of a version that is not known here.",
    );
  }
  if (!migrationSteps.some(([name]) => name === schema)) {
    throw new GatewayError("config_invalid", `The backup has the schema ${schema}, which this version does not know.`, {
      hint: "Restore it with the version that made it, or a newer one.",
    });
  }
  return { schema, installation, madeAt };
}

function readTableHead(line: string): TableHead {
  const { table, columns } = parseObject(line);
  const known = tables.find((one) => one === table);
  const named = Array.isArray(columns) && columns.length > 0 && columns.every((column) => /^[a-z_0-9]+$/.test(String(column)));
  if (known === undefined || !named) throw damaged();
  return { table: known, columns: columns.map(String) };
}

function parseObject(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Readonly<Record<string, unknown>>; // an object, checked beside
  } catch {
    // not JSON: damaged
  }
  throw damaged();
}

function damaged(cause?: unknown): GatewayError {
  return new GatewayError("config_invalid", "The backup is cut or was changed. Nothing was restored.", {
    hint: "Use another backup. A whole one ends with a line that holds a SHA-256 of everything before.",
    cause,
  });
}

function newestStep(): string {
  const last = migrationSteps.at(-1);
  if (last === undefined) throw new Error("there are no steps");
  return last[0];
}

async function columnsOf(transaction: Transaction<Tables>, table: string): Promise<readonly string[]> {
  const { rows } = await sql<{ name: string }>`select attname as name from pg_attribute
    where attrelid = ${table}::regclass and attnum > 0 and not attisdropped order by attnum`.execute(transaction);
  return rows.map(({ name }) => name);
}

async function installationOf(transaction: Transaction<Tables>): Promise<string> {
  const row = await transaction.selectFrom("settings").select("value").where("key", "=", "installation").executeTakeFirst();
  const value: unknown = row?.value;
  return typeof value === "object" && value !== null && "id" in value && typeof value.id === "string" ? value.id : "";
}

async function timeOf(transaction: Transaction<Tables>): Promise<string> {
  const { rows } = await sql<{ now: Date }>`select transaction_timestamp() as now`.execute(transaction);
  return (rows[0]?.now ?? new Date(0)).toISOString();
}

/** Lines with a running digest; waits when the stream does not keep up. */
class LineWriter {
  readonly #out: Writable;
  readonly #hash: Hash = createHash("sha256");

  constructor(out: Writable) {
    this.#out = out;
  }

  async line(text: string): Promise<void> {
    this.#hash.update(`${text}\n`);
    if (!this.#out.write(`${text}\n`)) await this.#drained();
  }

  /** Rejects when the stream has failed, also before: it would never drain, and the transaction behind would stay open. */
  async #drained(): Promise<void> {
    const out = this.#out;
    const gone = (): Error => out.errored ?? new Error("the backup's output was closed");
    if (out.destroyed) throw gone();
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        out.off("drain", settle).off("error", settle).off("close", settle);
        if (out.destroyed) reject(gone());
        else resolve();
      };
      out.on("drain", settle).on("error", settle).on("close", settle);
    });
  }

  async last(text: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#out.write(`${text}\n`, (error) => (error ? reject(error) : resolve()));
    });
  }

  digest(): string {
    return this.#hash.copy().digest("hex");
  }
}

/** Splits at line feeds alone: other separators may stand inside of JSON texts. */
class LineReader {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #hash: Hash = createHash("sha256");
  #rest: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(input: Readable) {
    this.#chunks = (input as AsyncIterable<Buffer>)[Symbol.asyncIterator](); // streams of bytes give Buffers
  }

  /** Throws when there is no further whole line. */
  async next(): Promise<string> {
    let from = 0;
    for (;;) {
      const at = this.#rest.indexOf(LINE_FEED, from);
      if (at >= 0) {
        const line = this.#rest.subarray(0, at);
        this.#hash.update(this.#rest.subarray(0, at + 1));
        this.#rest = this.#rest.subarray(at + 1);
        return line.toString("utf8");
      }
      from = this.#rest.length;
      if (from > LINE_BYTES_MAX || !(await this.#more())) throw damaged();
    }
  }

  async hasMore(): Promise<boolean> {
    return this.#rest.length > 0 || (await this.#more());
  }

  /** Of what was read so far. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  async #more(): Promise<boolean> {
    while (!this.#ended) {
      const { value, done } = await this.#chunks.next();
      if (done === true) this.#ended = true;
      else if (value.length > 0) {
        this.#rest = Buffer.concat([this.#rest, Buffer.from(value)]);
        return true;
      }
    }
    return false;
  }
}
