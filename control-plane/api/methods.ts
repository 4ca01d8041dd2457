/**
 * The admin API's methods: what each takes, does and answers, without HTTP. All of them act with the installation's own authority, so
 * whoever holds the admin token holds all of it; it is no reviewer.
 */
import type { JsonObject, JsonValue, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter } from "@connectrpc/connect";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { type DiffResponseSchema, ManifestService, type RevisionSchema } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import { PolicyService } from "@sluice/proto/sluice/admin/v1/policy_pb.ts";
import { TokenService } from "@sluice/proto/sluice/admin/v1/token_pb.ts";
import type { DecisionExplainer } from "@sluice/rpc/explain.ts";
import type { RecordingReader } from "@sluice/rpc/recordings.ts";
import type { DevelopmentIssuer } from "../identity/development-issuer.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { SessionIndex } from "../store/session-index.ts";
import { ManifestsRefused } from "./connect-errors.ts";
import { addNodeMethods, type InstallationServices } from "./node-methods.ts";
import * as requests from "./requests.ts";
import type { HistoryAdmin, RevisionSummary } from "./services.ts";
import { addSessionMethods } from "./session-methods.ts";

export interface AdminServices {
  readonly publisher: Publisher;
  readonly sessionIndex: SessionIndex;
  readonly recordings: RecordingReader;
  readonly explainer: () => DecisionExplainer;
  readonly issuer: DevelopmentIssuer | undefined;
  /** Nodes, authorities, kills, disabled principals, history. */
  readonly installation: InstallationServices;
}

/** Explanations asked at once; each may cost a parse. */
const EXPLAINED_AT_ONCE = 4;

/** For `startAdminServer`. */
export function adminMethods(services: AdminServices): (router: ConnectRouter) => void {
  return (router) => {
    const { publisher, explainer, issuer, installation } = services;
    addManifestMethods(router, publisher, installation.history);
    router.service(TokenService, {
      mint: async (request) => ({ token: await issuerOf(issuer).mint(requests.parseMint(request)) }),
    });
    router.service(PolicyService, {
      explain: async (request) => ({ decision: plain(await explainerOf(explainer).explain(requests.parseExplain(request))) }),
      explainBatch: async ({ lines }) => ({
        lines: await explainLines(explainerOf(explainer), requests.parseExplainLines(lines)),
      }),
    });
    addSessionMethods(router, { ...services, sessions: installation.sessions });
    addNodeMethods(router, installation);
  };
}

function addManifestMethods(router: ConnectRouter, publisher: Publisher, history: HistoryAdmin): void {
  router.service(ManifestService, {
    apply: async (request) => {
      const { files, author } = requests.parseApply(request);
      const result = await publisher.apply({ files, origin: "apply", author });
      if (!result.ok) throw new ManifestsRefused(result.faults);
      return { version: result.version, applied: [...result.applied] };
    },
    history: async (request) => {
      const revisions = await history.list(requests.parseHistory(request));
      return { revisions: revisions.map((revision) => toRevision(revision)) };
    },
    diff: async (request): Promise<MessageInitShape<typeof DiffResponseSchema>> => {
      const { revision, diff } = await history.diff(requests.parseRevision(request));
      return { revision: toRevision(revision), diff };
    },
  });
}

function toRevision(revision: RevisionSummary): MessageInitShape<typeof RevisionSchema> {
  return { ...revision, at: timestampFromDate(new Date(revision.at)) };
}

function issuerOf(issuer: DevelopmentIssuer | undefined): DevelopmentIssuer {
  if (issuer !== undefined) return issuer;
  throw new GatewayError("unsupported", "The built-in development issuer is switched off, so there is nobody to make a token.", {
    hint: "Get a token from your identity provider, or set controlPlane.developmentIssuer: true.",
  });
}

function explainerOf(explainer: () => DecisionExplainer): DecisionExplainer {
  try {
    return explainer();
  } catch (error) {
    throw new GatewayError("analysis_unavailable", "No gateway serves yet that could say what it would decide.", {
      hint: "Try again in a moment.",
      cause: error,
    });
  }
}

async function explainLines(explainer: DecisionExplainer, lines: readonly requests.BatchLine[]): Promise<JsonObject[]> {
  const answers: JsonObject[] = Array.from({ length: lines.length });
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < lines.length; at = next++) {
      const line = lines[at];
      if (line !== undefined) answers[at] = await explainLine(explainer, line);
    }
  };
  await Promise.all(Array.from({ length: EXPLAINED_AT_ONCE }, work));
  return answers;
}

/** A statement that cannot be judged is refused at the gateway, so its line says deny, and why. */
async function explainLine(explainer: DecisionExplainer, { id, request }: requests.BatchLine): Promise<JsonObject> {
  try {
    return { ...plain(await explainer.explain(request)), id };
  } catch (error) {
    const { code, message, hint } = toGatewayError(error);
    const rule = `builtin/${code.replaceAll("_", "-")}`;
    const failure: JsonObject = { code, message, ...(hint === undefined ? {} : { hint }) };
    return { id, effect: "deny", rule, rules: [rule], reason: message, error: failure };
  }
}

/** A decision as JSON alone: what JSON leaves out, a message may not hold. */
function plain(value: Readonly<Record<string, unknown>>): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject satisfies JsonValue; // made from an object
}
