/** Sealed secrets: who can open them, and what happens to those that were changed. */
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CredentialSpec } from "@sluice/core/snapshot.ts";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sealSecret } from "./sealed.ts";
import { openSealingKey, rotateSealingKey, type SealingKey } from "./sealing-key.ts";
import { resolveCredential } from "./sources.ts";

const SECRET = "s3aled-pässword-91c2";
const TARGETS = "db.example:5432";
let root: string;
let alice: SealingKey;
let bob: SealingKey;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "sluice-sealing-test-"));
  alice = await openSealingKey(join(root, "alice"));
  bob = await openSealingKey(join(root, "bob"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const recipient = (agent: string, { publicJwk }: SealingKey): { readonly agent: string; readonly jwk: string } => ({
  agent,
  jwk: publicJwk,
});

/** A sealed text with one member of its JSON changed. */
function changed(sealed: string, change: (jwe: Record<string, unknown>) => void): string {
  const jwe = JSON.parse(Buffer.from(sealed, "base64url").toString("utf8")) as Record<string, unknown>;
  change(jwe);
  return Buffer.from(JSON.stringify(jwe), "utf8").toString("base64url");
}

async function failure(promise: Promise<unknown>): Promise<{ readonly code?: string; readonly text: string }> {
  const error: unknown = await promise.then(
    () => {
      throw new Error("it should have failed");
    },
    (thrown: unknown) => thrown,
  );
  const { code, message, hint, cause } = error as { code?: string; message: string; hint?: string; cause?: unknown };
  return { ...(code === undefined ? {} : { code }), text: `${message} ${hint ?? ""} ${String(cause)}` };
}

describe("sealSecret", () => {
  test("each recipient opens it, nobody else, and the outside tells nothing", async () => {
    const sealed = await sealSecret(SECRET, [recipient("alice", alice), recipient("bob", bob)], TARGETS);
    expect(await alice.decrypt(sealed)).toEqual({ secret: SECRET, targets: TARGETS });
    expect(await bob.decrypt(sealed)).toEqual({ secret: SECRET, targets: TARGETS });
    expect(Buffer.from(sealed, "base64url").toString("utf8")).not.toContain(SECRET);
    const carol = await openSealingKey(join(root, "carol"));
    expect(await failure(carol.decrypt(sealed))).toMatchObject({ code: "secret_unavailable" });
    await expect(carol.decrypt(sealed)).rejects.toThrow("was not sealed to this agent's key");
  });

  test("one recipient is enough, none is not", async () => {
    expect(await alice.decrypt(await sealSecret(SECRET, [recipient("alice", alice)], "*"))).toEqual({
      secret: SECRET,
      targets: "*",
    });
    await expect(sealSecret(SECRET, [], TARGETS)).rejects.toThrow("no agent to seal the secret to");
  });

  test.each([
    ["no JSON", "hello"],
    ["a private or symmetric key", '{"kty":"oct","k":"AAAA"}'],
    ["another curve", '{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}'],
    ["a point that is none", '{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}'],
  ])("not to %s", async (_name, jwk) => {
    const { text } = await failure(sealSecret(SECRET, [{ agent: "dave", jwk }], TARGETS));
    expect(text).toContain("dave");
    expect(text).not.toContain(SECRET);
  });
});

describe("what was changed is not opened", () => {
  test.each(["protected", "iv", "ciphertext", "tag"])("%s", async (member) => {
    const sealed = await sealSecret(SECRET, [recipient("alice", alice)], TARGETS);
    const other = changed(sealed, (jwe) => {
      const text = String(jwe[member]);
      jwe[member] = (text.startsWith("A") ? "B" : "A") + text.slice(1);
    });
    const { code, text } = await failure(alice.decrypt(other));
    expect(code).toBe("secret_unavailable");
    expect(text).not.toContain(SECRET);
  });

  test("targets in the header: what they are is part of what was encrypted", async () => {
    const sealed = await sealSecret(SECRET, [recipient("alice", alice)], TARGETS);
    const other = changed(sealed, (jwe) => {
      const header = JSON.parse(Buffer.from(String(jwe["protected"]), "base64url").toString("utf8")) as Record<string, unknown>;
      header["sluice-targets"] = "*";
      jwe["protected"] = Buffer.from(JSON.stringify(header)).toString("base64url");
    });
    await expect(alice.decrypt(other)).rejects.toThrow("was changed since it was sealed");
  });

  test("algorithms of the sender's choice", async () => {
    const sealed = await sealSecret(SECRET, [recipient("alice", alice)], TARGETS);
    for (const alg of ["dir", "none", "ECDH-ES", "PBES2-HS256+A128KW"]) {
      const other = changed(sealed, (jwe) => {
        const [first] = jwe["recipients"] as { header: { alg: string } }[];
        if (first !== undefined) first.header.alg = alg;
      });
      await expect(alice.decrypt(other)).rejects.toMatchObject({ code: "secret_unavailable" });
    }
  });

  test("anything else at all", async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
        const sealed = Buffer.from(text, "utf8").toString("base64url");
        await expect(alice.decrypt(sealed)).rejects.toMatchObject({ code: "secret_unavailable" });
        await expect(alice.decrypt(text)).rejects.toMatchObject({ code: "secret_unavailable" });
      }),
      { numRuns: 200 },
    );
    await expect(alice.decrypt("A".repeat(200_000))).rejects.toMatchObject({ code: "secret_unavailable" });
  });
});

