/** What nodes say and hear on their control stream, between protobuf and domain. Nothing from a node is trusted to be of sane size. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Addresses, AddressesSchema, Hello, NodeSchema, Status } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import type { NodeStatus } from "@sluice/rpc/control-link.ts";
import { canonicalSerial, dnsLabelPattern } from "@sluice/rpc/identity/node-certificate.ts";
import type { DirectoryNode, NodeAddresses } from "@sluice/rpc/nodes.ts";
import { roleToProto } from "@sluice/rpc/trust.ts";

const TEXT_CHARS_MAX = 1_024;
const LINKS_MAX = 4_096;
/** The last moment that the store and JSON write alike. */
const TIME_MS_MAX = Date.UTC(9999, 11, 31);

export interface HelloFacts {
  readonly softwareVersion: string;
  readonly region: string;
  readonly addresses: NodeAddresses;
  readonly sealingKey: string;
  readonly startedAtMs: number;
}

export function helloFromProto(hello: Hello): HelloFacts {
  return {
    softwareVersion: cut(hello.softwareVersion),
    region: cut(hello.region),
    addresses: addressesFromProto(hello.addresses),
    sealingKey: hello.sealingKey.length > TEXT_CHARS_MAX ? "" : cut(hello.sealingKey), // half a key is none
    startedAtMs: timeOrZero(hello.startedAtMs),
  };
}

export function statusFromProto(status: Status): NodeStatus {
  return {
    sessions: status.sessions,
    draining: status.draining,
    // Names of nodes and nothing else: what all nodes report is written in one statement, which one odd text would make fail.
    links: status.links
      .slice(0, LINKS_MAX)
      .filter(({ name }) => dnsLabelPattern.test(name))
      .map(({ name, sessions, roundTripUs }) => ({ name, sessions, roundTripUs })),
    spoolBytes: Number(status.spoolBytes),
  };
}

/** Of the certificate that it says it uses; null when that can be none. */
export function reportedCertificate(status: Status): { readonly serial: string; readonly notAfterMs: number } | null {
  const notAfterMs = timeOrZero(status.certificateNotAfterMs);
  if (notAfterMs === 0 || !/^[0-9a-f]{1,64}$/i.test(status.certificateSerial)) return null;
  return { serial: canonicalSerial(status.certificateSerial), notAfterMs };
}

export function directoryNodeToProto(node: DirectoryNode): MessageInitShape<typeof NodeSchema> {
  const { name, region, labels, slot, capability, draining } = node;
  return {
    role: roleToProto(node.role),
    name,
    region,
    addresses: addressesToProto(node.addresses),
    labels: { ...labels },
    slot,
    capability,
    draining,
  };
}

function addressesToProto({ control, sessions, callers }: NodeAddresses): MessageInitShape<typeof AddressesSchema> {
  return {
    control: control ?? "",
    sessions: sessions ?? "",
    callers: callers.postgres === undefined ? {} : { postgres: callers.postgres },
  };
}

function addressesFromProto(addresses: Addresses | undefined): NodeAddresses {
  const postgres = cut(addresses?.callers["postgres"] ?? "");
  return {
    control: addressOrNull(addresses?.control),
    sessions: addressOrNull(addresses?.sessions),
    callers: postgres === "" ? {} : { postgres },
  };
}

function addressOrNull(text: string | undefined): string | null {
  return text === undefined || text === "" ? null : cut(text);
}

/** What the store takes: no NUL, no half of a pair that `slice` has left. */
function cut(text: string): string {
  return text.replaceAll("\0", "").slice(0, TEXT_CHARS_MAX).toWellFormed();
}

function timeOrZero(ms: bigint): number {
  return ms > 0n && ms <= BigInt(TIME_MS_MAX) ? Number(ms) : 0;
}
