/** The agent's own copy of what it may reach: what it takes, what it keeps, what it never goes back to. */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock } from "@sluice/core/system.ts";
import type { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { SnapshotContent_Audience } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Declarations, openDeclarations } from "./declarations.ts";
import { makeContentSigner } from "./testing-content.ts";
import { resource } from "./tunnel/tunnel-harness.ts";

let directory: string;
let authority: TestAuthority;
let identity: LiveIdentity;
let signed: Awaited<ReturnType<typeof makeContentSigner>>;
let changes: number;
const opened: Declarations[] = [];
const verdicts: (readonly [bigint, string | null])[] = [];
const logged: string[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-declarations-"));
  authority = await makeTestAuthority();
  identity = await testIdentity("agent", "a1", {}, authority);
  signed = await makeContentSigner(authority);
  changes = 0;
  verdicts.length = 0;
  logged.length = 0;
});

afterEach(async () => {
  for (const one of opened.splice(0)) await one.close(); // what is being written is written
  await rm(directory, { recursive: true, force: true });
});

test("what is signed is in force, newer replaces older, older never comes back", async () => {
  const declarations = await open();
  expect([declarations.sequence, declarations.find("orders")]).toEqual([0n, undefined]);
  declarations.receive(signed(5n, { resources: [resource()] }));
  await declarations.ready();
  expect([declarations.sequence, declarations.find("orders")]).toEqual([5n, resource()]);
  declarations.receive(signed(6n, { resources: [resource({ name: "payroll" })] }));
  expect([declarations.find("orders"), declarations.find("payroll")?.name]).toEqual([undefined, "payroll"]);
  declarations.receive(signed(5n, { resources: [resource()] }));
  expect([declarations.sequence, declarations.find("orders")]).toEqual([6n, undefined]);
  // What is old is no fault of the newest: nobody is told.
  expect(verdicts).toEqual([
    [5n, null],
    [6n, null],
  ]);
  expect(changes).toBe(2);
});

test("the same again is agreed to and changes nothing", async () => {
  const declarations = await open();
  const bytes = signed(5n, { resources: [resource()] });
  for (let replica = 0; replica < 3; replica++) declarations.receive(bytes);
  expect([changes, verdicts.length]).toEqual([1, 3]);
});

test("a restart goes on with the last one, also when nobody sends anything", async () => {
  const first = await open();
  first.receive(signed(5n, { resources: [resource()] }));
  first.receive(signed(6n, { resources: [resource({ name: "payroll" })] }));
  await first.close();
  expect((await stat(join(directory, "policy", "resources.bin"))).mode & 0o777).toBe(0o600);
  const second = await open();
  await second.ready();
  expect([second.sequence, second.find("payroll")?.name]).toEqual([6n, "payroll"]);
  second.receive(signed(5n, { resources: [resource()] }));
  expect(second.sequence).toBe(6n);
});

test("a kept one that was changed is not used, and still nothing older is taken", async () => {
  const first = await open();
  first.receive(signed(6n, { resources: [resource()] }));
  await first.close();
  const file = join(directory, "policy", "resources.bin");
  const bytes = await readFile(file);
  for (const damaged of [Buffer.from(bytes).fill(0, 40, 60), bytes.subarray(0, bytes.length - 10)]) {
    await writeFile(file, damaged);
    const second = await open();
    expect([second.sequence, second.find("orders")]).toEqual([0n, undefined]);
    second.receive(signed(5n, { resources: [resource()] }));
    expect(second.sequence).toBe(0n);
    second.receive(signed(6n, { resources: [resource()] }));
    expect(second.sequence).toBe(6n);
    await second.close();
  }
});

test("what is not signed for agents by this installation leaves the former one in force", async () => {
  const declarations = await open();
  declarations.receive(signed(5n, { resources: [resource()] }));
  const foreign = await makeContentSigner(await makeTestAuthority("Another"));
  for (const bytes of [
    foreign(6n, { resources: [] }),
    signed(6n, { resources: [] }, { audience: SnapshotContent_Audience.GATEWAY }),
    signed(6n, { resources: [] }, { capabilityMin: 99 }),
    Buffer.from("nothing of the kind"),
  ]) {
    declarations.receive(bytes);
  }
  expect([declarations.sequence, declarations.find("orders")?.name]).toEqual([5n, "orders"]);
  expect(logged.filter((line) => line.includes("resources not taken"))).toHaveLength(4);
});

test.each([
  ["no JSON", "{"],
  ["no list", { resources: {} }],
  ["a resource without a name", { resources: [{ protocol: "postgres" }] }],
])("signed content that is %s is told to the control plane as refused", async (_, body) => {
  const declarations = await open();
  declarations.receive(signed(5n, { resources: [resource()] }));
  declarations.receive(signed(6n, body));
  expect(declarations.sequence).toBe(5n);
  expect(verdicts.at(-1)).toEqual([6n, "incompatible"]);
});

test("a resource of a newer kind is left out, the others are there, and what is added to one is passed over", async () => {
  const declarations = await open();
  const newer = { ...resource({ name: "newer" }), protocol: "quantum" };
  declarations.receive(signed(5n, { resources: [newer, { ...resource(), added: { later: true } }], more: 1 }));
  expect([declarations.find("newer"), declarations.find("orders")?.name]).toEqual([undefined, "orders"]);
  expect(logged.some((line) => line.includes("newer"))).toBe(true);
});

test("waiting for the first one can be given up", async () => {
  const declarations = await open();
  const giveUp = new AbortController();
  const ready = declarations.ready(giveUp.signal);
  giveUp.abort(new Error("stopped"));
  await expect(ready).rejects.toThrow("stopped");
});

async function open(): Promise<Declarations> {
  const write = (...words: unknown[]): void => void logged.push(JSON.stringify(words));
  const declarations = await openDeclarations({
    identity,
    file: join(directory, "policy", "resources.bin"),
    clock: systemClock,
    limits: defaultLimits,
    log: { info: write, warn: write, error: write },
    verdict: (sequence: bigint, _: string, fault: GatewayError | null) => void verdicts.push([sequence, fault?.code ?? null]),
    changed: () => void changes++,
  });
  opened.push(declarations);
  return declarations;
}
