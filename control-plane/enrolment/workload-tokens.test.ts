/** Where a platform shows its keys only to those it knows, as Kubernetes does: who gets the token, and who does not. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WorkloadEnrolment } from "@sluice/core/config.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock } from "@sluice/core/system.ts";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { createWorkloadVerifier } from "./workload-tokens.ts";

let directory: string;
let platform: Server;
let address: string;
let pair: Awaited<ReturnType<typeof generateKeyPair>>;
/** What was asked for, and what was shown for it. */
let asked: string[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-workloads-"));
  pair = await generateKeyPair("RS256");
  const jwk = { ...(await exportJWK(pair.publicKey)), alg: "RS256", kid: "k1", use: "sig" };
  platform = createServer((request, response) => {
    asked.push(`${request.url ?? ""} ${request.headers.authorization ?? "nothing"}`);
    response.setHeader("content-type", "application/json");
    if (request.url === "/guarded" && !/^Bearer (first|second)$/.test(request.headers.authorization ?? "")) {
      response.writeHead(401).end("{}");
    } else if (request.url?.startsWith("/.well-known") === true) {
      response.end(JSON.stringify({ issuer: address, jwks_uri: `${address}/open` }));
    } else response.end(JSON.stringify({ keys: [jwk] }));
  });
  await new Promise<void>((resolve) => void platform.listen(0, "127.0.0.1", resolve));
  address = `http://127.0.0.1:${(platform.address() as AddressInfo).port}`; // TCP, so not a pipe's name
});

afterAll(async () => {
  platform.closeAllConnections();
  await new Promise((resolve) => platform.close(resolve));
  await rm(directory, { recursive: true, force: true });
});

beforeEach(() => {
  asked = [];
});

function workload(more: Partial<WorkloadEnrolment>): WorkloadEnrolment {
  return {
    name: "cluster",
    issuer: address,
    audience: "sluice",
    jwksUri: `${address}/guarded`,
    caFile: null,
    role: "gateway",
    claims: { sub: "system:serviceaccount:sluice:gateway" },
    namePrefix: "gateway-",
    labels: {},
    hosts: [],
    ...more,
  };
}

async function verify(workloads: readonly WorkloadEnrolment[]): Promise<string> {
  const verifier = createWorkloadVerifier({ workloads, clock: systemClock, limits: defaultLimits });
  const token = await new SignJWT({ sub: "system:serviceaccount:sluice:gateway" })
    .setProtectedHeader({ alg: "RS256", kid: "k1" })
    .setIssuer(address)
    .setAudience("sluice")
    .setIssuedAt()
    .setExpirationTime("5m")
    .sign(pair.privateKey);
  return (await verifier.verify(token, { role: "gateway", name: "gateway-1" })).name;
}

it("shows its token to the address that the configuration names, read afresh each time", async () => {
  const tokenFile = join(directory, "token");
  await writeFile(tokenFile, "first\n");
  expect(await verify([workload({ tokenFile })])).toBe("cluster");
  await writeFile(tokenFile, "second\n");
  expect(await verify([workload({ tokenFile })])).toBe("cluster");
  expect(asked).toEqual(["/guarded Bearer first", "/guarded Bearer second"]);
});

it("refuses where the platform shows its keys to nobody it does not know", async () => {
  await expect(verify([workload({})])).rejects.toThrow("401");
  expect(asked).toEqual(["/guarded nothing"]);
});

it("shows nothing to an address that was discovered", async () => {
  const tokenFile = join(directory, "token");
  await writeFile(tokenFile, "first");
  expect(await verify([workload({ tokenFile, jwksUri: null })])).toBe("cluster");
  expect(asked).toEqual(["/.well-known/openid-configuration nothing", "/open nothing"]);
});
