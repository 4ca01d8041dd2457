/**
 * Sessions in every state at once, and what must become of them: they go on as if nothing had happened, or they end with a sentence
 * and leave nothing behind at the target. No wait here is longer than a caller would put up with.
 */
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { type Fleet, portOf } from "../support/fleet.ts";
import type { FleetNode } from "../support/fleet-node.ts";
import { openTcp, RawClient } from "../support/raw-client.ts";
import type { ReplayedItem } from "../support/replayed.ts";
import { cancelRequest, errorsOf, message, query, rowsOf, type WireMessage } from "../support/wire-messages.ts";

/** Ends of sessions must be seen by then. */
const ENDED_MS = 10_000;
/** Between two logins of which the first was refused. */
const RETRY_MS = 50;
const BIG_ROWS = 20_000;
/** What a masked caller sees of the first customer. */
export const MASKED = "***-**-9382";

export interface Opened {
  readonly client: RawClient;
  readonly id: string;
  readonly cancelKey: { readonly processId: number; readonly secret: Buffer };
}

/** Throws what the gateway says when it refuses. */
export async function openSession(gateway: FleetNode, token: string): Promise<Opened> {
  const client = await RawClient.connect({ port: portOf(gateway), caFile: gateway.ready.caFile });
  const answers = await client.login({ token });
  const [refusal] = errorsOf(answers);
  if (refusal !== undefined) throw new Error(`${refusal["C"]} ${refusal["M"]}`);
  const status = answers.find(({ type, body }) => type === "S" && body.includes("sluice.session_id"))!;
  const key = answers.find(({ type }) => type === "K")!.body;
  return {
    client,
    id: status.body.toString().split("\0")[1]!,
    cancelKey: { processId: key.readInt32BE(0), secret: key.subarray(4) },
  };
}

/** Those of the rows whose first column is not recorded (yet). */
export async function unrecorded(fleet: Fleet, id: string, rows: readonly (string | null)[]): Promise<readonly unknown[]> {
  const { status, stdout } = await fleet.cli(["sessions", "replay", id, "--json"]);
  if (status !== 0) return rows; // not there yet
  const items = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ReplayedItem); // JSON lines with a kind, by the contract
  const recorded = new Set(items.filter(({ kind }) => kind === "row").map((item) => (item["values"] as unknown[])[0])); // by the contract
  return rows.filter((row) => !recorded.has(row));
}

export async function masked(client: RawClient): Promise<unknown> {
  const answers = await client.query("SELECT ssn FROM customers WHERE id = 1");
  expect(errorsOf(answers)).toEqual([]);
  return rowsOf(answers)[0]?.[0];
}

/** Of one gateway; `mark` is a hundred times a number of their own, and what a search at the target finds them by. */
export class SessionStates {
  readonly idle: Opened;
  readonly inTransaction: Opened;
  readonly midResult: Opened;
  readonly copying: Opened;
  readonly cancelling: Opened;
  /** Asks and asks: nearly always one of its answers waits to be durable. */
  readonly working: Opened;
  readonly received: (string | null)[] = [];
  readonly #fleet: Fleet;
  readonly #gateway: FleetNode;
  readonly #mark: number;
  readonly #work: Promise<void>;
  #stopping = false;

  static async open(fleet: Fleet, gateway: FleetNode, mark: number): Promise<SessionStates> {
    const [agent, dba] = await Promise.all([fleet.token("ada", ["agents"]), fleet.token("dora", ["dba"])]);
    const opened = await Promise.all([agent, dba, dba, dba, dba, agent].map((token) => openSession(gateway, token)));
    const states = new SessionStates(fleet, gateway, mark, opened);
    await states.#enter();
    return states;
  }

  private constructor(fleet: Fleet, gateway: FleetNode, mark: number, opened: readonly Opened[]) {
    const [idle, inTransaction, midResult, copying, cancelling, working] = opened;
    this.idle = idle!;
    this.inTransaction = inTransaction!;
    this.midResult = midResult!;
    this.copying = copying!;
    this.cancelling = cancelling!;
    this.working = working!;
    this.#fleet = fleet;
    this.#gateway = gateway;
    this.#mark = mark;
    this.#work = this.#keepWorking();
  }

  async #enter(): Promise<void> {
    expect(await masked(this.idle.client)).toBe(MASKED);
    for (const sql of ["BEGIN", `UPDATE orders SET total = ${this.#mark} WHERE id = ${this.#row}`])
      expect(errorsOf(await this.inTransaction.client.query(sql))).toEqual([]);
    this.midResult.client.send(query(`SELECT id, repeat(label, 100) /* ${this.#mark} */ FROM big`));
    await this.midResult.client.until(({ type }) => type === "D");
    this.midResult.client.pauseReading();
    this.copying.client.send(query("COPY orders (id, customer_id, total) FROM STDIN"));
    await this.copying.client.until(({ type }) => type === "G");
    this.copying.client.send(message("d", Buffer.from(`${this.#mark}\t1\t1\n`)));
    this.cancelling.client.send(query(`SELECT pg_sleep(60) /* ${this.#mark} */`));
    await expect.poll(() => this.#backends(`%pg_sleep(60) /* ${this.#mark}%`), { timeout: 10_000 }).toBe(1);
    await expect.poll(() => this.received.length, { timeout: 10_000 }).toBeGreaterThan(2);
  }

