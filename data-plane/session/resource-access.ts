/** Which resource a `dbname` means to a principal. Unknown and forbidden look the same from outside. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { Protocol, ResourceSpec } from "@sluice/core/snapshot.ts";
import { mayReach } from "@sluice/inspect/policy/compile.ts";
import type { PolicyInForce } from "../policy-watch/policy-store.ts";

export interface ResolvedResource {
  readonly resource: ResourceSpec;
  readonly database: string;
}

/** Takes `resource` or `resource/database`. Throws `resource_unknown`. */
export function resolveResource(policy: PolicyInForce, principal: Principal, name: string, protocol: Protocol): ResolvedResource {
  const slash = name.indexOf("/");
  const resource = policy.resources.get(slash < 0 ? name : name.slice(0, slash));
  if (resource === undefined || resource.protocol !== protocol || !mayReach(policy.compiled, principal, resource))
    throw unknown();
  const database = slash < 0 ? resource.target.database : name.slice(slash + 1);
  if (database !== resource.target.database && !resource.target.databases.includes(database)) throw unknown();
  return { resource, database };
}

function unknown(): GatewayError {
  return new GatewayError("resource_unknown", "There is no resource of this name, or no policy lets you reach it.", {
    hint: "The database name names the resource, e.g. dbname=orders. Ask the platform team which resources your groups may reach.",
  });
}
