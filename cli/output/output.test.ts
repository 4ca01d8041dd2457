import type { ReplayItem } from "@sluice/rpc/recordings.ts";
import { describe, expect, it } from "vitest";
import { createReplayPrinter } from "./replay.ts";
import { formatTable, formatTime, visible } from "./table.ts";

describe("tables", () => {
  it("lines columns up, cuts long cells, marks NULL", () => {
    expect(
      formatTable(
        ["a", "long title"],
        [
          ["1", null],
          ["x".repeat(9), "2"],
        ],
        { cellWidthMax: 5 },
      ),
    ).toEqual(["a     | long…", "------+------", "1     | ∅", "xxxx… | 2"]);
  });

  it("lets no control character of a value reach the terminal", () => {
    const hostile = "a\u001b[2Jb\u0007\u202ec\r\nd\u009b";
    // oxlint-disable-next-line no-control-regex -- the point of the test
    expect(formatTable(["x"], [[hostile]]).join("")).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/u);
    expect(visible(hostile)).toBe("a\\u001b[2Jb\\u0007\\u202ec\\r\\nd\\u009b");
  });

  it("shows times as they are stored", () => {
    expect([formatTime(0), formatTime("2026-01-01T00:00:00Z"), formatTime(null), formatTime("never")]).toEqual([
      "1970-01-01 00:00:00.000Z",
      "2026-01-01 00:00:00.000Z",
      "-",
      "-",
    ]);
  });
});

describe("replay", () => {
  it("tells a session as a timeline", () => {
    const decision = {
      effect: "mask",
      rule: "agents/mask-pii",
      reason: "1 output column is masked.",
      columns: [{ name: "id" }, { name: "ssn", mask: { entity: "US_SSN", operator: "partial" } }],
    };
    const items: readonly ReplayItem[] = [
      {
        kind: "opened",
        atMs: 0,
        opened: {
          resource: "orders",
          database: "orders",
          principal: { subject: "ada", groups: ["agents"] },
          clientAddress: "127.0.0.1",
          policyVersion: "v",
          recording: "strict",
        },
      },
      {
        kind: "statement",
        atMs: 1_250,
        statement: { phase: "query", text: "SELECT id,\n ssn FROM c", parameters: ["7", null], decision },
      },
      {
        kind: "columns",
        atMs: 1_260,
        columns: [
          { name: "id", typeOid: 23 },
          { name: "ssn", typeOid: 25 },
        ],
      },
      { kind: "row", atMs: 1_260, values: ["1", "***-**-1234"] },
      { kind: "complete", atMs: 1_260, tag: "SELECT 1" },
      { kind: "error", atMs: 1_300, fields: { severity: "ERROR", sqlState: "42501", message: "not allowed", hint: "Ask." } },
      { kind: "alert", atMs: 1_300, alert: { code: "x", message: "look" } },
      { kind: "finished", atMs: 1_300, finished: {} },
      { kind: "closed", atMs: 2_000, closed: { code: "closed", statements: 2, denied: 1, masked: 1 } },
    ];
    expect(replay(items)).toBe(`ada (agents) on orders, database orders, from 127.0.0.1
started 1970-01-01 00:00:00.000Z, policy v, recording strict

   +1.250s  SELECT id,
             ssn FROM c
        with $1 = '7', $2 = NULL
        → mask by agents/mask-pii: 1 output column is masked.
          masked: ssn (US_SSN, partial)
        id | ssn
        ---+------------
        1  | ***-**-1234
        SELECT 1
        ERROR 42501: not allowed
        HINT: Ask.
   +1.300s  ALERT x: look
   +2.000s  closed (closed): 2 statements, 1 denied, 1 masked
`);
  });

  it("shows the first rows of a large result and counts the rest", () => {
    const rows = Array.from({ length: 1_000 }, (_, n): ReplayItem => ({ kind: "row", atMs: 0, values: [`v${n}`] }));
    const text = replay([{ kind: "columns", atMs: 0, columns: [{ name: "a", typeOid: 25 }] }, ...rows]);
    expect(text).toContain("v199\n");
    expect(text).not.toContain("v200\n");
    expect(text).toContain("and 800 more rows");
  });
});

function replay(items: readonly ReplayItem[]): string {
  let text = "";
  const printer = createReplayPrinter((part) => {
    text += part;
  });
  for (const item of items) printer.print(item);
  printer.end();
  return text;
}
