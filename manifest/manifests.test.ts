import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { editorSchema } from "./json-schema.ts";
import { parseManifests } from "./manifests.ts";
import { parseDurationMs } from "./words.ts";

const orders = readFileSync(new URL("../test/fixtures/manifests/orders.yaml", import.meta.url), "utf8");
const documents = orders.split(/^---\n/m);

describe("parseManifests", () => {
  it("takes the documented example", () => {
    const { snapshot, faults, documents: read } = parseManifests([{ path: "orders.yaml", text: orders }]);
    expect(faults).toEqual([]);
    expect(read.map(({ kind, name }) => `${kind}/${name}`)).toEqual([
      "Resource/orders",
      "Classifier/ssn",
      "Classifier/email",
      "Classifier/card",
      "Policy/agents",
      "Policy/dba",
    ]);
    expect(snapshot.resources).toEqual([
      {
        name: "orders",
        labels: { env: "prod", sensitivity: "high" },
        protocol: "postgres",
        target: { host: "127.0.0.1", port: 5432, database: "orders", databases: [], tls: { mode: "disable" } },
        credential: { username: { kind: "value", value: "orders_app" }, password: { kind: "env", name: "ORDERS_PASSWORD" } },
        inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "auto" },
      },
    ]);
    expect(snapshot.policies[0]?.rules.slice(1)).toEqual([
      {
        name: "mask-pii",
        effect: "mask",
        entities: ["US_SSN", "EMAIL_ADDRESS", "CREDIT_CARD"],
        operator: { kind: "partial", keepFirst: 0, keepLast: 4 },
        influences: "equality",
      },
      { name: "no-bulk-export", effect: "deny", when: "statement.bulkExport", reason: "bulk export is not allowed for agents" },
      { name: "row-cap", effect: "limit", rows: 1000 },
      {
        name: "writes-need-a-dba",
        effect: "approve",
        when: "statement.class == 'write'",
        reviewers: { groups: ["dba"], count: 1 },
        timeoutMs: 60_000,
      },
    ]);
  });

  it("takes everything that a target and its credentials may have", () => {
    const jwe = Buffer.from('{"protected":"a","recipients":[{}],"iv":"b","ciphertext":"c","tag":"d"}').toString("base64url");
    const { snapshot, faults } = parseManifests([
      {
        path: "f",
        text: `
apiVersion: sluice/v1
kind: Resource
metadata: { name: a }
spec:
  protocol: postgres
  target: { address: "db-1:5432", database: a, failover: ["db-2:5432", "[::1]:5433"], role: primary, pool: { connections: 8 } }
  agents: { labels: { site: eu, tier: gold } }
  credentials:
    readOnly:
      username: { vault: { database: database/reader, field: username } }
      password: { vault: { database: database/reader, field: password } }
    readWrite:
      username: { kubernetes: { secret: orders, key: username } }
      password: { vault: { kv: team/kv/prod/orders, mount: team/kv, field: password, server: eu } }
---
apiVersion: sluice/v1
kind: Resource
metadata: { name: b }
spec:
  protocol: postgres
  target: { address: "db:5432", database: b, role: any, pool: { connections: 1, idle: 5m } }
  credential:
    username: { kubernetes: { secret: shop/orders.db, key: user-name } }
    password: { sealed: ${jwe} }
`,
      },
    ]);
    expect(faults).toEqual([]);
    expect(snapshot.resources).toEqual([
      {
        name: "a",
        labels: {},
        protocol: "postgres",
        target: {
          host: "db-1",
          port: 5432,
          database: "a",
          databases: [],
          tls: { mode: "verify-full" },
          failover: [
            { host: "db-2", port: 5432 },
            { host: "::1", port: 5433 },
          ],
          role: "primary",
          pool: { connectionsMax: 8, idleMs: 60_000 },
        },
        agents: { site: "eu", tier: "gold" },
        readOnlyCredential: {
          username: { kind: "vaultDatabase", vault: "default", mount: "database", role: "reader", field: "username" },
          password: { kind: "vaultDatabase", vault: "default", mount: "database", role: "reader", field: "password" },
        },
        credential: {
          username: { kind: "kubernetes", namespace: null, secret: "orders", key: "username" },
          password: { kind: "vaultKv", vault: "eu", mount: "team/kv", path: "prod/orders", field: "password" },
        },
        inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "auto" },
      },
      {
        name: "b",
        labels: {},
        protocol: "postgres",
        target: {
          host: "db",
          port: 5432,
          database: "b",
          databases: [],
          tls: { mode: "verify-full" },
          role: "any",
          pool: { connectionsMax: 1, idleMs: 300_000 },
        },
        credential: {
          username: { kind: "kubernetes", namespace: "shop", secret: "orders.db", key: "user-name" },
          password: { kind: "sealed", jwe },
        },
        inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "auto" },
      },
    ]);
  });

  it("fills in defaults and takes every operator", () => {
    const { snapshot, faults } = parseManifests([
      {
        path: "f",
        text: `
apiVersion: sluice/v1
kind: Resource
metadata: { name: a }
spec:
  protocol: postgres
  target: { address: "[::1]:5432", database: a, databases: [b], tls: { serverName: db, caFile: /ca.pem } }
  credential: { username: { file: /user }, password: { file: /password } }
  inspection: { bulk: { rows: 1, limit: 2 }, safeFunctions: [public.f], recording: strict }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: id }
spec: { entity: BADGE, values: { pattern: 'B-[0-9]{6}', validator: luhn, context: [badge] } }
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: p }
spec:
  principals: { claims: { team: a } }
  resources: { names: [a] }
  rules:
    - { name: a, effect: mask, entities: [BADGE], operator: null }
    - { name: b, effect: mask, entities: [BADGE], operator: "null", influences: deny }
    - { name: c, effect: mask, entities: [BADGE], operator: redact }
    - { name: d, effect: mask, entities: [BADGE], operator: { partial: { keepFirst: 2 } } }
    - { name: e, effect: approve, reviewers: { groups: [x] } }
---
apiVersion: sluice/v1
kind: IdentityProvider
metadata: { name: corp }
spec: { issuer: "https://login.example.com/", audiences: [sluice] }
---
`,
      },
    ]);
    expect(faults).toEqual([]);
    expect(snapshot.resources[0]?.target).toEqual({
      host: "::1",
      port: 5432,
      database: "a",
      databases: ["b"],
      tls: { mode: "verify-full", caFile: "/ca.pem", serverName: "db" },
    });
    expect(snapshot.classifiers[0]?.values).toEqual({
      kind: "pattern",
      pattern: "B-[0-9]{6}",
      validator: "luhn",
      context: ["badge"],
    });
    expect(snapshot.policies[0]?.principals).toEqual({ claims: { team: "a" } });
    expect(snapshot.policies[0]?.rules.map((rule) => ("operator" in rule ? rule.operator : rule))).toEqual([
      { kind: "null" },
      { kind: "null" },
      { kind: "redact" },
      { kind: "partial", keepFirst: 2, keepLast: 0 },
      { name: "e", effect: "approve", reviewers: { groups: ["x"], count: 1 }, timeoutMs: 300_000 },
    ]);
    expect(snapshot.identityProviders).toEqual([
      {
        name: "corp",
        issuer: "https://login.example.com/",
        audiences: ["sluice"],
        algorithms: ["RS256", "ES256", "PS256", "EdDSA"],
        groupsClaim: "groups",
      },
    ]);
  });

  it("finds the place of a value, or of the nearest one around it", () => {
    const set = parseManifests([{ path: "orders.yaml", text: `# a comment\n${orders}` }]);
    const line = (path: readonly (string | number)[]): number | undefined => set.locate("Policy", "agents", path)?.line;
    const lineOf = (text: string): number => `# a comment\n${orders}`.split("\n").findIndex((one) => one.includes(text)) + 1;
    expect(line(["spec", "rules", 2, "when"])).toBe(lineOf("no-bulk-export"));
    expect(line(["spec", "rules", 4, "when"])).toBe(lineOf("class == 'write'"));
    expect(line(["spec", "rules", 4, "nothing", "here"])).toBe(lineOf("writes-need-a-dba"));
    expect(set.locate("Policy", "nobody", [])).toBeUndefined();
  });

  it("gives one version to one content, whatever the order and the writing", () => {
    const version = parseManifests([{ path: "a", text: orders }]).snapshot.version;
    expect(version).toMatch(/^[0-9a-f]{16}$/);
    fc.assert(
      fc.property(fc.shuffledSubarray(documents, { minLength: documents.length }), fc.nat(documents.length), (shuffled, cut) => {
        const files = [shuffled.slice(0, cut), shuffled.slice(cut)].map((part, index) => ({
          path: `${index}`,
          text: part.join("---\n"),
        }));
        expect(parseManifests(files).snapshot.version).toBe(version);
      }),
      { numRuns: 20 },
    );
    const [first = "", second = ""] = orders.split("\n").filter((line) => /name: (read|row-cap),/.test(line));
    const exchanged = orders.replace(first, "@").replace(second, first).replace("@", second);
    expect(exchanged).not.toBe(orders);
    expect(parseManifests([{ path: "a", text: exchanged }]).snapshot.version).toBe(version);
    expect(parseManifests([{ path: "a", text: orders.replace("rows: 1000", "rows: 1001") }]).snapshot.version).not.toBe(version);
  });

  it("never throws, and never applies part of a set", () => {
    const lines = orders.split("\n");
    const damaged = fc
      .tuple(
        fc.nat(lines.length - 1),
        fc.oneof(fc.string(), fc.constantFrom("- x", "  a: {", "&a *a", "  null: null", "spec: 1", "? - 1")),
      )
      .map(([at, text]) => [...lines.slice(0, at), text, ...lines.slice(at + 1)].join("\n"));
    fc.assert(
      fc.property(fc.oneof(fc.string(), damaged), (text) => {
        const { faults, snapshot } = parseManifests([{ path: "f", text }]);
        if (faults.length > 0) expect(snapshot.resources.length + snapshot.policies.length).toBe(0);
        for (const { line, message } of faults) {
          expect(line).toBeGreaterThan(0);
          expect(message.length).toBeGreaterThan(10);
        }
      }),
      { numRuns: 150 },
    );
  });

  it("expands an alias to what its anchor meant at that place", () => {
    const text = `
apiVersion: sluice/v1
kind: Policy
metadata: { name: p }
spec:
  principals:
    groups: &list [&ref first]
    subjects: [*ref]
    kinds: [&ref second]
    owners: *list
    issuers: [*ref]
  resources: {}
  rules: [{ name: a, effect: allow }]
`;
    const { faults, snapshot } = parseManifests([{ path: "f", text }]);
    expect(faults).toEqual([]);
    expect(snapshot.policies[0]?.principals).toEqual({
      groups: ["first"],
      subjects: ["first"],
      kinds: ["second"],
      owners: ["first"],
      issuers: ["second"],
    });
  });

  it("keeps names that are special in JavaScript as plain names", () => {
    const text = documents[0]?.replace("env: prod", "__proto__: prod, constructor: x") ?? "";
    const { faults, snapshot } = parseManifests([{ path: "f", text }]);
    expect(faults).toEqual([]);
    expect(Object.entries(snapshot.resources[0]?.labels ?? {})).toEqual([
      ["__proto__", "prod"],
      ["constructor", "x"],
      ["sensitivity", "high"],
    ]);
  });
});

describe("notations", () => {
  it.each([
    ["500ms", 500],
    ["60s", 60_000],
    ["5m", 300_000],
    ["1h", 3_600_000],
    ["1d", undefined],
    ["", undefined],
    ["-1s", undefined],
  ])("%s is %s ms", (text, expected) => {
    expect(parseDurationMs(text)).toBe(expected);
  });
});

describe("the schema for editors", () => {
  it("is the committed one (else run manifest/print-schema.ts)", () => {
    const committed: unknown = JSON.parse(
      readFileSync(new URL("../docs/reference/manifest.schema.json", import.meta.url), "utf8"),
    );
    expect(committed).toEqual(JSON.parse(JSON.stringify(editorSchema())));
  });
});
