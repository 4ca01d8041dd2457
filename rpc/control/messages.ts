/** A node's side of NodeControlService as domain values: from and to protobuf at this edge only. What is not known is dropped. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Protocol } from "@sluice/core/snapshot.ts";
import { SignedContentSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import {
  type Addresses,
  AddressesSchema,
  type Directory,
  type HelloSchema,
  type StatusSchema,
  type WatchResponse,
} from "@sluice/proto/sluice/control/v1/control_pb.ts";
import { CAPABILITY_MIN } from "../capabilities.ts";
import type { NodeHello, NodeStatus } from "../control-link.ts";
import type { DirectoryNode, NodeAddresses, NodeCertificate } from "../nodes.ts";
import { roleFromProto } from "../trust.ts";

export type SignedContentMessage = Extract<WatchResponse["instruction"], { case: "snapshot" }>["value"];

export function helloToProto(
  hello: NodeHello,
  own: { readonly capability: number; readonly softwareVersion: string; readonly startedAtMs: number },
): MessageInitShape<typeof HelloSchema> {
  return {
    capability: own.capability,
    capabilityMin: CAPABILITY_MIN,
    softwareVersion: own.softwareVersion,
    region: hello.region,
    addresses: addressesToProto(hello.addresses),
    sealingKey: hello.sealingKey,
    snapshotSequence: hello.snapshotSequence,
    startedAtMs: BigInt(Math.trunc(own.startedAtMs)),
  };
}

export function statusToProto(status: NodeStatus, certificate: NodeCertificate): MessageInitShape<typeof StatusSchema> {
  return {
    sessions: status.sessions,
    draining: status.draining,
    links: status.links.map(({ name, sessions, roundTripUs }) => ({ name, sessions, roundTripUs: uint32(roundTripUs) })),
    spoolBytes: BigInt(Math.trunc(status.spoolBytes)),
    certificateSerial: certificate.serial,
    certificateNotAfterMs: BigInt(certificate.notAfterMs),
  };
}

function addressesToProto(addresses: NodeAddresses): Addresses {
  const { control, sessions, callers } = addresses;
  return create(AddressesSchema, { control: control ?? "", sessions: sessions ?? "", callers: { ...callers } });
}

function addressesFromProto(addresses: Addresses | undefined): NodeAddresses {
  const callers: Partial<Record<Protocol, string>> = {};
  for (const protocol of protocols) {
    const address = addresses?.callers[protocol];
    if (address !== undefined && address !== "") callers[protocol] = address;
  }
  return { control: addresses?.control || null, sessions: addresses?.sessions || null, callers };
}

/** Nodes of roles that only newer nodes know are left out. */
export function directoryFromProto(directory: Directory): readonly DirectoryNode[] {
  const nodes: DirectoryNode[] = [];
  for (const node of directory.nodes) {
    const role = roleFromProto(node.role);
    if (role === undefined) continue;
    const { name, region, labels, slot, capability, draining } = node;
    nodes.push({
      role,
      name,
      region,
      labels: { ...labels },
      slot,
      capability,
      draining,
      addresses: addressesFromProto(node.addresses),
    });
  }
  return nodes;
}

/** As whoever verifies it wants it: the bytes that were signed are inside as they came. */
export function signedBytes(message: SignedContentMessage): Uint8Array {
  return toBinary(SignedContentSchema, message);
}

const protocols: readonly Protocol[] = ["postgres"];

function uint32(value: number): number {
  return Math.min(Math.max(Math.round(value), 0), 2 ** 32 - 1);
}
