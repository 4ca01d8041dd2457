/** Snapshots signed as the control plane signs them. For tests alone. */
import { generateKeyPairSync, type KeyObject, sign, webcrypto } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Snapshot } from "@sluice/core/snapshot.ts";
import {
  SignedContentSchema,
  SnapshotContent_Audience,
  SnapshotContentSchema,
} from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { CAPABILITY } from "@sluice/rpc/capabilities.ts";
import { snapshotSignatureInput } from "@sluice/rpc/signed-content.ts";
import type { TestAuthority } from "@sluice/rpc/testing.ts";

export const LEASE_MS = 60_000;
export const STRICT_LEASE_MS = 10_000;

export interface SnapshotSigner {
  readonly privateKey: KeyObject;
  readonly certificate: Uint8Array;
}

export interface SnapshotParts {
  readonly by: SnapshotSigner;
  readonly sequence: bigint;
  readonly snapshot: unknown;
  readonly version?: string;
  readonly audience?: SnapshotContent_Audience;
  readonly capabilityMin?: number;
  readonly issuedAtMs?: number;
  readonly revoked?: readonly string[];
}

export function snapshotOf(version: string, more: Partial<Snapshot> = {}): Snapshot {
  return { version, resources: [], classifiers: [], policies: [], identityProviders: [], ...more };
}

export async function snapshotSigner(
  by: TestAuthority,
  name: string,
  role: "control-plane" | "gateway" = "control-plane",
): Promise<SnapshotSigner> {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const spki = publicKey.export({ type: "spki", format: "der" });
  const key = await webcrypto.subtle.importKey("spki", spki, "Ed25519", true, ["verify"]);
  return { privateKey, certificate: await by.signKey({ role, name }, key) };
}

/** Serialised, as it comes over the wire. */
export function signSnapshot(authority: TestAuthority, content: SnapshotParts): Uint8Array {
  const { sequence, snapshot, by } = content;
  const bytes = toBinary(
    SnapshotContentSchema,
    create(SnapshotContentSchema, {
      sequence,
      version: content.version ?? (snapshot as Snapshot).version,
      issuedAtMs: BigInt(content.issuedAtMs ?? 1),
      leaseMs: BigInt(LEASE_MS),
      strictLeaseMs: BigInt(STRICT_LEASE_MS),
      capabilityMin: content.capabilityMin ?? CAPABILITY,
      audience: content.audience ?? SnapshotContent_Audience.GATEWAY,
      body: zstdCompressSync(Buffer.from(JSON.stringify(snapshot))),
      ...(content.revoked === undefined
        ? {}
        : { trust: { authorities: [derOf(authority.certificate)], revokedSerials: [...content.revoked] } }),
    }),
  );
  return toBinary(
    SignedContentSchema,
    create(SignedContentSchema, {
      content: bytes,
      signature: sign(null, snapshotSignatureInput(bytes), by.privateKey),
      signerCertificate: by.certificate,
    }),
  );
}

function derOf(pem: string): Uint8Array {
  return Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ""), "base64");
}
