import { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { SessionRecordBody } from "@sluice/events/session-events.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import type { SessionJudge } from "./judge.ts";
import { PostgresSession } from "./postgres-session.ts";
import type { SessionLog } from "./session-log.ts";

/** A socket's other end in memory: what was written to it, and a way to make it say something. */
class End extends Duplex {
  written: Buffer = Buffer.alloc(0);
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.written = Buffer.concat([this.written, chunk]);
    done();
  }
}

function notice(text: string): Buffer {
  const body = Buffer.from(`SNOTICE\0VNOTICE\0C00000\0M${text}\0\0`);
  const head = Buffer.alloc(5);
  head.write("N", "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

interface Bench {
  readonly caller: End;
  readonly target: End;
  readonly recorded: SessionRecordBody[];
  /** One for each time somebody waited for the disk. */
  readonly waits: PromiseWithResolvers<void>[];
  readonly ended: Promise<string>;
  readonly session: PostgresSession;
  /** How often the target's connection was handed back, and how often a cancel was asked for. */
  released: number;
  cancels: number;
  /** What a cancel waits for. */
  cancelled: Promise<void>;
  nowMs: number;
  pending: boolean;
  crowded: boolean;
}

function open(strict: boolean): Bench {
  const caller = new End();
  const target = new End();
  const recorded: SessionRecordBody[] = [];
  const waits: PromiseWithResolvers<void>[] = [];
  const bench = {
    caller,
    target,
    recorded,
    waits,
    crowded: false,
    released: 0,
    cancels: 0,
    cancelled: Promise.resolve(),
    nowMs: 0,
    pending: false,
  };
  const log = {
    append: (body: SessionRecordBody) => void recorded.push(body),
    release: (pieces: readonly Buffer[]) => {
      const bytes = Buffer.concat(pieces);
      recorded.push({ kind: "released", bytes });
      return { bytes, sent: () => {} };
    },
    settle: () => {},
    durable: () => {
      const wait = Promise.withResolvers<void>();
      waits.push(wait);
      return wait.promise;
    },
    get crowded() {
      return bench.crowded;
    },
  };
  const judge = {
    strict,
    notificationsClear: true,
    takeMustBeDurable: () => false,
    transactionEnded: () => {},
    finished: () => {},
    judge: () => (bench.pending ? "pending" : { kind: "permit", statements: [], scrub: false }),
    resolvePending: () => new Promise(() => {}),
    cancelPending: () => bench.pending,
    reconsider: () => new GatewayError("killed", "The policy changed."),
  };
  const session = new PostgresSession({
    caller,
    target: Object.assign({} as TargetConnection, {
      stream: target,
      cancel: () => {
        bench.cancels += 1;
        return bench.cancelled;
      },
      release: () => void (bench.released += 1),
    }),
    judge: Object.assign({} as SessionJudge, judge),
    sessionLog: Object.defineProperties({} as SessionLog, Object.getOwnPropertyDescriptors(log)),
    limits: defaultLimits,
    clock: { nowMs: () => 0, monotonicMs: () => bench.nowMs },
    log: pino({ level: "silent" }),
  });
  return Object.assign(bench, { session, ended: session.run(Buffer.alloc(0)) });
}

const notices = ["one", "two", "three"].map(notice);

async function say(bench: Bench, messages: readonly Buffer[]): Promise<void> {
  for (const message of messages) {
    bench.target.push(message);
    await turn();
  }
}

describe("what is released", () => {
  test("strict: waits for the disk, and leaves in order even when later waits are over first", async () => {
    const bench = open(true);
    await say(bench, notices);
    expect(bench.recorded.map(({ kind }) => kind)).toEqual(["released", "released", "released"]);
    expect(bench.caller.written.length).toBe(0);
    bench.waits[2]!.resolve();
    bench.waits[1]!.resolve();
    await turn();
    expect(bench.caller.written.length).toBe(0);
    bench.waits[0]!.resolve();
    await turn();
    expect(bench.caller.written).toEqual(Buffer.concat(notices));
  });

  test("relaxed: leaves at once; waits while the spool is crowded, and what follows stays behind it", async () => {
    const bench = open(false);
    await say(bench, notices.slice(0, 1));
    expect(bench.caller.written).toEqual(notices[0]);
    bench.crowded = true;
    await say(bench, notices.slice(1, 2));
    bench.crowded = false;
    await say(bench, notices.slice(2));
    expect(bench.caller.written).toEqual(notices[0]);
    bench.waits[0]!.resolve();
    await turn();
    await turn();
    expect(bench.waits.length).toBe(1);
    expect(bench.caller.written).toEqual(Buffer.concat(notices));
  });

  test("of a crowded spool: the target is read no further until what is held is durable", async () => {
    for (const strict of [true, false]) {
      const bench = open(strict);
      bench.crowded = true;
      await say(bench, notices.slice(0, 1));
      expect(bench.target.isPaused()).toBe(true);
      bench.waits[0]!.resolve();
      await turn();
      expect(bench.target.isPaused()).toBe(false);
      expect(bench.caller.written).toEqual(notices[0]);
    }
  });

  test("nothing leaves when the disk fails, but the reason", async () => {
    const bench = open(true);
    await say(bench, notices.slice(0, 2));
    bench.waits[1]!.resolve();
    bench.waits[0]!.reject(new GatewayError("recording_unavailable", "The disk is gone."));
    await turn();
    expect(bench.caller.written.length).toBe(0);
    expect(bench.waits.length).toBe(3);
    bench.waits[2]!.reject(new GatewayError("recording_unavailable", "The disk is gone."));
    expect(await bench.ended).toBe("recording_unavailable");
    expect(bench.caller.written.toString("utf8")).toContain("The disk is gone.");
    for (const message of notices) expect(bench.caller.written.includes(message)).toBe(false);
  });
});

const terminate = Buffer.from([0x58, 0, 0, 0, 4]);
const query = Buffer.from("Q\0\0\0\x0dSELECT 1\0", "latin1");

function ready(status: "I" | "T"): Buffer {
  return Buffer.from(`Z\0\0\0\x05${status}`, "latin1");
}

/** The caller has gone in good order, one way or the other; says what became of the target's connection. */
async function leave(bench: Bench, how: "terminate" | "close"): Promise<{ released: number; destroyed: boolean }> {
  bench.caller.push(how === "terminate" ? terminate : null);
  await bench.ended;
  await turn();
  return { released: bench.released, destroyed: bench.target.destroyed };
}

const kept = { released: 1, destroyed: false };
const thrownAway = { released: 0, destroyed: true };

describe("a target connection is handed back", () => {
  test.each(["terminate", "close"] as const)("by %s, untouched, when everything is answered", async (how) => {
    const bench = open(false);
    bench.caller.push(query);
    await turn();
    await say(bench, [ready("I")]);
    bench.target.written = Buffer.alloc(0);
    expect(await leave(bench, how)).toEqual(kept);
    // The message that ends a session would end the target's, too.
    expect(bench.target.written.length).toBe(0);
    expect(bench.target.isPaused()).toBe(true);
    for (const event of ["data", "end", "error", "close", "drain"]) expect(bench.target.listenerCount(event), event).toBe(0);
    expect(await bench.ended).toBe(how === "terminate" ? "closed" : "caller_gone");
  });

  test("even while the caller's last bytes are on their way to the disk", async () => {
    const bench = open(true);
    await say(bench, notices.slice(0, 1));
    bench.caller.push(terminate);
    await turn();
    expect(bench.released).toBe(1);
    bench.waits[0]!.resolve();
    expect(await bench.ended).toBe("closed");
    expect(bench.caller.written).toEqual(notices[0]);
    expect(bench.target.destroyed).toBe(false);
  });
});

describe("a target connection is not used again", () => {
  test("after a transaction that was left open", async () => {
    const bench = open(false);
    bench.caller.push(query);
    await turn();
    await say(bench, [ready("T")]);
    expect(await leave(bench, "terminate")).toEqual(thrownAway);
  });

  test("when an answer is still to come, or a message has come in part", async () => {
    const running = open(false);
    running.caller.push(query);
    await turn();
    expect(await leave(running, "close")).toEqual(thrownAway);
    const partial = open(false);
    await say(partial, [notice("one").subarray(0, 9)]);
    expect(await leave(partial, "terminate")).toEqual(thrownAway);
  });

  test("while a cancel is on its way, and for a second after it", async () => {
    const inFlight = open(false);
    inFlight.cancelled = new Promise(() => {});
    inFlight.session.cancel();
    await turn();
    expect(await leave(inFlight, "terminate")).toEqual(thrownAway);
    const settling = open(false);
    settling.session.cancel();
    await turn();
    settling.nowMs = 999;
    expect(await leave(settling, "terminate")).toEqual(thrownAway);
    const settled = open(false);
    settled.session.cancel();
    await turn();
    settled.nowMs = 1_000;
    expect(await leave(settled, "terminate")).toEqual(kept);
  });

  test("when the gateway ends the session, or what follows the end cannot be read", async () => {
    const ended = open(false);
    ended.session.terminate(new GatewayError("killed", "Enough."));
    await ended.ended;
    expect([ended.released, ended.target.destroyed]).toEqual([0, true]);
    const more = open(false);
    more.caller.push(Buffer.concat([terminate, query]));
    await more.ended;
    expect([more.released, more.target.destroyed]).toEqual([0, true]);
  });
});

describe("a cancel", () => {
  test("of a statement that waits to be analysed stays here", async () => {
    const bench = open(false);
    bench.pending = true;
    bench.caller.push(query);
    await turn();
    bench.session.cancel();
    await turn();
    expect(bench.cancels).toBe(0);
  });

  test("of one that runs goes to the target", async () => {
    const bench = open(false);
    bench.caller.push(query);
    await turn();
    bench.session.cancel();
    await turn();
    expect(bench.cancels).toBe(1);
  });
});

describe("a policy that changes", () => {
  test("is held against what runs, and against nothing else", async () => {
    const bench = open(false);
    bench.session.reconsider();
    bench.caller.push(query);
    await turn();
    bench.session.reconsider();
    expect(await bench.ended).toBe("killed");
    expect(bench.caller.written.toString("latin1")).toContain("The policy changed.");
  });
});
