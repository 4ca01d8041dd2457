/** Single cases of the relay's refusals and row limits against the scripted server: what the caller gets, what ran. */
import { describe, expect, it } from "vitest";
import { defaultLimits } from "@sluice/core/limits.ts";
import { cstring, encodeMessage, int16 } from "./frames.ts";
import { PostgresRelay } from "./relay.ts";
import { readErrorFields } from "./messages.ts";
import { dataRow } from "./testing/scripted-server.ts";
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
