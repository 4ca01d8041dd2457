/** Single cases of the relay against the scripted server: what the caller gets, what ran, what the judge was told. */
import { describe, expect, it } from "vitest";
import { defaultLimits } from "@sluice/core/limits.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { encodeError } from "./errors.ts";
import { cstring, encodeMessage, int16, int32 } from "./frames.ts";
import { PostgresRelay } from "./relay.ts";
import { readErrorFields } from "./messages.ts";
import { dataRow, SECRET } from "./testing/scripted-server.ts";
import { caller, extended, type Rule, sequence, TestJudge, World } from "./testing/world.ts";

const { query, parse, bind, execute, close, sync, flush } = caller;

function world(rules: Readonly<Record<string, Rule>> = {}, fallback: Rule = {}): World {
  return new World(new TestJudge((text) => rules[text] ?? fallback));
}

function join(...parts: Buffer[]): Buffer {
  return Buffer.concat(parts);
}

describe("refusal", () => {
  it("answers a simple Query by the target's own error handling, with our error in it", () => {
    const session = world({ "rows a 1": { refuse: true } });
    const bytes = session.runForBytes(query("rows a 1"));
    const fields = readErrorFields(bytes.subarray(5, bytes.readUInt32BE(1) + 1));
    expect(Object.fromEntries(fields)).toEqual({
      S: "ERROR",
      V: "ERROR",
      C: "42501",
      M: "no",
      D: '{"code":"denied","decision":"d_1"}',
      H: "ask",
    });
    expect(session.server.ran).toEqual([]);
    expect(session.run(query("rows b 1"))).toEqual(["T", "D rows b 1#1", "C SELECT 1", "Z I"]);
  });

  it("aborts an open transaction", () => {
    const session = world({ "rows a 1": { refuse: true } });
    const received = session.run(join(query("begin"), query("write w 1"), query("rows a 1"), query("commit")));
    expect(received.slice(-4)).toEqual(["E 42501", "Z E", "C ROLLBACK", "Z I"]);
    expect(session.server.committed).toEqual([]);
  });

  it("of a Parse, an Execute or an unknown name makes the target skip to Sync", () => {
    const session = world({ "rows a 1": { refuse: true } });
    expect(session.run(join(extended("rows a 1"), extended("rows b 1")))).toEqual([
      "E 42501",
      "Z I",
      "1",
      "2",
      "D rows b 1#1",
      "C SELECT 1",
      "Z I",
    ]);
    expect(session.run(join(bind("", "nobody"), execute(""), sync))).toEqual(["E 26000", "Z I"]);
    expect(session.run(join(execute("nobody"), execute(""), sync))).toEqual(["E 34000", "Z I"]);
    expect(session.run(join(caller.describe("S", "nobody"), sync))).toEqual(["E 26000", "Z I"]);
    expect(session.thrown).toBeUndefined();
  });

  it("decides each Execute afresh", () => {
    let calls = 0;
    const judge = new TestJudge(() => ({ refuse: ++calls > 2 }));
    const session = new World(judge);
    session.run(join(parse("s", "rows a 1"), bind("", "s"), execute(""), sync));
    expect(session.run(join(bind("", "s"), execute(""), sync))).toEqual(["2", "E 42501", "Z I"]);
    expect(judge.asked.map(({ phase }) => phase)).toEqual(["parse", "execute", "execute"]);
  });

  it("covers FunctionCall, text that is not UTF-8, and our own reserved name", () => {
    const session = world();
    expect(session.run(caller.functionCall)).toEqual(["E 42501", "Z I"]);
    expect(session.run(encodeMessage("Q", [Buffer.from([0xff, 0xfe, 0])]))).toEqual(["E 22021", "Z I"]);
    expect(session.run(join(parse("sluice:none", "rows a 1"), sync))).toEqual(["E 42501", "Z I"]);
    expect(session.judge.asked).toEqual([]);
    expect(session.server.ran).toEqual([]);
  });

  it("does not let a statement prepared by SQL be bound by the protocol", () => {
    const session = world();
    session.run(query("prepare s as rows a 1"));
    expect(session.run(join(bind("", "s"), execute(""), sync))).toEqual(["E 26000", "Z I"]);
    expect(session.server.ran).toEqual(["prepare s as rows a 1"]);
  });

  it("does not take a cursor made by SQL for the portal that had its name", () => {
    const session = world();
    session.run(join(query("begin"), parse("s", "rows a 1"), bind("p", "s"), sync));
    const received = session.run(join(query("close p"), query("declare p cursor for rows b 1"), execute("p"), sync));
    expect(received.slice(-2)).toEqual(["E 34000", "Z E"]);
    expect(session.server.ran).not.toContain("rows b 1");
  });

  it("tells the judge of every name that protocol messages give or take, which SQL may have known by another text", () => {
    const session = world();
    session.run(
      join(query("prepare s as rows a 1"), close("S", "s"), parse("s", "rows b 1"), bind("p", "s"), close("P", "p"), sync),
    );
    expect(session.judge.taken).toEqual(["statement s", "statement s", "portal p", "portal p"]);
  });

  it("keeps the old statement when a Parse of the same name fails", () => {
    const session = world();
    const received = session.run(
      join(parse("s", "rows a 1"), sync, parse("s", "rows b 1"), sync, bind("", "s"), execute(""), sync),
    );
    expect(received).toEqual(["1", "Z I", "E 42P05", "Z I", "2", "D rows a 1#1", "C SELECT 1", "Z I"]);
    expect(session.judge.asked.at(-1)?.text).toBe("rows a 1");
  });
});

