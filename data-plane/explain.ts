/** Answers "what would you decide" with the same analysis and the same policy as a session. Only catalog reads reach the target. */
import { GatewayError } from "@sluice/core/errors.ts";
import { newDecisionId, newSessionId } from "@sluice/core/ids.ts";
import type { Principal } from "@sluice/core/principal.ts";
import { decideBatch, mergeDecisions, unparsedDecision } from "@sluice/inspect/policy/decide.ts";
import { precheck } from "@sluice/inspect/sql/precheck.ts";
import { SessionNames } from "@sluice/inspect/sql/session-names.ts";
import type { DecisionExplainer, ExplainRequest } from "@sluice/rpc/explain.ts";
import type { GatewayParts } from "./gateway-parts.ts";
import type { CatalogEntry, CatalogState } from "./upstream/catalogs.ts";
import { decisionJson } from "./session/statement-records.ts";
import { findResource } from "./session/resource-access.ts";

export function createExplainer(parts: GatewayParts): DecisionExplainer {
  return { explain: (request) => explain(parts, request) };
}

async function explain(parts: GatewayParts, request: ExplainRequest): Promise<Readonly<Record<string, unknown>>> {
  if (request.sql.length === 0) throw new GatewayError("statement_invalid", "There is no statement to explain.");
  const policy = parts.policies.current;
  const principal = principalOf(request, policy.snapshot.identityProviders[0]?.issuer ?? "");
  // Whoever no policy lets reach the resource is told at login that there is none; here the answer is the denial and its reason.
  const { resource, database } = findResource(policy, request.resource, "postgres") ?? unknownResource(request.resource);
  const catalog = parts.catalogs.entry(resource, database);
  const { bulkRowsMin, bulkLimitMax, safeFunctions } = resource.inspection;
  const nowMs = parts.clock.nowMs();
  const session = {
    id: newSessionId(parts.random),
    clientAddress: "127.0.0.1",
    application: "sluice policy explain",
    startedAtMs: nowMs,
    declared: {},
  };
  const names = new SessionNames(undefined);
  let inTransaction = false;
  let decision: Readonly<Record<string, unknown>> = {};
  for (const text of request.sql) {
    precheck(text, parts.limits);
    const state = await catalogState(parts, catalog);
    const analysis = await parts.analyser.analyse({
      catalogKey: catalog.key,
      epoch: state.catalog.epoch,
      text,
      scope: names.scope,
      settings: { bulkRowsMin, bulkLimitMax, safeFunctions },
    });
    if (analysis.kind === "unparsed") {
      decision = decisionJson(unparsedDecision(newDecisionId(parts.random), policy.compiled));
      continue;
    }
    if (analysis.statements.length === 0) throw new GatewayError("statement_invalid", "The text holds no statement.");
    const decisions = decideBatch(
      analysis.statements.map((statement) => ({
        compiled: policy.compiled,
        principal,
        resource,
        session,
        statement,
        text,
        labels: state.labels,
        nowMs,
        decisionId: newDecisionId(parts.random),
      })),
    );
    decision = decisionJson(mergeDecisions(decisions));
    // As if each text were sent by itself and ran well.
    for (const { scopeChanges } of analysis.statements) {
      names.succeeded(scopeChanges, "");
      for (const change of scopeChanges)
        if (
          change.kind === "transaction" &&
          change.verb !== "release" &&
          change.verb !== "savepoint" &&
          change.verb !== "rollback_to"
        )
          inTransaction = change.verb === "begin";
    }
    names.ready(inTransaction ? "T" : "I");
  }
  return decision;
}

/** How long the failure to read a catalog answers for it, so that a batch on a target that is down does not wait line by line. */
const FAILURE_KEPT_MS = 5_000;
const failures = new WeakMap<CatalogEntry, { readonly error: unknown; readonly atMs: number }>();

async function catalogState({ clock }: GatewayParts, catalog: CatalogEntry): Promise<CatalogState> {
  const known = catalog.current;
  if (known !== undefined) return known;
  const failure = failures.get(catalog);
  if (failure !== undefined && clock.monotonicMs() - failure.atMs < FAILURE_KEPT_MS) throw failure.error;
  try {
    return await catalog.wait();
  } catch (error) {
    failures.set(catalog, { error, atMs: clock.monotonicMs() });
    throw error;
  }
}

function unknownResource(name: string): never {
  throw new GatewayError("resource_unknown", `There is no resource '${name}', or it does not list this database.`, {
    hint: "Give the name of an applied Resource, as dbname would: orders, or orders/archive for a further database of it.",
  });
}

function principalOf({ as }: ExplainRequest, issuer: string): Principal {
  const claims = as.claims ?? {};
  const text = (name: string): string => (typeof claims[name] === "string" ? claims[name] : "");
  return {
    subject: as.sub,
    issuer: as.iss ?? issuer,
    groups: as.groups,
    kind: text("sluice_kind") || "user",
    owner: text("sluice_owner"),
    task: text("sluice_task"),
    claims: { ...claims, sub: as.sub, groups: as.groups },
  };
}
