/** Tokens of the built-in issuer are accepted by the gateway's own verifier, survive a restart, and cannot be had by strangers. */
import { mkdtempSync, readFileSync, statSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createTokenVerifier } from "../../data-plane/identity/token-verifier.ts";
import { openTestAuthorityFiles } from "../ca/testing.ts";
import { type DevelopmentIssuer, startDevelopmentIssuer } from "./development-issuer.ts";

const log = pino({ level: "silent" });
let directory: string;
let issuer: DevelopmentIssuer;

async function start(): Promise<DevelopmentIssuer> {
  const authority = await openTestAuthorityFiles(join(directory, "ca"));
  const certificate = await authority.issueServerCertificate({ name: "issuer", hosts: ["127.0.0.1"] });
  return await startDevelopmentIssuer({
    directory: join(directory, "issuer"),
    certificate,
    caFile: authority.caFile,
    limits: defaultLimits,
    random: systemRandom,
    log,
  });
}

beforeEach(async () => {
  vi.spyOn(console, "warn");
  vi.spyOn(console, "info");
  directory = mkdtempSync(join(tmpdir(), "sluice-issuer-"));
  issuer = await start();
});

afterEach(async () => {
  await issuer.close();
  expect(console.warn).not.toHaveBeenCalled();
  expect(console.info).not.toHaveBeenCalled();
  vi.restoreAllMocks();
});

const verify = async (token: string) => {
  const verifier = createTokenVerifier({ providers: () => [issuer.provider], clock: systemClock, limits: defaultLimits, log });
  return await verifier.verify(token);
};

function fetchText(path: string, body?: string, authorization = ""): Promise<{ status: number; text: string }> {
  const ca = readFileSync(issuer.provider.caFile ?? "");
  const headers = body === undefined ? {} : { "content-type": "application/x-www-form-urlencoded", authorization };
  return new Promise((resolve, reject) => {
    const outgoing = request(
      new URL(path, issuer.issuer),
      { ca, agent: false, headers, method: body === undefined ? "GET" : "POST" },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => {
          text += part;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

it("mints tokens with subject, groups and further claims that the gateway accepts", async () => {
  const beforeMs = Date.now();
  const token = await issuer.mint({
    subject: "ada",
    groups: ["agents", "dev"],
    claims: { sluice_task: "T-9", level: 3 },
    ttlSeconds: 60,
  });
  const { principal, expiresAtMs } = await verify(token);
  expect(principal).toMatchObject({
    subject: "ada",
    groups: ["agents", "dev"],
    issuer: issuer.issuer,
    task: "T-9",
    kind: "user",
  });
  expect(principal.claims).toMatchObject({ aud: "sluice", level: 3 });
  expect(expiresAtMs - beforeMs).toBeGreaterThan(57_000);
  expect(expiresAtMs - beforeMs).toBeLessThan(63_000);
  expect(JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString())).toMatchObject({
    alg: "ES256",
    typ: "at+jwt",
  });
});

it("keeps its address and keys over a restart, so that tokens stay good", async () => {
  const token = await issuer.mint({ subject: "ada", groups: [], claims: {}, ttlSeconds: 60 });
  const before = issuer.issuer;
  await issuer.close();
  issuer = await start();
  expect(issuer.issuer).toBe(before);
  expect((await verify(token)).principal.subject).toBe("ada");
  expect(statSync(join(directory, "issuer", "signing-key.pem")).mode & 0o777).toBe(0o600);
});

it("takes another port when its own is taken", async () => {
  const second = await start();
  expect(second.issuer).not.toBe(issuer.issuer);
  expect((await second.mint({ subject: "ada", groups: [], claims: {}, ttlSeconds: 60 })).split(".").length).toBe(3);
  await second.close();
});

it("publishes its public key alone, and serves nothing but discovery, keys and tokens", async () => {
  const keys = await fetchText("/jwks");
  expect(keys.status).toBe(200);
  expect(keys.text).not.toContain('"d"');
  expect((await fetchText("/.well-known/openid-configuration")).text).toContain(`"issuer":"${issuer.issuer}"`);
  for (const path of ["/auth", "/", "/session/end", "/me", "/reg"]) expect((await fetchText(path)).status).toBe(404);
});

it("gives strangers no token", async () => {
  const body = new URLSearchParams({
    grant_type: "urn:sluice:grant:development-token",
    token_request: JSON.stringify({ subject: "root", groups: ["dba"], claims: {}, ttlSeconds: 60 }),
  }).toString();
  for (const authorization of ["", `Basic ${Buffer.from("sluice-control-plane:guess").toString("base64")}`]) {
    const answer = await fetchText("/token", body, authorization);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.text).not.toContain("access_token");
  }
});

it.each([
  [{ subject: "" }, "needs a subject"],
  [{ ttlSeconds: 0 }, "lifetime is between"],
  [{ ttlSeconds: 1.5 }, "lifetime is between"],
  [{ ttlSeconds: 8 * 86_400 }, "lifetime is between"],
  [{ claims: { iss: "https://other" } }, "The claim iss is set by the issuer"],
  [{ claims: { groups: ["dba"] } }, "The claim groups is set by the issuer"],
  [{ claims: { big: "x".repeat(20_000) } }, "too large"],
])("refuses a request that makes no sense %#", async (change, message) => {
  const request = { subject: "ada", groups: [], claims: {}, ttlSeconds: 60, ...change };
  await expect(issuer.mint(request)).rejects.toMatchObject({ code: "config_invalid", message: expect.stringContaining(message) });
});
