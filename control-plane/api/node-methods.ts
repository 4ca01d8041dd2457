/**
 * Methods of the admin API about the installation itself: nodes and how they join, authorities, running sessions, disabled
 * principals, history of manifests. What each takes and answers, without HTTP.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Method } from "./method.ts";
import * as requests from "./node-requests.ts";
import type {
  AuthoritiesAdmin,
  HistoryAdmin,
  JoinTokensAdmin,
  NodesAdmin,
  PrincipalsAdmin,
  SealingAdmin,
  SessionsAdmin,
} from "./services.ts";

export interface InstallationServices {
  readonly nodes: NodesAdmin;
  readonly authorities: AuthoritiesAdmin;
  readonly sessions: SessionsAdmin;
  readonly principals: PrincipalsAdmin;
  readonly history: HistoryAdmin;
  readonly sealing: SealingAdmin;
  /** Null where no other process may join. */
  readonly joinTokens: JoinTokensAdmin | null;
}

/** By path below `/`. */
export function nodeMethods(services: InstallationServices): ReadonlyMap<string, Method> {
  const { nodes, authorities, sessions, principals, history, sealing } = services;
  const unary = (name: string, call: (body: unknown) => Promise<unknown>): [string, Method] => [
    `sluice.admin.v1.${name}`,
    { kind: "unary", call },
  ];
  return new Map([
    unary("NodeService/List", async (body) => {
      requests.parseNothing(body);
      return { nodes: await nodes.list() };
    }),
    unary("NodeService/Revoke", async (body) => done(nodes.revoke(requests.parseRevokeNode(body)))),
    unary(
      "NodeService/CreateJoinToken",
      async (body) => await joinTokensOf(services).create(requests.parseCreateJoinToken(body)),
    ),
    unary("NodeService/ListJoinTokens", async (body) => {
      requests.parseNothing(body);
      return { tokens: await joinTokensOf(services).list() };
    }),
    unary("NodeService/RevokeJoinToken", async (body) => done(joinTokensOf(services).revoke(requests.parseId(body)))),
    unary("NodeService/SealingRecipients", async (body) => ({
      recipients: await sealing.recipients(requests.parseLabels(body)),
    })),
    unary("AuthorityService/List", async (body) => {
      requests.parseNothing(body);
      return { authorities: await authorities.list() };
    }),
    unary("AuthorityService/Rotate", async (body) => await authorities.rotate(requests.parseRotate(body))),
    unary("SessionService/Kill", async (body) => done(sessions.kill(requests.parseKill(body)))),
    unary("PrincipalService/Disable", async (body) => done(principals.disable(requests.parseDisable(body)))),
    unary("PrincipalService/Enable", async (body) => done(principals.enable(requests.parsePrincipal(body)))),
    unary("PrincipalService/List", async (body) => {
      requests.parseNothing(body);
      return { principals: await principals.list() };
    }),
    unary("ManifestService/History", async (body) => ({ revisions: await history.list(requests.parseHistory(body)) })),
    unary("ManifestService/Diff", async (body) => await history.diff(requests.parseRevision(body))),
  ]);
}

async function done(work: Promise<void>): Promise<unknown> {
  await work;
  return {};
}

function joinTokensOf({ joinTokens }: InstallationServices): JoinTokensAdmin {
  if (joinTokens !== null) return joinTokens;
  throw new GatewayError("unsupported", "No other process may join this installation.", {
    hint: "Set controlPlane.nodes.listen in the configuration and start it again.",
  });
}
