/**
 * Methods of the admin API about the installation itself: nodes and how they join, authorities, disabled principals. What each takes
 * and answers, without HTTP.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter } from "@connectrpc/connect";
import { GatewayError } from "@sluice/core/errors.ts";
import { type AuthoritySchema, AuthorityService } from "@sluice/proto/sluice/admin/v1/authority_pb.ts";
import { type BindingSchema, BindingService } from "@sluice/proto/sluice/admin/v1/binding_pb.ts";
import { type JoinTokenSchema, type NodeSchema, NodeService } from "@sluice/proto/sluice/admin/v1/node_pb.ts";
import { PrincipalService } from "@sluice/proto/sluice/admin/v1/principal_pb.ts";
import * as requests from "./node-requests.ts";
import type {
  AuthoritiesAdmin,
  AuthoritySummary,
  BindingsAdmin,
  BindingSummary,
  HistoryAdmin,
  JoinTokensAdmin,
  JoinTokenSummary,
  NodesAdmin,
  NodeSummary,
  PrincipalsAdmin,
  SealingAdmin,
  SessionsAdmin,
} from "./services.ts";

export interface InstallationServices {
  readonly bindings: BindingsAdmin;
  readonly nodes: NodesAdmin;
  readonly authorities: AuthoritiesAdmin;
  readonly sessions: SessionsAdmin;
  readonly principals: PrincipalsAdmin;
  readonly history: HistoryAdmin;
  readonly sealing: SealingAdmin;
  /** Null where no other process may join. */
  readonly joinTokens: JoinTokensAdmin | null;
}

export function addNodeMethods(router: ConnectRouter, services: InstallationServices): void {
  const { nodes, authorities, principals, sealing } = services;
  router.service(NodeService, {
    list: async () => ({ nodes: (await nodes.list()).map((node) => toNode(node)) }),
    revoke: async (request) => await done(nodes.revoke(requests.parseRevokeNode(request))),
    createJoinToken: async (request) => {
      const { id, token, expiresAt } = await joinTokensOf(services).create(requests.parseCreateJoinToken(request));
      return { id, token, expiresAt: toTimestamp(expiresAt) };
    },
    listJoinTokens: async () => ({ tokens: (await joinTokensOf(services).list()).map((token) => toJoinToken(token)) }),
    revokeJoinToken: async (request) => await done(joinTokensOf(services).revoke(requests.parseId(request))),
    sealingRecipients: async (request) => ({ recipients: [...(await sealing.recipients(requests.parseLabels(request)))] }),
  });
  router.service(AuthorityService, {
    list: async () => ({ authorities: (await authorities.list()).map((authority) => toAuthority(authority)) }),
    rotate: async (request) => ({ authority: toAuthority(await authorities.rotate(requests.parseRotate(request))) }),
  });
  router.service(BindingService, {
    list: async (request) => {
      const { bindings, total } = await services.bindings.list(requests.parseListBindings(request));
      return { bindings: bindings.map((binding) => toBinding(binding)), total };
    },
    forget: async (request) => ({ forgotten: await services.bindings.forget(requests.parseForgetBindings(request)) }),
  });
  router.service(PrincipalService, {
    disable: async (request) => await done(principals.disable(requests.parseDisable(request))),
    enable: async (request) => await done(principals.enable(requests.parsePrincipal(request))),
    list: async () => ({
      principals: (await principals.list()).map(({ subject, issuer, owner, reason, author, since }) => ({
        ...(subject === null ? {} : { subject }),
        ...(issuer === null ? {} : { issuer }),
        ...(owner === null ? {} : { owner }),
        reason,
        author,
        since: toTimestamp(since),
      })),
    }),
  });
}

async function done(work: Promise<void>): Promise<Record<string, never>> {
  await work;
  return {};
}

function joinTokensOf({ joinTokens }: InstallationServices): JoinTokensAdmin {
  if (joinTokens !== null) return joinTokens;
  throw new GatewayError("unsupported", "No other process may join this installation.", {
    hint: "Set controlPlane.nodes.listen in the configuration and start it again.",
  });
}

function toNode(node: NodeSummary): MessageInitShape<typeof NodeSchema> {
  const { role, name, region, labels, addresses, state, softwareVersion, capability, sessions, links } = node;
  const { snapshot, rejected, enrolledAt, lastSeenAt, certificateIssuedAt, certificateExpiresAt } = node;
  const { control, sessions: sessionsAddress, callers } = addresses;
  return {
    role,
    name,
    region,
    labels,
    state,
    softwareVersion,
    capability,
    sessions,
    links: [...links],
    addresses: {
      ...(control === null ? {} : { control }),
      ...(sessionsAddress === null ? {} : { sessions: sessionsAddress }),
      callers: { ...callers },
    },
    ...(snapshot === null ? {} : { snapshot: { ...snapshot, sequence: BigInt(snapshot.sequence) } }),
    ...(rejected === null ? {} : { rejected: { ...rejected, sequence: BigInt(rejected.sequence) } }),
    enrolledAt: toTimestamp(enrolledAt),
    ...(lastSeenAt === null ? {} : { lastSeenAt: toTimestamp(lastSeenAt) }),
    ...(certificateIssuedAt === null ? {} : { certificateIssuedAt: toTimestamp(certificateIssuedAt) }),
    ...(certificateExpiresAt === null ? {} : { certificateExpiresAt: toTimestamp(certificateExpiresAt) }),
  };
}

function toJoinToken(token: JoinTokenSummary): MessageInitShape<typeof JoinTokenSchema> {
  const { id, role, name, labels, hosts, author, createdAt, expiresAt, state, usedBy } = token;
  return {
    id,
    role,
    labels,
    hosts: [...hosts],
    author,
    state,
    ...(name === null ? {} : { name }),
    createdAt: toTimestamp(createdAt),
    expiresAt: toTimestamp(expiresAt),
    ...(usedBy === null ? {} : { usedBy }),
  };
}

function toAuthority({ fingerprint, state, createdAt, expiresAt }: AuthoritySummary): MessageInitShape<typeof AuthoritySchema> {
  return { fingerprint, state, createdAt: toTimestamp(createdAt), expiresAt: toTimestamp(expiresAt) };
}

function toBinding({ since, goneSince, ...binding }: BindingSummary): MessageInitShape<typeof BindingSchema> {
  return { ...binding, since: toTimestamp(since), ...(goneSince === null ? {} : { goneSince: toTimestamp(goneSince) }) };
}

/** From RFC 3339. */
function toTimestamp(text: string): Timestamp {
  return timestampFromDate(new Date(text));
}
