/** Which resource a `dbname` means to a principal. Unknown and forbidden look the same from outside. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { Protocol, ResourceSpec } from "@sluice/core/snapshot.ts";
import { mayReach } from "@sluice/inspect/policy/compile.ts";
import type { CatalogEntry } from "../upstream/catalogs.ts";
import type { PolicyInForce, PolicyStore } from "../policy-watch/policy-store.ts";

export interface ResolvedResource {
  readonly resource: ResourceSpec;
  readonly database: string;
}

/** Takes `resource` or `resource/database`. Throws `resource_unknown`. */
export function resolveResource(policy: PolicyInForce, principal: Principal, name: string, protocol: Protocol): ResolvedResource {
  const found = findResource(policy, name, protocol);
  if (found === undefined || !mayReach(policy.compiled, principal, found.resource)) throw unknown();
  return found;
}

/** The same for those who may know what there is, such as the platform team: nobody's reach is asked. */
export function findResource(policy: PolicyInForce, name: string, protocol: Protocol): ResolvedResource | undefined {
  const slash = name.indexOf("/");
  const resource = policy.resources.get(slash < 0 ? name : name.slice(0, slash));
  if (resource === undefined || resource.protocol !== protocol) return undefined;
  const database = slash < 0 ? resource.target.database : name.slice(slash + 1);
  if (database !== resource.target.database && !resource.target.databases.includes(database)) return undefined;
  return { resource, database };
}

/**
 * Why a principal may not be here at all, whatever its token says; null: it may. `killed` is for sessions that run: drivers take it for
 * a server that goes away, and a login refused with it would be tried again for ever.
 */
export function disabledError(policy: PolicyInForce, principal: Principal, code: "login_failed" | "killed"): GatewayError | null {
  const entry = policy.disabled(principal);
  if (entry === null) return null;
  const reason = entry.reason === "" ? "An administrator has disabled you." : entry.reason;
  return new GatewayError(code, reason, {
    hint: "An administrator has disabled this identity. Ask the platform team; connecting again does not help until it is enabled.",
  });
}

/** Why nothing new may begin on a resource: nobody has said for too long that the policy still holds. Null: it may. */
export function staleError(policies: PolicyStore, strict: boolean): GatewayError | null {
  if (!policies.isStale(strict)) return null;
  return new GatewayError(
    "policy_stale",
    "This gateway has not heard from the control plane for too long to know that its policy still holds.",
    {
      hint: "Connect to another gateway, or again later. Tell the platform team: this gateway does not reach the control plane.",
    },
  );
}

/** Records are durable before release: set on the resource, or because a classifier matches (unknown counts as matching). */
export function recordsStrictly(resource: ResourceSpec, catalog: CatalogEntry): boolean {
  const mode = resource.inspection.recording;
  if (mode !== "auto") return mode === "strict";
  return catalog.current?.labels.hasLabels ?? true;
}

/**
 * Why a session that was opened under an earlier policy must end under this one; null: it may go on. The principal was disabled,
 * the resource is gone or out of reach, or its name now means another database than the one the session talks to.
 */
export function accessLost(policy: PolicyInForce, principal: Principal, opened: ResolvedResource): GatewayError | null {
  const disabled = disabledError(policy, principal, "killed");
  if (disabled !== null) return disabled;
  const { resource, database } = opened;
  const now = policy.resources.get(resource.name);
  if (now === undefined || now.protocol !== resource.protocol || !mayReach(policy.compiled, principal, now)) {
    return new GatewayError("killed", "No policy lets you reach this resource any more.", {
      hint: "Ask the platform team which resources your groups may reach.",
    });
  }
  const sameServer = now.target.host === resource.target.host && now.target.port === resource.target.port;
  const listed = database === now.target.database || now.target.databases.includes(database);
  if (sameServer && listed) return null;
  return new GatewayError("killed", "This resource now means another database than the one this session talks to.", {
    hint: "Connect again.",
  });
}

function unknown(): GatewayError {
  return new GatewayError("resource_unknown", "There is no resource of this name, or no policy lets you reach it.", {
    hint: "The database name names the resource, e.g. dbname=orders. Ask the platform team which resources your groups may reach.",
  });
}
