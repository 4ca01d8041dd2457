/** Signed snapshots: what a node takes, and everything that it does not. */
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign, webcrypto } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { GatewayError } from "@sluice/core/errors.ts";
import {
  SignedContentSchema,
  SnapshotContent_Audience,
  SnapshotContentSchema,
} from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { beforeAll, describe, expect, test } from "vitest";
import { CAPABILITY } from "./capabilities.ts";
import type { NodeIdentity } from "./node-identity.ts";
import { readNodeCertificate } from "./identity/node-certificate.ts";
import { snapshotSignatureInput, unpackBody, verifySignedContent } from "./signed-content.ts";
import { makeTestAuthority, type TestAuthority, testIdentity, type TestNode } from "./testing.ts";

interface Signer {
  readonly key: KeyObject;
  readonly certificate: Uint8Array;
}

let authority: TestAuthority;
let identity: NodeIdentity;
let signer: Signer;
const hourMs = 3_600_000;

beforeAll(async () => {
  authority = await makeTestAuthority();
  identity = await testIdentity("agent", "one", {}, authority);
  signer = await makeSigner(authority, { role: "control-plane", name: "snapshot-signer-1" });
});

describe("what is taken", () => {
  test("all that was signed comes out", () => {
    const trust = { authorities: [derOf(authority.certificate)], revokedSerials: ["0a"] };
    const verified = verifySignedContent(signed({ trust }), identity, Date.now(), "agent");
    expect(verified).toMatchObject({ sequence: 7n, version: "0123456789abcdef", issuedAtMs: 1, leaseMs: 20, strictLeaseMs: 10 });
    expect(unpackBody(verified.body, 1_000)).toBe('{"resources":[]}');
    expect(verified.trust?.revokedSerials).toEqual(new Set(["0a"]));
    expect(verified.trust?.authorities.map((pem) => pem.trim())).toEqual([authority.certificate.trim()]);
  });

  test("content without a word of trust", () => {
    expect(verifySignedContent(signed({}), identity, Date.now(), "agent").trust).toBeNull();
  });
});