describe("limits", () => {
  it("bound prepared statements and portals", () => {
    const session = new World(new TestJudge(), { preparedStatementsMax: 2, portalsMax: 1 });
    expect(session.run(join(parse("a", "rows a 1"), parse("b", "rows a 1"), sync))).toEqual(["1", "1", "Z I"]);
    expect(session.run(join(parse("c", "rows a 1"), sync))).toEqual(["E 53400", "Z I"]);
    expect(session.run(join(query("begin"), bind("p", "a"), bind("q", "a"), sync))).toEqual([
      "C BEGIN",
      "Z T",
      "2",
      "E 53400",
      "Z E",
    ]);
    expect(session.run(join(close("S", "a"), sync, parse("c", "rows a 1"), sync))).toEqual(["3", "Z E", "E 25P02", "Z E"]);
  });

  it("stop reading the caller while the pipeline is full", () => {
    const relay = new PostgresRelay(new TestJudge(), { ...defaultLimits, pipelineDepthMax: 4 });
    relay.receiveFromCaller(join(...Array.from({ length: 50 }, () => sync)));
    expect(Buffer.concat(relay.output.toTarget)).toEqual(join(sync, sync, sync, sync));
    expect(relay.readsCaller).toBe(false);
    relay.output.toTarget.length = 0;
    relay.receiveFromTarget(encodeMessage("Z", [Buffer.from("I")]));
    expect(Buffer.concat(relay.output.toTarget)).toEqual(sync);
  });

  it.each([
    ["simple", query("rows a 9"), {}],
    ["simple, scrubbed", query("rows a 9"), { scrub: true }],
    ["extended", extended("rows a 9"), {}],
  ])("end a result after the rows allowed: %s", (_name, bytes, extra) => {
    for (let first = 0; first < 12; first++) {
      const session = world({}, { rowsMax: 3, ...extra });
      const received = session.run(bytes, sequence([first, 1, 0, 3, first, 0]));
      expect(received.filter((frame) => !"12T".includes(frame))).toEqual([
        "D rows a 9#1",
        "D rows a 9#2",
        "D rows a 9#3",
        "E 53400",
        "Z I",
      ]);
      expect(session.judge.outcomes).toEqual([{ ok: false, tag: "53400", rows: 3, text: "rows a 9" }]);
      expect(session.run(extended("notice"))).toEqual(["1", "2", "N 00000", "C DO", "Z I"]);
    }
  });

  it("leave a result of exactly the allowed rows alone", () => {
    const session = world({}, { rowsMax: 3 });
    expect(session.run(extended("rows a 3"))).toEqual([
      "1",
      "2",
      "D rows a 3#1",
      "D rows a 3#2",
      "D rows a 3#3",
      "C SELECT 3",
      "Z I",
    ]);
    expect(session.cancels).toBe(0);
  });

  it("fail the open transaction, whoever wins the race of the cancel", () => {
    for (const bytes of [query("rows a 4"), extended("rows a 4")]) {
      for (let first = 0; first < 12; first++) {
        const session = world({ "rows a 4": { rowsMax: 3 } });
        session.run(join(query("begin"), query("write w 1")));
        const received = session.run(bytes, sequence([first, 1, 0, 3, first, 0]));
        expect(received.slice(-2)).toEqual(["E 53400", "Z E"]);
        expect(session.run(query("commit"))).toEqual(["C ROLLBACK", "Z I"]);
        expect(session.server.committed).toEqual([]);
      }
    }
  });

  it("undo a write that returns too many rows", () => {
    for (const bytes of [query("write w 4"), extended("write w 4"), join(extended("write w 4").subarray(0, -5), flush)]) {
      for (let first = 0; first < 12; first++) {
        const session = world({}, { rowsMax: 3, undo: true });
        const received = session.run(bytes, sequence([first, 1, 0, 3, first, 0]));
        expect(received.filter((frame) => frame.startsWith("E"))).toEqual(["E 53400"]);
        session.run(sync);
        expect(session.server.committed).toEqual([]);
        expect(session.run(query("write v 3")).at(-2)).toBe("C INSERT 0 3");
        expect(session.server.committed).toEqual(["v"]);
      }
    }
  });

  it("let nothing run behind a limited Execute before it is answered", () => {
    const session = world({ "rows a 4": { rowsMax: 3 } });
    const received = session.run(
      join(parse("", "rows a 4"), bind("", ""), execute(""), parse("", "write w 1"), bind("", ""), execute(""), sync),
    );
    expect(received).toEqual(["1", "2", "D rows a 4#1", "D rows a 4#2", "D rows a 4#3", "E 53400", "Z I"]);
    expect(session.server.ran).toEqual(["rows a 4"]);
  });

  it("do not hold up a pipeline of statements that return nothing", () => {
    const judge = new TestJudge(() => ({ rowsMax: 3 }));
    const relay = new PostgresRelay(judge, defaultLimits);
    const drain = (): string =>
      Buffer.concat(relay.output.toTarget.splice(0))
        .toString("latin1")
        .replaceAll(/[^A-Z]/g, "");
    relay.receiveFromCaller(join(parse("s", "begin"), sync));
    drain();
    relay.receiveFromTarget(
      join(
        encodeMessage("1", []),
        encodeMessage("t", [int16(0)]),
        encodeMessage("n", []),
        encodeMessage("Z", [Buffer.from("I")]),
      ),
    );
    relay.receiveFromCaller(join(bind("", "s"), execute(""), bind("", "s"), execute(""), sync));
    expect(drain()).toBe("BEBES");
  });

  it("count a portal's rows over all its Executes", () => {
    const session = world({ "rows a 9": { rowsMax: 5 } });
    const received = session.run(
      join(
        query("begin"),
        parse("", "rows a 9"),
        bind("p", ""),
        execute("p", 2),
        execute("p", 2),
        execute("p", 2),
        execute("p", 2),
        sync,
      ),
    );
    expect(received.filter((frame) => !"12".includes(frame)).slice(2)).toEqual([
      "D rows a 9#1",
      "D rows a 9#2",
      "s",
      "D rows a 9#3",
      "D rows a 9#4",
      "s",
      "D rows a 9#5",
      "E 53400",
      "Z E",
    ]);
    expect(session.judge.outcomes.at(-1)).toMatchObject({ ok: false, rows: 5 });
  });

  it("count lines of COPY OUT", () => {
    const session = world({}, { rowsMax: 2 });
    expect(session.run(query("copyout 4"))).toEqual(["H", "d line 1\n", "d line 2\n", "E 53400", "Z I"]);
  });

  it("wait for the cancel to be delivered before anything else runs", () => {
    const relay = new PostgresRelay(new TestJudge(() => ({ rowsMax: 0 })), defaultLimits);
    const drain = (): Buffer => Buffer.concat(relay.output.toTarget.splice(0));
    relay.receiveFromCaller(query("rows a 1"));
    drain();
    relay.receiveFromTarget(join(encodeMessage("T", [int16(0)]), dataRow("x")));
    expect(relay.output.actions).toEqual([{ kind: "cancelTarget" }]);
    relay.receiveFromTarget(join(encodeMessage("C", [cstring("SELECT 1")]), encodeMessage("Z", [Buffer.from("I")])));
    relay.receiveFromCaller(query("rows b 1"));
    expect(drain()).toEqual(Buffer.alloc(0));
    expect([relay.readsCaller, relay.idle]).toEqual([false, false]);
    relay.cancelSettled();
    expect(drain()).toEqual(query("rows b 1"));
  });
});

