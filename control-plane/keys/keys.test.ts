/** Keys that wrap keys: from each source, wrong ones said in a sentence, moved or edited ciphertext refused, nothing of a key in an error. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KeySource } from "@sluice/core/config.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemRandom } from "@sluice/core/system.ts";
import { pino } from "pino";
import { afterAll, expect, it } from "vitest";
import { type KeyEncryption, openKeyEncryption } from "./key-encryption.ts";

const directory = mkdtempSync(join(tmpdir(), "sluice-keys-"));
const lines: string[] = [];
const log = pino({ level: "info" }, { write: (line: string) => void lines.push(line) });
const secret = Buffer.from("-----BEGIN PRIVATE KEY----- of an authority");
const base64 = Buffer.from(systemRandom.bytes(32)).toString("base64");

interface Overrides {
  readonly embeddedStore?: boolean;
  readonly variables?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

const open = (
  source: KeySource,
  { embeddedStore = true, variables = {}, timeoutMs = 5_000 }: Overrides = {},
): Promise<KeyEncryption> =>
  openKeyEncryption({
    source,
    embeddedStore,
    dataDirectory: directory,
    readEnvironment: (name) => variables[name],
    random: systemRandom,
    limits: { ...defaultLimits, keyCommandTimeoutMs: timeoutMs },
    log,
  });

function program(name: string, script: string): string {
  const path = join(directory, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o700);
  return path;
}

afterAll(() => rmSync(directory, { recursive: true, force: true }));

it("is generated once for the embedded store, for this user alone, and never for a store elsewhere", async () => {
  const first = await open({ kind: "generated" });
  const path = join(directory, "keys", "store.key");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const wrapped = await first.wrap(secret, "authority x");
  expect(Buffer.from(await (await open({ kind: "generated" })).unwrap(wrapped, "authority x"))).toEqual(secret);
  await expect(open({ kind: "generated" }, { embeddedStore: false })).rejects.toMatchObject({
    code: "config_invalid",
    hint: expect.stringContaining("encryptionKey"),
  });
  expect(lines.join()).not.toContain(readFileSync(path, "utf8").trim());
});

it("comes from a file in base64 or as 32 bytes, or from a variable; these are the same key", async () => {
  const text = join(directory, "key.txt");
  const raw = join(directory, "key.bin");
  writeFileSync(text, `${base64}\n`);
  writeFileSync(raw, Buffer.from(base64, "base64"));
  const fromText = await open({ kind: "file", path: text });
  const fromRaw = await open({ kind: "file", path: raw }, { embeddedStore: false });
  const fromVariable = await open({ kind: "env", name: "KEK" }, { variables: { KEK: base64 } });
  const wrapped = await fromText.wrap(secret, "p");
  for (const other of [fromRaw, fromVariable]) expect(Buffer.from(await other.unwrap(wrapped, "p"))).toEqual(secret);
});

it.each<[string, KeySource, Overrides, RegExp]>([
  ["a file that is missing", { kind: "file", path: "/no/such/file" }, {}, /cannot be read from \/no\/such\/file \(ENOENT\)/],
  ["a variable that is not set", { kind: "env", name: "KEK" }, {}, /variable KEK .* is not set/],
  [
    "31 bytes",
    { kind: "env", name: "KEK" },
    { variables: { KEK: Buffer.alloc(31, "s3cret").toString("base64") } },
    /32 bytes in base64/,
  ],
  ["no base64", { kind: "env", name: "KEK" }, { variables: { KEK: `s3cret${"!".repeat(38)}` } }, /32 bytes in base64/],
])("of %s is refused in a sentence that does not show it", async (_title, source, overrides, text) => {
  const error: unknown = await open(source, overrides).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "config_invalid", message: expect.stringMatching(text) });
  expect(JSON.stringify(error)).not.toContain("s3cret");
});

it("does not open what another key wrapped, what was moved, and what was changed anywhere", async () => {
  const key = await open({ kind: "env", name: "KEK" }, { variables: { KEK: base64 } });
  const other = await open({ kind: "env", name: "KEK" }, { variables: { KEK: Buffer.alloc(32, 1).toString("base64") } });
  const wrapped = await key.wrap(secret, "authority a");
  expect(await key.wrap(secret, "authority a")).not.toBe(wrapped); // a nonce each
  await expect(other.unwrap(wrapped, "authority a")).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("another key"),
  });
  await expect(key.unwrap(wrapped, "authority b")).rejects.toMatchObject({ code: "config_invalid" });
  const dot = wrapped.lastIndexOf(".") + 1;
  const sealed = Buffer.from(wrapped.slice(dot), "base64url");
  for (let at = 0; at < sealed.length; at += 1) {
    const changed = Buffer.from(sealed);
    changed[at] = (changed[at] ?? 0) ^ 1;
    const text = `${wrapped.slice(0, dot)}${changed.toString("base64url")}`;
    await expect(key.unwrap(text, "authority a")).rejects.toMatchObject({ code: "config_invalid" });
  }
  for (const text of [
    "",
    "v1.local",
    wrapped.slice(0, 40),
    `${wrapped}.x`,
    wrapped.replace("v1", "v2"),
    sealed.toString("base64"),
  ]) {
    await expect(key.unwrap(text, "authority a")).rejects.toMatchObject({ code: "config_invalid" });
  }
});

it("may be a program in front of a KMS, which sees data keys alone", async () => {
  // A KMS whose master key is zeros, and which notes what it was given.
  const cipher = `openssl enc -aes-256-ecb -nopad -K ${"0".repeat(64)}`;
  const kms = program(
    "kms",
    `echo "$1 $2" >> ${directory}/operations
[ "$2" = wrap ] && mode=-e || mode=-d
tee -a ${directory}/seen | base64 -d | ${cipher} $mode | base64`,
  );
  const key = await open({ kind: "command", command: [kms, "--key=1"] }, { embeddedStore: false });
  const wrapped = await key.wrap(secret, "authority a");
  expect(Buffer.from(await key.unwrap(wrapped, "authority a"))).toEqual(secret);
  expect(readFileSync(join(directory, "operations"), "utf8")).toBe("--key=1 wrap\n--key=1 unwrap\n");
  const [first = ""] = readFileSync(join(directory, "seen"), "utf8").split("\n");
  expect(Buffer.from(first, "base64").length).toBe(32);
  await expect(key.unwrap(wrapped, "authority b")).rejects.toMatchObject({ code: "config_invalid" });
  const local = await open({ kind: "generated" });
  await expect(local.unwrap(wrapped, "authority a")).rejects.toMatchObject({
    message: expect.stringContaining("another kind of key"),
  });
  await expect(key.unwrap(await local.wrap(secret, "p"), "p")).rejects.toMatchObject({ code: "config_invalid" });
});

it.each<[string, string, RegExp]>([
  ["fails", "cat > /dev/null; echo s3cret >&2; exit 3", /ended with status 3 at "wrap"/],
  ["hangs", "exec sleep 30", /was ended by SIGKILL; it has 300 ms/],
  ["says too much", "head -c 100000 /dev/zero | tr '\\0' a", /said too much/],
  ["does not answer in base64", "echo '{}'", /did not answer in base64/],
  ["says nothing", "true", /did not answer in base64/],
])("by a program that %s is refused in a sentence", async (_title, script, text) => {
  const path = program("bad", script);
  const key = await open({ kind: "command", command: [path] }, { timeoutMs: 300 });
  const error: unknown = await key.wrap(secret, "p").catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "config_invalid", message: expect.stringMatching(text) });
  expect(JSON.stringify(error)).not.toContain("s3cret");
});

it("by a program that is not there is refused in a sentence", async () => {
  const key = await open({ kind: "command", command: ["/no/such/kms"] });
  await expect(key.wrap(secret, "p")).rejects.toMatchObject({
    message: expect.stringContaining("could not be started (ENOENT)"),
  });
});
