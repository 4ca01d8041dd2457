/** Who may come in: tokens that are good, and every way in which one is not. A refusal never repeats the token. */
import { createHmac, createPublicKey, type JsonWebKey } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { get } from "node:https";
import { join } from "node:path";
import { generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Issuer, startIssuer } from "./support/issuer.ts";
import { type Orders, startOrders } from "./support/orders.ts";
import { RawClient } from "./support/raw-client.ts";
import { codeOf, errorsOf, rowsOf } from "./support/wire-messages.ts";

const AUDIENCE = "sluice-test";

let orders: Orders;
let issuer: Issuer;
beforeAll(async () => {
  issuer = await startIssuer(AUDIENCE);
  orders = await startOrders();
  const file = join(orders.sluice.directory, "provider.yaml");
  await writeFile(
    file,
    `apiVersion: sluice/v1
kind: IdentityProvider
metadata: { name: corporate }
spec:
  issuer: ${issuer.url}
  audiences: [${AUDIENCE}]
  caFile: ${issuer.caFile}
`,
  );
  expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0 });
});
afterAll(async () => {
  await orders?.stop();
  await issuer?.stop();
});

const connect = (): Promise<RawClient> => RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });

async function refusalOf(token: string, database = "orders"): Promise<Readonly<Record<string, string>>> {
  const client = await connect();
  const answers = await client.login({ token, database });
  expect(
    answers.some(({ type, body }) => type === "R" && body.readInt32BE(0) === 0),
    "it was let in",
  ).toBe(false);
  const error = errorsOf(answers)[0]!;
  expect(error["S"]).toBe("FATAL");
  if (token.length > 20) expect(JSON.stringify(error)).not.toContain(token.slice(0, 20));
  await client.untilClosed();
  return error;
}

const base64url = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const claimsOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as Record<string, unknown>; // a JWT's middle part

describe("tokens of the development issuer", () => {
  it("refuses what is no token", async () => {
    for (const password of ["secret", "a.b.c", "....", "null", "x".repeat(15_000), "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"]) {
      const error = await refusalOf(password);
      expect(error).toMatchObject({ C: "28000", M: expect.stringMatching(/\w+ \w+/), H: expect.stringMatching(/\w+ \w+/) });
      expect(codeOf(error)).toBe("login_failed");
    }
  });

  it("refuses an expired token", async () => {
    const token = await orders.sluice.token("ada", ["agents"], "--ttl", "1s");
    await new Promise((resolve) => setTimeout(resolve, 2_200));
    const error = await refusalOf(token);
    expect(error).toMatchObject({ C: "28000", M: expect.stringMatching(/expired/) });
    expect(JSON.parse(error["D"]!)).toMatchObject({ code: "login_failed", reason: "expired" });
  });

  it("refuses unsigned, re-signed and altered tokens", async () => {
    const [header, body, signature] = orders.agent.split(".") as [string, string, string]; // a JWT has three parts
    const claims = claimsOf(orders.agent);
    const original = JSON.parse(Buffer.from(header, "base64url").toString()) as Record<string, unknown>; // a JWT's first part
    const { privateKey } = await generateKeyPair("RS256");
    const publicKey = await publicKeyOf(orders.sluice.ready.issuer!);
    const hmac = (input: string): string => createHmac("sha256", publicKey).update(input).digest("base64url");
    const hsInput = `${base64url({ ...original, alg: "HS256" })}.${body}`;
    const forged: Record<string, string> = {
      none: `${base64url({ ...original, alg: "none" })}.${body}.`,
      "None with signature": `${base64url({ ...original, alg: "None" })}.${body}.${signature}`,
      "no signature": `${header}.${body}.`,
      "other groups": `${header}.${base64url({ ...claims, groups: ["dba"] })}.${signature}`,
      "HS256 with the public key": `${hsInput}.${hmac(hsInput)}`,
      "another key": await new SignJWT(claims)
        .setProtectedHeader({ alg: "RS256", kid: String(original["kid"]) })
        .sign(privateKey),
      "a key of its own": await new SignJWT(claims)
        .setProtectedHeader({ alg: "RS256", jku: "https://127.0.0.1:1/keys", kid: "mine" })
        .sign(privateKey),
    };
    for (const [name, token] of Object.entries(forged)) {
      const error = await refusalOf(token);
      expect(codeOf(error), name).toBe("login_failed");
    }
    const client = await RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token: orders.agent });
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
  });

  it("answers the same for an unknown resource, a forbidden one and an unlisted database", async () => {
    const nobody = await orders.sluice.token("eve", ["visitors"]);
    const errors = [
      await refusalOf(orders.agent, "nowhere"),
      await refusalOf(nobody, "orders"),
      await refusalOf(orders.agent, "orders/postgres"),
      await refusalOf(orders.agent, "template1"),
    ];
    for (const error of errors) expect(error).toEqual(errors[0]);
    expect(errors[0]).toMatchObject({ C: "3D000" });
    expect(codeOf(errors[0])).toBe("resource_unknown");
  });

  it("takes identity from the token, never from the user name or options", async () => {
    const client = await connect();
    const answers = await client.login({
      token: orders.agent,
      user: "dora",
      parameters: { options: "-c sluice.task=nightly -c sluice.groups=dba", application_name: "dba" },
    });
    expect(errorsOf(answers)).toEqual([]);
    expect(rowsOf(await client.query("SELECT ssn FROM customers WHERE id = 1"))).toEqual([["***-**-9382"]]);
    await client.end();
    await expect
      .poll(async () => (await orders.sluice.cli("sessions", "replay", "last", "--json")).stdout)
      .toMatch(/"subject":"ada".*"task":"nightly"/);
  });
});