describe("masking", () => {
  const mask: Rule = { mask: () => [() => Buffer.from("xx")] };

  it("edits rows in simple, extended and partial results", () => {
    const session = world({}, mask);
    expect(session.run(query("rows a 2"))).toEqual(["T", "D xx", "D xx", "C SELECT 2", "Z I"]);
    expect(session.run(query("rows a 1; rows b 1")).filter((frame) => frame.startsWith("D"))).toEqual(["D xx", "D xx"]);
    const partial = join(parse("", "rows a 2"), bind("", ""), execute("", 1), execute("", 0), sync);
    expect(session.run(partial)).toEqual(["1", "2", "D xx", "s", "D xx", "C SELECT 2", "Z I"]);
  });

  it("gives the plan the formats of the Bind", () => {
    const formats: string[] = [];
    const judge = new TestJudge();
    const original = judge.judge.bind(judge);
    judge.judge = (request) => {
      const judgement = original(request);
      if (judgement === "pending" || judgement.kind === "refuse") return judgement;
      const planColumns = (fields: readonly { format: string; tableOid: number }[]): null => {
        formats.push(...fields.map((field) => `${field.format} ${field.tableOid}`));
        return null;
      };
      return { ...judgement, statements: judgement.statements.map((plan) => ({ ...plan, planColumns })) };
    };
    const session = new World(judge);
    const binary = encodeMessage("B", [cstring(""), cstring(""), int16(0), int16(0), int16(1), int16(1)]);
    session.run(join(parse("", "rows a 1"), binary, execute(""), sync));
    session.run(query("rows a 1"));
    expect(formats).toEqual(["binary 1000", "text 1000"]);
  });

  it.each([
    ["simple", query("rows a 4"), 0],
    ["extended", extended("rows a 4"), 0],
    ["in a transaction", query("rows a 4"), 1],
  ])("releases nothing of a result that is not what was judged: %s", (_name, bytes, open) => {
    const session = world({ "rows a 4": { misfit: true } });
    if (open === 1) session.run(query("begin"));
    const received = session.run(bytes).filter((frame) => !"12".includes(frame));
    expect(received).toEqual(["E 42501", open === 1 ? "Z E" : "Z I"]);
    expect(session.thrown).toBeUndefined();
  });

  it("ends the session when a row has other columns than the plan", () => {
    const session = world({}, { mask: () => [null, () => null] });
    expect(session.run(query("rows a 1"))).toEqual(["T", "E FATAL 08006"]);
    expect(session.thrown?.code).toBe("target_protocol");
  });

  it("ends the statement at an edited row above the limit", () => {
    const session = new World(new TestJudge(() => mask), { editedRowBytesMax: 24 });
    expect(session.run(query("rows a 2"))).toEqual(["T", "D xx", "D xx", "C SELECT 2", "Z I"]);
    expect(session.run(query("rows long-label 2"))).toEqual(["T", "E 53400", "Z I"]);
  });
});

