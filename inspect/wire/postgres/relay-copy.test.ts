/** COPY TO STDOUT through the relay: its plan, its rows, its limits, and what a server may not send in its place. */
import type { CopyForm } from "@sluice/core/copy-form.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { describe, expect, it } from "vitest";
import { cstring, encodeMessage, int16 } from "./frames.ts";
import { PostgresRelay } from "./relay.ts";
import { caller, describeFrames, extended, type Rule, TestJudge, World } from "./testing/world.ts";

const { query } = caller;
const form: CopyForm = { format: "text", header: false, delimiter: "\t", nullText: "\\N", quote: '"', escape: '"' };
const world = (rule: Rule): World => new World(new TestJudge(() => rule));
const rowsOf = (frames: readonly string[]): readonly string[] => frames.filter((frame) => frame.startsWith("d"));

describe("limits on COPY OUT", () => {
  it("count rows where their form is known: not the header", () => {
    const copy = { form, edits: null };
    for (const ask of [query, extended]) {
      expect(rowsOf(world({ rowsMax: 2, copy }).run(ask("copyout 2")))).toEqual(["d line 1\n", "d line 2\n"]);
      const cut = world({ rowsMax: 2, copy }).run(ask("copyout 3"));
      expect(rowsOf(cut)).toEqual(["d line 1\n", "d line 2\n"]);
      expect(cut).toContain("E 53400");
    }
    const headed = { form: { ...form, header: true }, edits: null };
    const whole = world({ rowsMax: 2, copy: headed }).run(query("copyout 3"));
    expect(whole).toEqual(["H", "d line 1\n", "d line 2\n", "d line 3\n", "c", "C COPY 3", "Z I"]);
  });

  it("withhold a COPY that is not what was judged, and go on", () => {
    const session = new World(new TestJudge((text) => ({ misfit: text.startsWith("copyout") })));
    expect(session.run(query("copyout 2"))).toEqual(["E 42501", "Z I"]);
    expect(session.run(query("begin"))).toEqual(["C BEGIN", "Z T"]);
  });
});

describe("what the target sends for COPY", () => {
  const begin = (overall: number, ...columns: number[]): Buffer =>
    encodeMessage("H", [Buffer.from([overall]), int16(columns.length), ...columns.map(int16)]);
  const data = (text: string): Buffer => encodeMessage("d", [Buffer.from(text)]);
  const end = Buffer.concat([
    encodeMessage("c", []),
    encodeMessage("C", [cstring("COPY 1")]),
    encodeMessage("Z", [Buffer.from("I")]),
  ]);
  const edits = [null, (): Buffer => Buffer.from("****")];
  const answered = (...messages: readonly Buffer[]): readonly string[] => {
    const relay = new PostgresRelay(new TestJudge(() => ({ copy: { form, edits } })), defaultLimits);
    relay.receiveFromCaller(query("copyout 1"));
    const received: Buffer[] = [];
    for (const message of messages) {
      relay.receiveFromTarget(message);
      received.push(Buffer.concat(relay.output.toCaller.splice(0)));
    }
    return describeFrames(Buffer.concat(received));
  };

  it("is edited by its plan, with notices between", () => {
    const notice = encodeMessage("N", [Buffer.from([0])]);
    const frames = answered(begin(0, 0, 0), data("1\tsecret\n2\tse"), notice, data("cret\n"), end);
    expect(frames.filter((frame) => !frame.startsWith("N"))).toEqual(["H", "d 1\t****\n", "d 2\t****\n", "c", "C COPY 1", "Z I"]);
  });

  it.each<[string, readonly Buffer[]]>([
    ["columns in another format than the whole", [begin(0, 0, 1)]],
    ["a format that nobody knows", [begin(2, 2, 2)]],
    ["COPY in both directions", [encodeMessage("W", [Buffer.from([0]), int16(0)])]],
    ["COPY that begins twice", [begin(0, 0, 0), begin(0, 0, 0)]],
    ["a row of a result among the data", [begin(0, 0, 0), encodeMessage("D", [int16(0)])]],
    ["a row of a result behind data", [begin(0, 0, 0), data("1\t2\n"), encodeMessage("D", [int16(0)])]],
    ["data before it begins", [data("1\t2\n")]],
    ["a row without its end", [begin(0, 0, 0), data("1\t2"), end]],
    ["a row of another number of columns", [begin(0, 0, 0), data("1\n")]],
  ])("ends the session: %s", (_name, messages) => {
    expect(() => answered(...messages)).toThrow(expect.objectContaining({ code: "target_protocol" }));
  });
});
