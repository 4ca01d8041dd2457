/** Which secret goes where, and what is said when it does not. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SecretBinding } from "@sluice/core/config.ts";
import type { CredentialSpec, SecretRef } from "@sluice/core/snapshot.ts";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { matchesPattern } from "./pattern.ts";
import { type Credential, resolveCredential } from "./sources.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-secrets-test-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const environment: Record<string, string> = {
  DB_USER: "app",
  DB_PASSWORD: "s3cret",
  EMPTY: "",
  NUL: "a\0b",
  LONG: "x".repeat(200),
};
const target = { host: "db.example", port: 5432 };
const bind = (name: string, ...targets: string[]): SecretBinding => ({ source: { kind: "env", name }, targets });
const credential = (password: SecretRef, username: SecretRef = { kind: "value", value: "app" }): CredentialSpec => ({
  username,
  password,
});
const env = (name: string): SecretRef => ({ kind: "env", name });

function resolve(spec: CredentialSpec, bindings: readonly SecretBinding[], to = target): Promise<Credential> {
  return resolveCredential(spec, to, { bindings, readEnvironment: (name) => environment[name], secretBytesMax: 100 });
}

describe("environment", () => {
  test("a bound secret is read, the user name too", async () => {
    const bindings = [bind("DB_PASSWORD", "other:1", "db.example:*"), bind("DB_USER", "*.example:5432")];
    expect(await resolve(credential(env("DB_PASSWORD"), env("DB_USER")), bindings)).toEqual({ user: "app", password: "s3cret" });
    expect(await resolve({ username: { kind: "value", value: "app" } }, [])).toEqual({ user: "app", password: undefined });
  });

  test.each([
    ["another host", { host: "evil.example", port: 5432 }],
    ["another port", { host: "db.example", port: 5433 }],
    ["a host that pretends to hold a port", { host: "db.example:5432.evil.example", port: 5432 }],
    ["a host with an @", { host: "db.example:5432@evil", port: 5432 }],
    ["an empty host", { host: "", port: 5432 }],
  ])("not to %s", async (_, to) => {
    const failing = resolve(credential(env("DB_PASSWORD")), [bind("DB_PASSWORD", "db.example:5432", "db.example:54*2")], to);
    await expect(failing).rejects.toMatchObject({
      code: "secret_unavailable",
      message: "The agent's environment variable DB_PASSWORD is not bound to this resource's target.",
      hint: expect.stringContaining("{ env: DB_PASSWORD, targets:") as string,
    });
  });

  test("a user name is a secret too when it comes from a source", async () => {
    const failing = resolve(credential(env("DB_PASSWORD"), env("DB_USER")), [bind("DB_PASSWORD", "*")]);
    await expect(failing).rejects.toMatchObject({ message: expect.stringContaining("DB_USER is not bound") as string });
  });

  test("host names match in any case, IPv6 addresses in brackets", async () => {
    const spec = credential(env("DB_PASSWORD"));
    expect(await resolve(spec, [bind("DB_PASSWORD", "DB.Example:5432")], { host: "db.EXAMPLE", port: 5432 })).toMatchObject({
      user: "app",
    });
    expect(await resolve(spec, [bind("DB_PASSWORD", "[::1]:*")], { host: "::1", port: 5432 })).toMatchObject({ user: "app" });
  });

  test.each(["EMPTY", "ABSENT", "NUL", "LONG"])("%s is no secret, and its value is not told", async (name) => {
    const error: unknown = await resolve(credential(env(name)), [bind(name, "*")]).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "secret_unavailable", message: expect.stringContaining(name) as string });
    expect(JSON.stringify(error)).not.toContain("xxx");
  });

  test("a password in the manifest itself is refused", async () => {
    const failing = resolve(credential({ kind: "value", value: "in-the-open" }), []);
    await expect(failing).rejects.toMatchObject({
      code: "secret_unavailable",
      message: expect.not.stringContaining("in-the-open") as string,
    });
  });
});

describe("files", () => {
  const bindFile = (path: string): SecretBinding => ({ source: { kind: "file", path }, targets: ["db.example:5432"] });
  const file = (name: string): SecretRef & { kind: "file" } => ({ kind: "file", path: join(directory, name) });

  test("without one line end, and read again each time", async () => {
    const source = file("password");
    await writeFile(source.path, " two words \r\n");
    expect(await resolve(credential(source), [bindFile(source.path)])).toEqual({ user: "app", password: " two words " });
    await writeFile(source.path, "rotated\n\n");
    expect(await resolve(credential(source), [bindFile(source.path)])).toEqual({ user: "app", password: "rotated\n" });
    const roundabout = { kind: "file", path: join(directory, "x") + "/../password" } as const;
    expect(await resolve(credential(roundabout), [bindFile(source.path)])).toMatchObject({ password: "rotated\n" });
  });

  test("absent, too long, a directory, not bound", async () => {
    await writeFile(file("long").path, "y".repeat(101));
    for (const source of [file("absent"), file("long"), { kind: "file", path: directory } as const]) {
      const failing = resolve(credential(source), [bindFile(source.path)]);
      await expect(failing).rejects.toMatchObject({
        code: "secret_unavailable",
        message: expect.stringContaining(source.path) as string,
      });
    }
    await expect(resolve(credential(file("long")), [bindFile("/etc/passwd")])).rejects.toMatchObject({
      hint: expect.stringContaining(`{ file: ${file("long").path}, targets:`) as string,
    });
  });
});

describe("matchesPattern", () => {
  test("agrees with the same pattern as a regular expression", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "b", ".", "*"), maxLength: 8 });
    const text = fc.string({ unit: fc.constantFrom("a", "b", "."), maxLength: 10 });
    fc.assert(
      fc.property(word, text, (pattern, candidate) => {
        const oracle = new RegExp(`^${pattern.replaceAll(".", "\\.").replaceAll("*", "[ab.]*")}$`);
        expect(matchesPattern(pattern, candidate)).toBe(oracle.test(candidate));
      }),
      { numRuns: 2_000 },
    );
  });
});
