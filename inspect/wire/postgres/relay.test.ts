/** Single cases of the relay's session against the scripted server: what the caller gets, what ran, what the judge was told. */
import { describe, expect, it } from "vitest";
import { defaultLimits } from "@sluice/core/limits.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { encodeError } from "./errors.ts";
import { cstring, encodeMessage, int16, int32 } from "./frames.ts";
import { PostgresRelay } from "./relay.ts";
import { dataRow } from "./testing/scripted-server.ts";
import { caller, extended, type Rule, TestJudge, World } from "./testing/world.ts";

const { query, parse, bind, execute, sync, flush } = caller;

function world(rules: Readonly<Record<string, Rule>> = {}, fallback: Rule = {}): World {
  return new World(new TestJudge((text) => rules[text] ?? fallback));
}

function join(...parts: Buffer[]): Buffer {
  return Buffer.concat(parts);
}

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

  it("asks the target to answer when a segment without a Sync reaches the bound, so that the rest gets its turn", () => {
    const relay = new PostgresRelay(new TestJudge(), { ...defaultLimits, pipelineDepthMax: 4 });
    relay.receiveFromCaller(join(parse("", "write w 1"), bind("", ""), execute(""), bind("", ""), execute(""), sync));
    expect(relay.readsCaller).toBe(false);
    const types = (buffers: readonly Buffer[]): string => {
      const bytes = Buffer.concat(buffers);
      let seen = "";
      for (let at = 0; at < bytes.length; at += bytes.readUInt32BE(at + 1) + 1) seen += String.fromCharCode(bytes[at]!);
      return seen;
    };
    expect(types(relay.output.toTarget.splice(0))).toBe("PDBEH");
    const answers = ["1", "t", "n", "2", "C"].map((type) =>
      encodeMessage(type, type === "t" ? [int16(0)] : type === "C" ? [cstring("INSERT 0 1")] : []),
    );
    relay.receiveFromTarget(join(...answers));
    expect(types(relay.output.toTarget.splice(0))).toBe("BES");
    expect(relay.readsCaller).toBe(true);
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