describe("scrubbing", () => {
  it("withholds texts of errors at run time and of notices, and keeps those of Parse", () => {
    const session = world({}, { scrub: true });
    for (const bytes of [query("boom 1"), extended("boom 1"), query("badplan"), query("notice")]) {
      const text = session.runForBytes(bytes).toString("latin1");
      expect(text).not.toContain(SECRET);
      expect(text).toMatch(/withheld/);
    }
    expect(session.runForBytes(query("nonsense")).toString("latin1")).toContain('syntax error at "nonsense"');
    expect(world().runForBytes(query("boom 1")).toString("latin1")).toContain(SECRET);
  });

  it("withholds what is said at the end of a transaction that touched protected data", () => {
    const relay = new PostgresRelay(new TestJudge((text) => ({ scrub: text === "begin" })), defaultLimits);
    const detail = encodeError({ severity: "ERROR", sqlState: "23505", message: "duplicate", detail: "Key (ssn)=(1)" });
    relay.receiveFromCaller(query("begin"));
    relay.receiveFromTarget(
      join(
        ...["1", "2", "n"].map((type) => encodeMessage(type, [])),
        encodeMessage("C", [cstring("BEGIN")]),
        encodeMessage("Z", [Buffer.from("T")]),
      ),
    );
    relay.receiveFromCaller(query("commit"));
    relay.output.toCaller.length = 0;
    relay.receiveFromTarget(detail);
    const told = Buffer.concat(relay.output.toCaller).toString("latin1");
    expect(told).toContain("23505");
    expect(told).not.toContain("ssn");
  });

  it("empties notifications and stray notices for callers with masked columns", () => {
    const judge = new TestJudge();
    judge.notificationsClear = false;
    const relay = new PostgresRelay(judge, defaultLimits);
    relay.receiveFromTarget(encodeMessage("A", [int32(7), cstring("channel"), cstring("payload")]));
    expect(Buffer.concat(relay.output.toCaller.splice(0))).toEqual(
      encodeMessage("A", [int32(7), cstring("channel"), cstring("")]),
    );
    relay.receiveFromTarget(encodeMessage("N", [cstring("SNOTICE"), cstring("C00000"), cstring("Msecret"), Buffer.from([0])]));
    expect(Buffer.concat(relay.output.toCaller).toString()).not.toContain("secret");
  });
});

