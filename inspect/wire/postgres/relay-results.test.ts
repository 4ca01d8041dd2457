/** Single cases of results that pass the relay: masked, scrubbed, copied. Against the scripted server. */
import { describe, expect, it } from "vitest";
import { defaultLimits } from "@sluice/core/limits.ts";
import { encodeError } from "./errors.ts";
import { cstring, encodeMessage, int16, int32 } from "./frames.ts";
import { PostgresRelay } from "./relay.ts";
import { dataRow, SECRET } from "./testing/scripted-server.ts";
import { caller, extended, type Rule, sequence, TestJudge, World } from "./testing/world.ts";

const { query, parse, bind, execute, sync, flush } = caller;

function world(rules: Readonly<Record<string, Rule>> = {}, fallback: Rule = {}): World {
  return new World(new TestJudge((text) => rules[text] ?? fallback));
}

function join(...parts: Buffer[]): Buffer {
  return Buffer.concat(parts);
}

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
