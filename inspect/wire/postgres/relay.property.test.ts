/** Properties over random sessions: with everything allowed the relay cannot be told from the server; nothing runs unjudged. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ColumnPlan } from "../judgement.ts";
import { caller, direct, sequence, TestJudge, World } from "./testing/world.ts";

const names = fc.constantFrom("", "s", "t");
const portals = fc.constantFrom("", "p");
const texts = fc.constantFrom(
  "rows a 2",
  "rows b 7",
  "write u 1",
  "boom 2",
  "badplan",
  "notice",
  "begin",
  "commit",
  "rollback",
  "nonsense",
  "",
  "copyout 3",
);
const batches = fc.constantFrom(
  "rows a 1; rows b 2",
  "begin; write x 1",
  "write y 1; boom 1",
  "rows a 1; nonsense",
  "commit; rows c 1",
);
const naming = fc.constantFrom(
  "deallocate s",
  "prepare s as rows c 1",
  "declare s cursor for rows d 1",
  "close s",
  "discard all",
  "begin",
  "commit",
);
const copy = fc.constantFrom(
  Buffer.concat([caller.query("copyin"), caller.copyData("one"), caller.copyData("two"), caller.copyDone]),
  Buffer.concat([caller.query("copyin"), caller.copyFail]),
  Buffer.concat([caller.copyData("stray"), caller.copyDone]),
);
const message = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(names, texts).map(([name, text]) => caller.parse(name, text)) },
  { weight: 6, arbitrary: fc.tuple(portals, names).map(([portal, name]) => caller.bind(portal, name)) },
  { weight: 6, arbitrary: fc.tuple(portals, fc.constantFrom(0, 1, 2)).map(([portal, max]) => caller.execute(portal, max)) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom("S" as const, "P" as const), names).map(([of, name]) => caller.describe(of, name)),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom("S" as const, "P" as const), names).map(([of, name]) => caller.close(of, name)),
  },
  { weight: 5, arbitrary: fc.constant(caller.sync) },
  { weight: 1, arbitrary: fc.constant(caller.flush) },
  { weight: 3, arbitrary: fc.oneof(texts, batches).map((text) => caller.query(text)) },
  { weight: 1, arbitrary: copy },
);
const session = fc
  .array(message, { minLength: 1, maxLength: 24 })
  .map((messages) => Buffer.concat([...messages, caller.sync, caller.sync]));
const pace = fc.array(fc.nat(23), { minLength: 1, maxLength: 60 });
const runs = { numRuns: Number(process.env["SLUICE_PROPERTY_RUNS"] ?? 250) };

describe("relay", () => {
  it("with everything allowed gives the caller what the server itself gives, at any pace", () => {
    fc.assert(
      fc.property(session, pace, fc.boolean(), fc.boolean(), (bytes, numbers, pending, translated) => {
        const expected = direct(bytes);
        // `scrub` sends simple queries as extended ones; only texts of errors may differ.
        const world = new World(new TestJudge(() => ({ pendingFirst: pending, scrub: translated })));
        expect(world.run(bytes, sequence(numbers))).toEqual(expected.received);
        expect(world.thrown).toBeUndefined();
        expect(world.server.committed).toEqual(expected.server.committed);
        expect(world.server.copied).toEqual(expected.server.copied);
      }),
      runs,
    );
  });

  it("edits every row by the plan of the text that made it, whatever happens to names", () => {
    const reads = fc.constantFrom("rows a 1", "rows b 1", "rows c 1", "rows d 1", "nonsense");
    const few = fc.constantFrom("", "s");
    const either = fc.constantFrom("S" as const, "P" as const);
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.tuple(few, reads).map(([name, text]) => caller.parse(name, text)) },
      {
        weight: 4,
        arbitrary: fc.tuple(few, few).map(([portal, name]) => Buffer.concat([caller.bind(portal, name), caller.execute(portal)])),
      },
      { weight: 1, arbitrary: few.map((portal) => caller.execute(portal)) },
      { weight: 1, arbitrary: fc.constant(caller.bind("", "missing")) },
      { weight: 1, arbitrary: fc.tuple(either, few).map(([of, name]) => caller.close(of, name)) },
      { weight: 4, arbitrary: fc.constant(caller.sync) },
      { weight: 1, arbitrary: reads.map((text) => caller.query(text)) },
      { weight: 2, arbitrary: naming.map((text) => caller.query(text)) },
      {
        weight: 1,
        arbitrary: naming.map((text) => Buffer.concat([caller.parse("", text), caller.bind("", ""), caller.execute("")])),
      },
    );
    const nastySession = fc.array(step, { minLength: 1, maxLength: 30 }).map((list) => Buffer.concat([...list, caller.sync]));
    fc.assert(
      fc.property(nastySession, pace, fc.boolean(), (bytes, numbers, scrub) => {
        const world = new World(new TestJudge((text) => ({ mask: maskByText, scrub: scrub && text.startsWith("rows a") })));
        for (const frame of world.run(bytes, sequence(numbers))) if (frame.startsWith("D ")) expect(frame).toBe("D masked");
        expect(world.thrown).toBeUndefined();
      }),
      runs,
    );
  });

  it("never releases more rows than allowed, and a limited write that exceeds is never committed", () => {
    const simple = fc
      .constantFrom("rows a 2", "rows b 7", "write w 6", "write v 2", "begin", "commit", "boom 5")
      .chain((text) =>
        fc.constantFrom(
          caller.query(text),
          Buffer.concat([caller.parse("", text), caller.bind("", ""), caller.execute("")]),
          caller.sync,
        ),
      );
    const limited = fc
      .array(fc.oneof(simple, message), { minLength: 1, maxLength: 20 })
      .map((list) => Buffer.concat([...list, caller.sync]));
    fc.assert(
      fc.property(limited, pace, fc.boolean(), (bytes, numbers, scrub) => {
        const judge = new TestJudge((text) => ({ rowsMax: 3, scrub, undo: /write/.test(text) && !text.includes(";") }));
        const world = new World(judge);
        const received = world.run(bytes, sequence(numbers));
        for (const frame of received) if (frame.startsWith("D ")) expect(Number(frame.split("#")[1])).toBeLessThanOrEqual(3);
        expect(world.thrown).toBeUndefined();
        // A caller that takes fewer rows than the limit by a partial Execute has broken none.
        if (!received.includes("s")) expect(world.server.committed).not.toContain("w");
      }),
      runs,
    );
  });
});

/** Masks what the text itself would return; another text's row stays visible, and the test sees it. */
function maskByText(text: string): ColumnPlan {
  const made = /^(declare|execute|fetch)/.test(text) ? "" : text;
  return [
    (source, start, end) => (source.toString("utf8", start, end).startsWith(`${made}#`) ? Buffer.from("masked") : undefined),
  ];
}
