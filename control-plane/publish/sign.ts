/**
 * Snapshots as they are sent: signed with the installation's snapshot signer, the whole for gateways, for an agent the resources that it
 * may reach. Made once for each audience while nothing changes. Spec of the bytes: proto/sluice/common/v1/common.proto, rpc/signed-content.ts.
 */
import { zstdCompressSync } from "node:zlib";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Clock } from "@sluice/core/clock.ts";
import type { Snapshot } from "@sluice/core/snapshot.ts";
import {
  type SignedContentSchema,
  SnapshotContent_Audience,
  SnapshotContentSchema,
} from "@sluice/proto/sluice/common/v1/common_pb.ts";
import type { TrustBundle } from "@sluice/rpc/node-identity.ts";
import { trustToProto } from "@sluice/rpc/trust.ts";
import type { SnapshotSigner } from "../ca/snapshot-signer.ts";
import type { StoredSnapshot } from "../store/snapshot-store.ts";

export type SignedContentInit = MessageInitShape<typeof SignedContentSchema>;

export interface SigningOptions {
  /** In force now; may change while running. */
  readonly signer: () => Promise<SnapshotSigner>;
  readonly trust: () => TrustBundle;
  readonly lease: { readonly ms: number; readonly strictMs: number };
  readonly clock: Clock;
}

export type Audience =
  | { readonly kind: "gateway" }
  | { readonly kind: "agent"; readonly labels: Readonly<Record<string, string>> };

export interface SnapshotSigning {
  /** Signed for this audience. The same value again while snapshot, trust and signer are the same. */
  contentFor(stored: StoredSnapshot, audience: Audience): SignedContentInit;
  /** Asks for the signer in force. True: it is another one, so what was signed should be sent anew. */
  refresh(): Promise<boolean>;
}

/** Rejects when there is no signer. */
export async function openSnapshotSigning(options: SigningOptions): Promise<SnapshotSigning> {
  let signer = await options.signer();
  let made = { state: "", contents: new Map<string, SignedContentInit>() };
  return {
    refresh: async () => {
      const before = signer.serial;
      signer = await options.signer();
      return signer.serial !== before;
    },
    contentFor: (stored, audience) => {
      const trust = options.trust();
      const state = stateKey(stored, signer, trust);
      if (made.state !== state) made = { state, contents: new Map() };
      const key = audienceKey(audience);
      const known = made.contents.get(key);
      if (known !== undefined) return known;
      const content = signContent(options, signer, stored, audience);
      made.contents.set(key, content);
      return content;
    },
  };
}

function signContent(
  { trust, lease, clock }: SigningOptions,
  signer: SnapshotSigner,
  stored: StoredSnapshot,
  audience: Audience,
): SignedContentInit {
  const content = toBinary(
    SnapshotContentSchema,
    create(SnapshotContentSchema, {
      sequence: stored.sequence,
      version: stored.snapshot.version,
      issuedAtMs: BigInt(Math.trunc(clock.nowMs())),
      leaseMs: BigInt(lease.ms),
      strictLeaseMs: BigInt(lease.strictMs),
      capabilityMin: stored.capabilityMin,
      audience: audience.kind === "gateway" ? SnapshotContent_Audience.GATEWAY : SnapshotContent_Audience.AGENT,
      body: zstdCompressSync(JSON.stringify(bodyFor(stored.snapshot, audience))),
      trust: trustToProto(trust()),
    }),
  );
  return { content, signature: signer.sign(content), signerCertificate: signer.certificate };
}

/** An agent learns of no more than what it may reach: neither policies nor others' targets. */
function bodyFor(snapshot: Snapshot, audience: Audience): Snapshot | Pick<Snapshot, "resources"> {
  if (audience.kind === "gateway") return snapshot;
  return { resources: snapshot.resources.filter((resource) => carries(audience.labels, resource.agents ?? {})) };
}

/** Whether `labels` has everything that is `wanted`. */
export function carries(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, value]) => Object.hasOwn(labels, name) && labels[name] === value);
}

function stateKey(stored: StoredSnapshot, signer: SnapshotSigner, trust: TrustBundle): string {
  return JSON.stringify([String(stored.sequence), signer.serial, trust.authorities, [...trust.revokedSerials].toSorted()]);
}

function audienceKey(audience: Audience): string {
  if (audience.kind === "gateway") return "gateway";
  return JSON.stringify(Object.entries(audience.labels).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
