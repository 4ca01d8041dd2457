/** Server pairs on disk: kept, renewed, and accepted by Node's and OpenSSL's checks; a damaged authority to import is said, not papered over. */
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer } from "node:tls";
import type { Clock } from "@sluice/core/clock.ts";
import { beforeEach, expect, it } from "vitest";
import type { AuthorityFiles } from "./authority-files.ts";
import { serverLifetimeMs } from "./certificates.ts";
import { openTestAuthorityFiles } from "./testing.ts";

const hosts = ["localhost", "127.0.0.1", "::1", "gateway.example"];
let directory: string;
let nowMs: number;
const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => 0 };
const open = (): Promise<AuthorityFiles> => openTestAuthorityFiles(directory, clock);

beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), "sluice-ca-")), "ca");
  nowMs = Date.now();
});

it("leaves the authority's certificate to everybody and the keys to this user alone", async () => {
  const first = await open();
  const pem = readFileSync(first.caFile, "utf8");
  expect((await open()).caFile).toBe(first.caFile);
  expect(readFileSync(first.caFile, "utf8")).toBe(pem);
  expect(statSync(join(directory, "ca-key.pem")).mode & 0o777).toBe(0o600);
  expect(statSync(first.caFile).mode & 0o777).toBe(0o644);
  expect(new X509Certificate(pem).ca).toBe(true);
});

it("keeps a server certificate until half its life, other hosts, or damage", async () => {
  const authority = await open();
  const first = await authority.issueServerCertificate({ name: "gateway", hosts });
  const pem = readFileSync(first.certFile, "utf8");
  expect(statSync(first.keyFile).mode & 0o777).toBe(0o600);
  expect(first.renewed).toBe(true);
  const again = await (await open()).issueServerCertificate({ name: "gateway", hosts });
  expect(again).toEqual({ certFile: first.certFile, keyFile: first.keyFile, renewed: false });
  expect(readFileSync(first.certFile, "utf8")).toBe(pem);
  expect((await authority.issueServerCertificate({ name: "gateway", hosts: ["other.example"] })).renewed).toBe(true);
  expect((await authority.issueServerCertificate({ name: "gateway", hosts })).renewed).toBe(true);
  nowMs += serverLifetimeMs / 2;
  expect((await authority.issueServerCertificate({ name: "gateway", hosts })).renewed).toBe(true);
  writeFileSync(first.keyFile, "-----BEGIN PRIVATE KEY-----\n");
  expect((await authority.issueServerCertificate({ name: "gateway", hosts })).renewed).toBe(true);
  await expect(authority.issueServerCertificate({ name: "../x", hosts })).rejects.toThrow("file name");
});

it("is accepted under each of its names by Node, and under no other", async () => {
  const authority = await open();
  const { certFile, keyFile } = await authority.issueServerCertificate({ name: "gateway", hosts });
  const server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // TCP, so not a pipe name
  const check = (name: string): Promise<string> =>
    new Promise((resolve) => {
      const identity = /^[\d.:]+$/.test(name) ? { host: name } : { servername: name };
      const socket = connect({ port, host: "127.0.0.1", ca: readFileSync(authority.caFile), ...identity });
      socket
        .on("secureConnect", () => resolve("ok"))
        .on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error"));
      socket.on("secureConnect", () => socket.destroy());
    });
  try {
    expect(await Promise.all(["localhost", "127.0.0.1", "gateway.example"].map(check))).toEqual(["ok", "ok", "ok"]);
    expect(await check("evil.example")).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
  } finally {
    server.close();
  }
});

it("passes OpenSSL's strict RFC 5280 checks for a server, by name and by address", async () => {
  const authority = await open();
  const { certFile } = await authority.issueServerCertificate({ name: "gateway", hosts });
  for (const identity of [
    ["-verify_hostname", "localhost"],
    ["-verify_ip", "127.0.0.1"],
    ["-verify_ip", "::1"],
  ]) {
    const strict = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority.caFile, ...identity, certFile];
    expect(execFileSync("openssl", strict, { encoding: "utf8" })).toContain("OK");
  }
  const serial = new X509Certificate(readFileSync(certFile)).serialNumber;
  expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
});

it("to import is said to be damaged when its key is no key, and to have expired", async () => {
  await open();
  const keyFile = join(directory, "ca-key.pem");
  const key = readFileSync(keyFile);
  writeFileSync(keyFile, "garbage");
  await expect(open()).rejects.toMatchObject({ code: "config_invalid", message: expect.stringContaining("damaged") });
  writeFileSync(keyFile, key);
  nowMs += 3_651 * 24 * 3_600_000;
  await expect(open()).rejects.toMatchObject({ code: "config_invalid", message: expect.stringContaining("expired") });
});