describe("the agent's keys", () => {
  test("are kept for the agent's account alone, and found again", async () => {
    const again = await openSealingKey(join(root, "alice"));
    expect(again.publicJwk).toBe(alice.publicJwk);
    expect(JSON.parse(alice.publicJwk)).toEqual({
      kty: "EC",
      crv: "P-256",
      x: expect.any(String) as string,
      y: expect.any(String) as string,
      use: "enc",
      kid: expect.any(String) as string,
    });
    expect((await stat(join(root, "alice", "sealing-keys.json"))).mode & 0o777).toBe(0o600);
  });

  test("processes that start at once agree on one", async () => {
    const keys = await Promise.all([1, 2, 3, 4].map(() => openSealingKey(join(root, "crowd"))));
    expect(new Set(keys.map(({ publicJwk }) => publicJwk)).size).toBe(1);
  });

  test("after a rotation the former ones still open, and new secrets are for the new one", async () => {
    const directory = join(root, "rotated");
    const before = await openSealingKey(directory);
    const old = await sealSecret("old", [recipient("a", before)], TARGETS);
    const after = await rotateSealingKey(directory);
    const young = await sealSecret("young", [recipient("a", after)], TARGETS);
    const reopened = await openSealingKey(directory);
    expect(after.publicJwk).not.toBe(before.publicJwk);
    expect(reopened.publicJwk).toBe(after.publicJwk);
    expect(await reopened.decrypt(old)).toMatchObject({ secret: "old" });
    expect(await reopened.decrypt(young)).toMatchObject({ secret: "young" });
    await expect(before.decrypt(young)).rejects.toThrow("was not sealed to this agent's key");
  });

  test("damaged ones are told, without what is in them, and not replaced", async () => {
    const directory = join(root, "damaged");
    await openSealingKey(directory);
    const path = join(directory, "sealing-keys.json");
    const good = await readFile(path, "utf8");
    const { d } = (JSON.parse(good) as { keys: { d: string }[] }).keys[0] ?? { d: "" };
    for (const text of [good.slice(0, -8), '{"keys":[]}', "{}", good.replace(/"x": "...../, '"x": "AAAAA')]) {
      await chmod(path, 0o600);
      await writeFile(path, text);
      const failed = await failure(openSealingKey(directory));
      expect(failed).toMatchObject({ code: "config_invalid" });
      expect(failed.text).not.toContain(d);
      expect(await readFile(path, "utf8")).toBe(text);
    }
  });
});

describe("as a credential", () => {
  const spec = (jwe: string): CredentialSpec => ({
    username: { kind: "value", value: "app" },
    password: { kind: "sealed", jwe },
  });
  const resolve = (jwe: string, host: string, targets: readonly string[]): ReturnType<typeof resolveCredential> =>
    resolveCredential(
      spec(jwe),
      { host, port: 5432 },
      {
        bindings: [{ source: { kind: "sealed" }, targets }],
        readEnvironment: () => undefined,
        secretBytesMax: 100,
        sealingKey: alice,
      },
    );

  test("goes to the targets that it was sealed for, where the agent allows it", async () => {
    const sealed = await sealSecret(SECRET, [recipient("alice", alice)], "*.example:5432");
    expect(await resolve(sealed, "DB.example", ["*"])).toEqual({ user: "app", password: SECRET });
    await expect(resolve(sealed, "db.evil", ["*"])).rejects.toThrow("was sealed for other targets");
    await expect(resolve(sealed, "db.example", ["other.example:*"])).rejects.toThrow("is not bound to this resource's target");
  });

  test("too long, empty or with a NUL it is no secret", async () => {
    for (const secret of ["x".repeat(101), "", "a\0b"]) {
      const sealed = await sealSecret(secret, [recipient("alice", alice)], "*");
      expect(await failure(resolve(sealed, "db.example", ["*"]))).toMatchObject({ code: "secret_unavailable" });
    }
  });
});