describe("copy", () => {
  it("streams data in, and leaves what the target ignores to nobody", () => {
    const session = world();
    const data = join(
      query("copyin"),
      caller.copyData("one"),
      sync,
      flush,
      caller.copyData("two"),
      caller.copyDone,
      caller.copyData("x"),
    );
    expect(session.run(data, sequence([1, 2, 5, 0]))).toEqual(["G", "C COPY 1", "Z I"]);
    expect(session.server.copied).toBe("onetwo");
  });

  it("works in the extended protocol as libpq uses it: the Sync before the data is ignored", () => {
    const session = world();
    const data = join(extended("copyin"), caller.copyData("one"), caller.copyDone, sync, query("rows a 1"));
    expect(session.run(data)).toEqual(["1", "2", "G", "C COPY 1", "Z I", "T", "D rows a 1#1", "C SELECT 1", "Z I"]);
  });

  it("runs two COPY of one text", () => {
    const session = world();
    const data = join(query("copyin; copyin"), caller.copyData("1"), caller.copyDone, caller.copyData("2"), caller.copyDone);
    expect(session.run(data)).toEqual(["G", "C COPY 1", "G", "C COPY 1", "Z I"]);
    expect(session.server.copied).toBe("12");
  });

  it("never buffers CopyData: the first bytes of a huge one are on their way", () => {
    const session = world();
    session.run(query("copyin"));
    const head = Buffer.alloc(5 + 10);
    head[0] = 0x64;
    head.writeUInt32BE(500_000_000, 1);
    session.relay.receiveFromCaller(head);
    expect(Buffer.concat(session.relay.output.toTarget)).toEqual(head);
    expect(session.relay.readsCaller).toBe(true);
  });

  it.each([
    ["COPY IN that was not judged", encodeMessage("G", [Buffer.from([0]), int16(0)])],
    ["COPY OUT that was not judged", encodeMessage("H", [Buffer.from([0]), int16(0)])],
    ["COPY BOTH", encodeMessage("W", [Buffer.from([0]), int16(0)])],
    ["rows without a description", dataRow("x")],
    ["more results than statements", join(encodeMessage("C", [cstring("SELECT 1")]), encodeMessage("C", [cstring("SELECT 1")]))],
    ["a second login", encodeMessage("R", [int32(0)])],
    ["a message that is cut short", encodeMessage("T", [int16(3)])],
  ])("ends the session at %s", (_name, answer) => {
    const relay = new PostgresRelay(new TestJudge(), defaultLimits);
    relay.receiveFromCaller(query("rows a 1"));
    expect(() => relay.receiveFromTarget(answer)).toThrow(expect.objectContaining({ code: "target_protocol" }));
    expect(relay.output.toCaller.filter((bytes) => bytes[0] === 0x44)).toEqual([]);
  });
});

