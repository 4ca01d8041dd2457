/** The comparison of outputs can fail: a difference that nobody has explained is one, also beside explained ones. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { explain, hunksOf } from "./differences.ts";

const refusal = [
  "ERROR:  syntax error",
  'DETAIL:  {"code":"denied","decision":"d_abc","rule":"builtin/unparsed"}',
  "HINT:  The gateway could not parse this statement, so it was not sent to the database.",
];

it("explains what is listed for a script, and nothing else", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-differences-"));
  try {
    const [direct, gateway] = [join(directory, "direct.out"), join(directory, "gateway.out")];
    await writeFile(direct, ["ERROR:  syntax error", "one", " 1", "in /a/direct", "end", ""].join("\n"));
    await writeFile(gateway, [...refusal, "one", " 2", "in /a/gateway", "end", ""].join("\n"));
    const hunks = await hunksOf(direct, gateway, ["/a/direct", "/a/gateway"]);
    expect(hunks.map((hunk) => explain("strings", hunk)?.name)).toEqual(["syntax error said by the gateway", undefined]);
    expect(hunks.map((hunk) => explain("int4", hunk))).toEqual([undefined, undefined]);
    expect(hunks[1]).toMatchObject({ direct: " 1", gateway: " 2" });
    expect(await hunksOf(direct, direct, ["x", "x"])).toEqual([]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