describe("tokens of a company's own issuer", () => {
  it("takes a good one, groups from its claim", async () => {
    const client = await RawClient.login({
      port: orders.sluice.port,
      caFile: orders.sluice.ready.caFile,
      token: await issuer.token(),
    });
    expect(rowsOf(await client.query("SELECT ssn FROM customers WHERE id = 1"))).toEqual([["***-**-9382"]]);
    await client.end();
  });

  it.each([
    ["audience", { aud: "somebody-else" }],
    ["audience", { aud: undefined }],
    ["issuer", { iss: "https://127.0.0.1:1" }],
    ["issuer", { iss: undefined }],
    ["expired", { exp: Math.floor(Date.now() / 1000) - 120 }],
    [/./, { exp: undefined }],
    ["not_yet_valid", { nbf: Math.floor(Date.now() / 1000) + 3_600 }],
    [/./, { sub: undefined }],
    [/./, { sub: "" }],
    [/./, { sub: 7 }],
  ] as const)("refuses for its %s: %o", async (reason, claims) => {
    const error = await refusalOf(await issuer.token(claims));
    const detail = JSON.parse(error["D"]!) as Record<string, unknown>; // JSON by the contract
    expect(detail["code"]).toBe("login_failed");
    expect(detail["reason"]).toEqual(typeof reason === "string" ? reason : expect.stringMatching(reason));
  });

  it("gives no groups when the claim is missing, or names none, and refuses one that is not names", async () => {
    for (const groups of [undefined, null, [], { agents: true }, [["agents"]], "agents,dba"]) {
      const error = await refusalOf(await issuer.token({ groups }));
      expect(["resource_unknown", "login_failed"], JSON.stringify(groups)).toContain(codeOf(error));
    }
  });

  it("follows a rotation of keys, and does not ask for keys at every unknown one", async () => {
    const old = await issuer.token();
    await issuer.rotate();
    const before = issuer.requests();
    await expect
      .poll(
        async () => {
          const attempt = await connect();
          const answers = await attempt.login({ token: await issuer.token() });
          attempt.vanish();
          return errorsOf(answers).length;
        },
        { timeout: 20_000, interval: 500 },
      )
      .toBe(0);
    for (let tries = 0; tries < 10; tries++) await refusalOf(await issuer.token({}, { kid: `unknown${tries}` }));
    expect(issuer.requests() - before).toBeLessThan(6);
    expect(codeOf(await refusalOf(old)), "a token of the withdrawn key").toBe("login_failed");
  });

  it("lets nobody in with good tokens of another issuer under this one's name", async () => {
    const other = await startIssuer(AUDIENCE);
    try {
      expect(codeOf(await refusalOf(await other.token({ iss: issuer.url })))).toBe("login_failed");
      expect(codeOf(await refusalOf(await other.token()))).toBe("login_failed");
    } finally {
      await other.stop();
    }
  });
});

/** The development issuer's public signing key, as anybody can fetch it. */
async function publicKeyOf(issuerUrl: string): Promise<string> {
  const ca = await readFile(orders.sluice.ready.caFile);
  const discovery = await fetchJson(`${issuerUrl.replace(/\/$/, "")}/.well-known/openid-configuration`, ca);
  const { keys } = (await fetchJson(String(discovery["jwks_uri"]), ca)) as { keys: JsonWebKey[] }; // a key set, by RFC 7517
  expect(keys[0]).not.toHaveProperty("d");
  return createPublicKey({ key: keys[0]!, format: "jwk" }).export({ type: "spki", format: "pem" }).toString();
}

function fetchJson(url: string, ca: Buffer): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    get(url, { ca }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve(JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>)); // an object, by OpenID Connect
    }).on("error", reject);
  });
}