describe("session", () => {
  it("waits for an analysis without forwarding, and asks the same again", () => {
    const session = world({}, { pendingFirst: true });
    session.relay.receiveFromCaller(join(query("rows a 1"), query("rows b 1")));
    expect(session.relay.output.toTarget).toEqual([]);
    expect(session.relay.output.actions).toEqual([{ kind: "analysisNeeded" }]);
    expect(session.relay.readsCaller).toBe(false);
    session.relay.receiveFromTarget(encodeMessage("N", [cstring("SNOTICE"), Buffer.from([0])]));
    expect(session.relay.output.actions).toHaveLength(1);
    session.drive(() => session.relay.resume());
    expect(session.run(Buffer.alloc(0)).filter((frame) => frame.startsWith("D"))).toEqual(["D rows a 1#1", "D rows b 1#1"]);
  });

  it("ends on Terminate after what was sent before it has run", () => {
    const session = world();
    session.run(join(extended("write w 1"), caller.terminate));
    expect(session.ended).toBeNull();
    expect(session.server.committed).toEqual(["w"]);
  });

  it.each([
    ["password after login", encodeMessage("p", [cstring("x")])],
    ["unknown type", encodeMessage("!", [])],
    ["bytes behind a Query's text", encodeMessage("Q", [cstring("rows a 1"), cstring("rows b 1")])],
    ["a name longer than the target compares", parse("x".repeat(64), "rows a 1")],
    ["Bind with an unknown format", encodeMessage("B", [cstring(""), cstring(""), int16(1), int16(2), int16(0), int16(0)])],
    ["a Query among COPY data", join(query("copyin"), caller.copyData("1"), query("rows a 1"))],
  ])("ends at a violation: %s", (_name, bytes) => {
    const session = world();
    session.run(join(parse("", "rows a 1"), sync, bytes));
    expect(session.thrown?.code).toBe("protocol_violation");
    expect(session.received().at(-1) ?? "E FATAL 08P01").toBe("E FATAL 08P01");
    expect(session.server.ran).not.toContain("rows a 1");
  });

  it("ends before it buffers a message above the limit", () => {
    const relay = new PostgresRelay(new TestJudge(), { ...defaultLimits, callerFrameBytesMax: 1000 });
    const head = Buffer.from([0x51, 0, 0, 4, 0]);
    expect(() => relay.receiveFromCaller(head)).toThrow(expect.objectContaining({ code: "frame_too_large" }));
    expect(relay.output.toTarget).toEqual([]);
  });

  it("ends when a setting changes how statements are read", () => {
    const session = world();
    expect(session.run(query("set standard_conforming_strings off")).at(-1)).toBe("E FATAL 42501");
    expect(world().run(query("set TimeZone UTC"))).toEqual(["S", "C SET", "Z I"]);
  });

  it("passes a FATAL error on and ends", () => {
    const session = world();
    session.drive(() => session.relay.receiveFromTarget(encodeError({ severity: "FATAL", sqlState: "57P01", message: "going" })));
    expect(session.received()).toEqual(["E FATAL 57P01"]);
    expect(session.ended).toBeInstanceOf(GatewayError);
  });

  it("tells the caller when the target is gone, but not in the middle of a row", () => {
    const idle = world();
    idle.drive(() => idle.relay.targetClosed());
    expect(idle.received()).toEqual(["E FATAL 08006"]);
    const busy = new PostgresRelay(new TestJudge(), defaultLimits);
    busy.receiveFromCaller(query("rows a 1"));
    const row = dataRow("0123456789");
    busy.receiveFromTarget(join(encodeMessage("T", [int16(0)]), row.subarray(0, 9)));
    busy.output.toCaller.length = 0;
    busy.terminate(new GatewayError("killed", "stop"));
    expect(busy.output.toCaller).toEqual([]);
    expect(busy.output.actions.at(-1)).toMatchObject({ kind: "end", error: { code: "killed" } });
  });

  it("is idle only with nothing outstanding and no transaction open", () => {
    const session = world();
    const idleAfter = (bytes: Buffer): boolean => {
      session.run(bytes);
      return session.relay.idle;
    };
    expect(session.relay.idle).toBe(true);
    expect(idleAfter(query("begin"))).toBe(false);
    expect(idleAfter(query("commit"))).toBe(true);
    expect(idleAfter(join(parse("", "write w 1"), bind("", ""), execute(""), flush))).toBe(false);
    expect(idleAfter(sync)).toBe(true);
    expect(idleAfter(Buffer.from("Q"))).toBe(false);
  });

  it("tells the judge how each statement ended, once", () => {
    const session = world();
    session.run(join(query("rows a 2; boom 1"), extended("rows b 3", 2), extended("rows c 1")));
    expect(session.judge.outcomes).toEqual([
      { text: "rows a 2; boom 1", ok: true, tag: "SELECT 2", rows: 2 },
      { text: "rows a 2; boom 1", ok: false, tag: "22012", rows: 1 },
      { text: "rows c 1", ok: true, tag: "SELECT 1", rows: 1 },
    ]);
  });

  it("shows the judge the bound values with the target's types", () => {
    const judge = new TestJudge();
    const session = new PostgresRelay(judge, defaultLimits);
    session.receiveFromCaller(join(parse("s", "rows a 1"), sync));
    const answers = [encodeMessage("1", []), encodeMessage("t", [int16(2), int32(23), int32(25)]), encodeMessage("n", [])];
    session.receiveFromTarget(join(...answers, encodeMessage("Z", [Buffer.from("I")])));
    const values = [int16(2), int16(1), int16(0), int16(2), int32(4), int32(5), int32(-1), int16(0)];
    session.receiveFromCaller(join(encodeMessage("B", [cstring(""), cstring("s"), ...values]), execute(""), sync));
    expect(judge.asked.at(-1)?.parameters).toEqual([
      { typeOid: 23, format: "binary", bytes: int32(5) },
      { typeOid: 25, format: "text", bytes: null },
    ]);
  });
});
