import { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock } from "@sluice/core/system.ts";
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
  crowded: boolean;
}

function open(strict: boolean): Bench {
  const caller = new End();
  const target = new End();
  const recorded: SessionRecordBody[] = [];
  const waits: PromiseWithResolvers<void>[] = [];
  const bench = { caller, target, recorded, waits, crowded: false };
  const log = {
    append: (body: SessionRecordBody) => void recorded.push(body),
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
  const judge = { strict, notificationsClear: true, takeMustBeDurable: () => false, transactionEnded: () => {} };
  const session = new PostgresSession({
    caller,
    target: Object.assign({} as TargetConnection, { stream: target, cancel: () => Promise.resolve() }),
    judge: Object.assign({} as SessionJudge, judge),
    sessionLog: Object.defineProperties({} as SessionLog, Object.getOwnPropertyDescriptors(log)),
    limits: defaultLimits,
    clock: systemClock,
    log: pino({ level: "silent" }),
  });
  return Object.assign(bench, { ended: session.run(Buffer.alloc(0)) });
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