  /** Whatever was killed, cut or deaf concerns none of these sessions. Ends them in good order. */
  async goOn(): Promise<void> {
    expect(await masked(this.idle.client)).toBe(MASKED);
    const seen = await this.inTransaction.client.query(`SELECT total FROM orders WHERE id = ${this.#row}`);
    expect(rowsOf(seen)).toEqual([[String(this.#mark)]]);
    expect(errorsOf(await this.inTransaction.client.query("ROLLBACK"))).toEqual([]);
    this.midResult.client.resumeReading();
    const rest = await this.midResult.client.untilReady();
    expect(errorsOf(rest)).toEqual([]);
    expect(rowsOf(rest)).toHaveLength(BIG_ROWS - 1);
    this.copying.client.send(message("d", Buffer.from(`${this.#mark + 1}\t1\t1\n`)), message("c"));
    expect(errorsOf(await this.copying.client.untilReady())).toEqual([]);
    expect(errorsOf(await this.copying.client.query(`DELETE FROM orders WHERE id >= ${this.#mark}`))).toEqual([]);
    await this.cancel();
    const ended = await this.cancelling.client.untilReady();
    expect(errorsOf(ended)[0]).toMatchObject({ C: "57014" });
    const before = this.received.length;
    await expect.poll(() => this.received.length, { timeout: 5_000 }).toBeGreaterThan(before);
    await this.close();
  }

  /** All of them end, soon; those that can be told are told; nothing that was not committed stays at the target, and no backend. */
  async haveEnded(): Promise<void> {
    this.midResult.client.resumeReading();
    const beganMs = performance.now();
    const endings = await Promise.all(
      [this.idle, this.inTransaction, this.midResult, this.copying, this.cancelling, this.working].map(({ client }) =>
        client.untilClosed(),
      ),
    );
    expect(performance.now() - beganMs).toBeLessThan(ENDED_MS);
    for (const error of endings.flatMap((messages) => errorsOf(messages))) expect(error["C"]).toMatch(/^(57P0|08006|58000)/);
    // A statement that does not talk to its client runs on for as long as it takes, as after any client's death: see README.md.
    await this.#fleet.target.admin("orders", (admin) =>
      admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1", [
        `SELECT pg_sleep(60) /* ${this.#mark}%`,
      ]),
    );
    await expect.poll(() => this.#backends(`%${this.#mark}%`), { timeout: ENDED_MS }).toBe(0);
    await this.#fleet.target.admin("orders", async (admin) => {
      const { rows } = await admin.query("SELECT count(*)::int AS n FROM orders WHERE id >= $1 OR total = $1", [this.#mark]);
      expect(rows).toEqual([{ n: 0 }]);
    });
    await this.close();
  }

  async cancel(): Promise<void> {
    const socket = await openTcp(portOf(this.#gateway));
    const { processId, secret } = this.cancelling.cancelKey;
    socket.on("error", () => undefined);
    socket.end(cancelRequest(processId, secret));
  }

  async close(): Promise<void> {
    this.#stopping = true;
    await this.#work;
    for (const { client } of [this.idle, this.inTransaction, this.midResult, this.copying, this.cancelling, this.working])
      client.vanish();
  }

  get #row(): number {
    return 1 + ((this.#mark / 100) % 50);
  }

  async #keepWorking(): Promise<void> {
    const { client } = this.working;
    for (let number = 1; !this.#stopping && !client.isClosed; number++) {
      const answers = await client.query(`SELECT '${number}', ssn FROM customers WHERE id = 1`).catch(() => []);
      const rows: readonly WireMessage[] = answers.filter(({ type }) => type === "D");
      for (const [row, ssn] of rowsOf(rows)) {
        expect(ssn).toBe(MASKED);
        this.received.push(row!);
      }
    }
  }

  async #backends(pattern: string): Promise<number> {
    return await this.#fleet.target.admin("orders", async (admin) => {
      const text =
        "SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = 'orders_app' AND state <> 'idle' AND query LIKE $1";
      const { rows } = await admin.query<{ n: number }>(text, [pattern]);
      return rows[0]!.n;
    });
  }
}

/** Logins one after the other until told to stop: none may hang, each is served or told why not. */
export class Logins {
  served = 0;
  readonly refused: string[] = [];
  slowestMs = 0;
  #stopping = false;
  readonly #running: Promise<void>;

  constructor(gateway: FleetNode, token: string) {
    this.#running = this.#run(gateway, token);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #run(gateway: FleetNode, token: string): Promise<void> {
    while (!this.#stopping) {
      const beganMs = performance.now();
      try {
        const { client } = await openSession(gateway, token);
        expect(await masked(client)).toBe(MASKED);
        client.vanish();
        this.served += 1;
      } catch (error) {
        this.refused.push(error instanceof Error ? error.message : "unknown");
        await delay(RETRY_MS);
      }
      this.slowestMs = Math.max(this.slowestMs, performance.now() - beganMs);
    }
  }
}
