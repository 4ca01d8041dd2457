/**
 * The admin API's methods: what each takes, does and answers, without HTTP. All of them act with the installation's own
 * authority, so whoever holds the admin token holds all of it; it is no reviewer.
 */
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { DecisionExplainer } from "@sluice/rpc/explain.ts";
import type { RecordingReader } from "@sluice/rpc/recordings.ts";
import type { Method } from "./method.ts";
import type { DevelopmentIssuer } from "../identity/development-issuer.ts";
import type { ManifestFault } from "../publish/check.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { SessionIndex } from "../store/session-index.ts";
import { type InstallationServices, nodeMethods } from "./node-methods.ts";
import * as requests from "./requests.ts";

export interface AdminServices {
  readonly publisher: Publisher;
  readonly sessionIndex: SessionIndex;
  readonly recordings: RecordingReader;
  readonly explainer: () => DecisionExplainer;
  readonly issuer: DevelopmentIssuer | undefined;
  /** Nodes, authorities, kills, disabled principals, history. */
  readonly installation: InstallationServices;
}

/** Refused manifests: the error carries every fault with its place. */
export class ManifestsRefused extends GatewayError {
  readonly faults: readonly ManifestFault[];

  constructor(faults: readonly ManifestFault[]) {
    const count = faults.length === 1 ? "1 fault" : `${faults.length} faults`;
    super("config_invalid", `The manifests have ${count}; nothing was applied.`);
    this.faults = faults;
  }
}

/** Explanations asked at once; each may cost a parse. */
const EXPLAINED_AT_ONCE = 4;

/** By path below `/`: `sluice.admin.v1.<Service>/<Method>`. */
export function adminMethods(services: AdminServices): ReadonlyMap<string, Method> {
  const unary = (call: (body: unknown) => Promise<unknown>): Method => ({ kind: "unary", call });
  const stream = (call: (body: unknown) => AsyncIterable<unknown>): Method => ({ kind: "stream", call });
  return new Map([
    ...nodeMethods(services.installation),
    ["sluice.admin.v1.ManifestService/Apply", unary((body) => apply(services, body))],
    ["sluice.admin.v1.TokenService/Mint", unary((body) => mint(services, body))],
    ["sluice.admin.v1.PolicyService/Explain", unary((body) => explainerOf(services).explain(requests.parseExplainRequest(body)))],
    ["sluice.admin.v1.PolicyService/ExplainBatch", unary((body) => explainBatch(services, body))],
    ["sluice.admin.v1.SessionService/List", unary((body) => listSessions(services, body))],
    ["sluice.admin.v1.SessionService/Get", unary((body) => getSession(services, body))],
    ["sluice.admin.v1.SessionService/Replay", stream((body) => services.recordings.replay(requests.parseSessionRequest(body)))],
    [
      "sluice.admin.v1.SessionService/Verify",
      unary(async (body) => await services.recordings.verify(requests.parseSessionRequest(body))),
    ],
  ]);
}

async function apply({ publisher }: AdminServices, body: unknown): Promise<unknown> {
  const { files, author } = requests.parseApplyRequest(body);
  const result = await publisher.apply({ files, origin: "apply", author: author ?? "admin" });
  if (!result.ok) throw new ManifestsRefused(result.faults);
  return { version: result.version, applied: result.applied };
}

async function mint({ issuer }: AdminServices, body: unknown): Promise<unknown> {
  const request = requests.parseMintRequest(body);
  if (issuer === undefined) {
    throw new GatewayError(
      "unsupported",
      "The built-in development issuer is switched off, so there is nobody to make a token.",
      {
        hint: "Get a token from your identity provider, or set controlPlane.developmentIssuer: true.",
      },
    );
  }
  return { token: await issuer.mint(request) };
}

function explainerOf({ explainer }: AdminServices): DecisionExplainer {
  try {
    return explainer();
  } catch (error) {
    throw new GatewayError("analysis_unavailable", "No gateway serves yet that could say what it would decide.", {
      hint: "Try again in a moment.",
      cause: error,
    });
  }
}

async function explainBatch(services: AdminServices, body: unknown): Promise<unknown> {
  const lines = requests.parseExplainBatchRequest(body);
  const explainer = explainerOf(services);
  const answers: unknown[] = Array.from({ length: lines.length });
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < lines.length; at = next++) {
      const line = lines[at];
      if (line !== undefined) answers[at] = await explainLine(explainer, line);
    }
  };
  await Promise.all(Array.from({ length: EXPLAINED_AT_ONCE }, work));
  return { lines: answers };
}

/** A statement that cannot be judged is refused at the gateway, so its line says deny, and why. */
async function explainLine(explainer: DecisionExplainer, { id, request }: requests.BatchLine): Promise<unknown> {
  try {
    return { ...(await explainer.explain(request)), id };
  } catch (error) {
    const { code, message, hint } = toGatewayError(error);
    const rule = `builtin/${code.replaceAll("_", "-")}`;
    const failure = { code, message, ...(hint === undefined ? {} : { hint }) };
    return { id, effect: "deny", rule, rules: [rule], reason: message, error: failure };
  }
}

async function listSessions({ sessionIndex }: AdminServices, body: unknown): Promise<unknown> {
  requests.parseEmptyRequest(body);
  return { sessions: await sessionIndex.list() };
}

async function getSession({ sessionIndex }: AdminServices, body: unknown): Promise<unknown> {
  const session = await sessionIndex.get(requests.parseSessionRequest(body));
  if (session === undefined) throw requests.sessionNotFound();
  return { session };
}
