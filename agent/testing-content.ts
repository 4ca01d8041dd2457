/** For tests alone: what a control plane signs for agents. */
import { generateKeyPairSync, sign, webcrypto } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  SignedContentSchema,
  SnapshotContent_Audience,
  SnapshotContentSchema,
} from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { snapshotSignatureInput } from "@sluice/rpc/signed-content.ts";
import type { TestAuthority } from "@sluice/rpc/testing.ts";

/** Signs bodies as given, as JSON unless they are text. Resolves with how to sign a sequence. */
export async function makeContentSigner(
  authority: TestAuthority,
): Promise<(sequence: bigint, body: unknown, changes?: MessageInitShape<typeof SnapshotContentSchema>) => Uint8Array> {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const spki = publicKey.export({ type: "spki", format: "der" });
  const key = await webcrypto.subtle.importKey("spki", spki, "Ed25519", true, ["verify"]);
  const signerCertificate = await authority.signKey({ role: "control-plane", name: "snapshot-signer-1" }, key);
  return (sequence, body, changes = {}) => {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const content = toBinary(
      SnapshotContentSchema,
      create(SnapshotContentSchema, {
        sequence,
        version: "0123456789abcdef",
        capabilityMin: 1,
        audience: SnapshotContent_Audience.AGENT,
        body: zstdCompressSync(Buffer.from(text)),
        ...changes,
      }),
    );
    const signature = sign(null, snapshotSignatureInput(content), privateKey);
    return toBinary(SignedContentSchema, create(SignedContentSchema, { content, signature, signerCertificate }));
  };
}