describe("what is not taken", () => {
  test("any byte of it changed, unless it says the same in another encoding", () => {
    const bytes = signed({});
    const whole = verifySignedContent(bytes, identity, Date.now(), "agent");
    let refused = 0;
    for (let at = 0; at < bytes.length; at++) {
      const changed = Uint8Array.from(bytes);
      changed[at]! ^= 1;
      try {
        expect(verifySignedContent(changed, identity, Date.now(), "agent"), `byte ${at}`).toEqual(whole);
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        refused++;
      }
    }
    // The tags of the three fields are read by their number alone.
    expect(refused).toBeGreaterThanOrEqual(bytes.length - 3);
  });

  test("cut short at any place", () => {
    const bytes = signed({});
    for (let length = 0; length < bytes.length; length++) {
      expect(() => verifySignedContent(bytes.subarray(0, length), identity, Date.now(), "agent"), `${length} bytes`).toThrow();
    }
  });

  test("a signer of another installation", async () => {
    const foreign = await makeSigner(await makeTestAuthority("Another"), { role: "control-plane", name: "snapshot-signer-1" });
    expect(() => verifySignedContent(signed({}, foreign), identity, Date.now(), "agent")).toThrow(/authority/);
  });

  test.each([
    { role: "gateway", name: "snapshot-signer-1" },
    { role: "control-plane", name: "replica-1" },
  ] as const)("signed by the node $role/$name", async (node) => {
    const other = await makeSigner(authority, node);
    expect(() => verifySignedContent(signed({}, other), identity, Date.now(), "agent")).toThrow(/not a snapshot signer/);
  });

  test("a key of another kind, though its certificate is right", async () => {
    const { certificateChain, privateKey } = await authority.issue({ role: "control-plane", name: "snapshot-signer-2" });
    const content = contentOf({});
    const bytes = toBinary(
      SignedContentSchema,
      create(SignedContentSchema, {
        content,
        signature: sign("sha256", snapshotSignatureInput(content), createPrivateKey(privateKey)),
        signerCertificate: derOf(certificateChain),
      }),
    );
    expect(() => verifySignedContent(bytes, identity, Date.now(), "agent")).toThrow(/signature/);
  });

  test("a signature without the prefix", () => {
    const content = contentOf({});
    const bytes = pack(content, sign(null, content, signer.key), signer);
    expect(() => verifySignedContent(bytes, identity, Date.now(), "agent")).toThrow(/signature/);
  });

  test("a signer before its time, after it, and withdrawn", async () => {
    const nowMs = Date.now();
    const later = { role: "control-plane", name: "snapshot-signer-3", notBeforeMs: nowMs + hourMs } as const;
    const early = signed({}, await makeSigner(authority, later));
    expect(() => verifySignedContent(early, identity, nowMs, "agent")).toThrow(/not valid at this time/);
    expect(() => verifySignedContent(signed({}), identity, nowMs + 25 * hourMs, "agent")).toThrow(/not valid at this time/);
    const wary = await testIdentity("agent", "two", {}, authority);
    wary.trust(authority.trust([readNodeCertificate(signer.certificate)!.serial]));
    expect(() => verifySignedContent(signed({}), wary, Date.now(), "agent")).toThrow(/withdrawn/);
  });

  test("made for gateways, for nobody, and for newer nodes", () => {
    for (const audience of [SnapshotContent_Audience.GATEWAY, SnapshotContent_Audience.UNSPECIFIED]) {
      const bytes = signed({ audience });
      expect(() => verifySignedContent(bytes, identity, Date.now(), "agent")).toThrow(
        expect.objectContaining({ code: "incompatible" }),
      );
    }
    const newer = signed({ capabilityMin: CAPABILITY + 1 });
    expect(() => verifySignedContent(newer, identity, Date.now(), "agent")).toThrow(
      expect.objectContaining({ code: "incompatible" }),
    );
  });

  test("a body that is damaged, no text, or larger than allowed", () => {
    const body = zstdCompressSync(Buffer.alloc(10_000, "a"));
    expect(() => unpackBody(body, 9_999)).toThrow(/damaged/);
    expect(unpackBody(body, 10_000)).toHaveLength(10_000);
    expect(() => unpackBody(Buffer.from("not zstd"), 100)).toThrow(/damaged/);
    expect(() => unpackBody(zstdCompressSync(Buffer.from([0xff, 0xfe])), 100)).toThrow(/damaged/);
  });
});

function contentOf(changes: MessageInitShape<typeof SnapshotContentSchema>): Uint8Array {
  return toBinary(
    SnapshotContentSchema,
    create(SnapshotContentSchema, {
      sequence: 7n,
      version: "0123456789abcdef",
      issuedAtMs: 1n,
      strictLeaseMs: 10n,
      leaseMs: 20n,
      capabilityMin: 1,
      audience: SnapshotContent_Audience.AGENT,
      body: zstdCompressSync(Buffer.from('{"resources":[]}')),
      ...changes,
    }),
  );
}

function signed(changes: MessageInitShape<typeof SnapshotContentSchema>, by: Signer = signer): Uint8Array {
  const content = contentOf(changes);
  return pack(content, sign(null, snapshotSignatureInput(content), by.key), by);
}

function pack(content: Uint8Array, signature: Uint8Array, by: Signer): Uint8Array {
  return toBinary(SignedContentSchema, create(SignedContentSchema, { content, signature, signerCertificate: by.certificate }));
}

async function makeSigner(by: TestAuthority, node: TestNode): Promise<Signer> {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const spki = publicKey.export({ type: "spki", format: "der" });
  const key = await webcrypto.subtle.importKey("spki", spki, "Ed25519", true, ["verify"]);
  return { key: privateKey, certificate: await by.signKey(node, key) };
}

function derOf(pem: string): Buffer {
  return Buffer.from(pem.replaceAll(/-----[A-Z ]+-----|\s/g, ""), "base64");
}
