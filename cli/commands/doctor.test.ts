/** `sluice doctor` on installations in every state, as their admin API tells it. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Answers, type FakeAdmin, startFakeAdmin } from "../testing-admin.ts";

let fake: FakeAdmin;

beforeAll(async () => {
  fake = await startFakeAdmin();
});
afterAll(() => fake.close());
beforeEach(() => fake.reset());

describe("doctor", () => {
  const now = Date.now();
  const at = (ms: number): string => new Date(now + ms).toISOString();
  const day = 24 * 3_600_000;
  const node = (role: string, name: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> => ({
    role,
    name,
    state: "connected",
    snapshot: { sequence: "7", version: "v" },
    links: role === "gateway" ? [{ name: "agent-1", sessions: 1, roundTripUs: 300 }] : [],
    lastSeenAt: at(0),
    certificateIssuedAt: at(-day / 3),
    certificateExpiresAt: at((day * 2) / 3),
    ...more,
  });
  const installation = (nodes: readonly unknown[]): Answers => ({
    "SessionService/List": { body: { sessions: [] } },
    "AuthorityService/List": { body: { authorities: [{ fingerprint: "ab", state: "signing", expiresAt: at(3_000 * day) }] } },
    "NodeService/List": { body: { nodes } },
  });
  const whole = [node("gateway", "g1"), node("agent", "a1"), node("recorder", "r1", { snapshot: undefined })];

  it("finds a healthy installation, and says what to mend otherwise", async () => {
    fake.answers = installation([]);
    const healthy = await fake.run(["doctor"]);
    expect([healthy.status, healthy.written.out]).toEqual([0, expect.stringContaining("ok    admin API: answers")]);
    expect(healthy.written.out).toContain("ok    nodes: none have joined");
    const ill = await fake.run(["doctor", "--ready-file", "nowhere.json"]);
    expect([ill.status, ill.written.out]).toEqual([1, expect.stringContaining("MEND  ready file: No Sluice is running here")]);
  });

  it("looks at every process of an installation", async () => {
    fake.answers = installation(whole);
    const { status, written } = await fake.run(["doctor"]);
    expect([status, written.out]).toEqual([
      0,
      expect.stringContaining("ok    nodes: connected: 1 gateway, 1 agent, 1 recorder\n"),
    ]);
    expect(written.out).not.toContain("MEND");
  });

  it.each<[string, readonly unknown[], string]>([
    ["away", [...whole, node("agent", "a2", { state: "away" })], "agent a2: is away since"],
    ["nobody", whole.slice(0, 2), "recorder: none is connected"],
    ["refused", [...whole, node("gateway", "g2", { rejected: { sequence: "8", code: "x", message: "too new" } })], "(too new)"],
    ["behind", [...whole, node("gateway", "g2", { snapshot: { sequence: "5", version: "u" } })], "snapshot 5, others 7"],
    [
      "not renewed",
      [...whole, node("agent", "a2", { certificateIssuedAt: at(-day * 0.7), certificateExpiresAt: at(day * 0.3) })],
      "has not renewed",
    ],
    ["ended", [...whole, node("agent", "a2", { certificateExpiresAt: at(-1_000) })], "must join again"],
    ["no links", [node("gateway", "g1", { links: [] }), ...whole.slice(1)], "no agent is linked to any gateway"],
  ])("finds a node that is %s", async (_what, nodes, text) => {
    fake.answers = installation(nodes);
    const { status, written } = await fake.run(["doctor", "--json"]);
    const findings = JSON.parse(written.out) as { name: string; ok: boolean; text: string }[]; // as the command prints them
    expect(status).toBe(1);
    expect(findings.filter(({ ok }) => !ok).map((finding) => `${finding.name}: ${finding.text}`)).toEqual([
      expect.stringContaining(text),
    ]);
  });

  it("does not mind revoked nodes", async () => {
    fake.answers = installation([...whole, node("agent", "a2", { state: "revoked", certificateExpiresAt: at(-1_000) })]);
    expect((await fake.run(["doctor"])).status).toBe(0);
  });

  it("tells a store that does not answer, clocks that are apart, and an authority near its end", async () => {
    fake.answers = installation(whole);
    fake.probed = { status: 503 };
    const store = await fake.run(["doctor"]);
    expect([store.status, store.written.out]).toEqual([1, expect.stringContaining("MEND  store: does not answer")]);
    expect(fake.calls).toEqual([]);

    fake.probed = { status: 200, date: new Date(now - 600_000).toUTCString() };
    const clock = await fake.run(["doctor"]);
    expect([clock.status, clock.written.out]).toEqual([
      1,
      expect.stringMatching(/MEND {2}clock: this machine's is 60\d s ahead of/),
    ]);

    fake.probed = { status: 200 };
    fake.answers["AuthorityService/List"] = {
      body: { authorities: [{ fingerprint: "ab", state: "signing", expiresAt: at(10 * day) }] },
    };
    const authority = await fake.run(["doctor"]);
    expect([authority.status, authority.written.out]).toEqual([1, expect.stringContaining("sluice ca rotate")]);
  });
});
