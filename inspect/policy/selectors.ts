/** Does a policy speak of this principal and this resource? All given parts must match; within a list any one is enough. */
import type { Principal } from "@sluice/core/principal.ts";
import type { PrincipalSelector, ResourceSelector, ResourceSpec } from "@sluice/core/snapshot.ts";

/** An empty selector matches every authenticated principal. */
export function matchesPrincipal(selector: PrincipalSelector, principal: Principal): boolean {
  const { groups, subjects, kinds, owners, issuers, claims } = selector;
  return (
    (groups === undefined || groups.some((group) => principal.groups.includes(group))) &&
    (subjects === undefined || subjects.includes(principal.subject)) &&
    (kinds === undefined || kinds.includes(principal.kind)) &&
    (owners === undefined || owners.includes(principal.owner)) &&
    (issuers === undefined || issuers.includes(principal.issuer)) &&
    (claims === undefined || Object.entries(claims).every(([name, wanted]) => claimHolds(principal.claims, name, wanted)))
  );
}

/** An empty selector matches every resource. */
export function matchesResource(selector: ResourceSelector, resource: ResourceSpec): boolean {
  const { names, labels } = selector;
  return (
    (names === undefined || names.includes(resource.name)) &&
    (labels === undefined ||
      Object.entries(labels).every(([name, wanted]) => Object.hasOwn(resource.labels, name) && resource.labels[name] === wanted))
  );
}

/** A claim holds when it is the wanted text (numbers and booleans as they are written), or a list that contains it. */
function claimHolds(claims: Readonly<Record<string, unknown>>, name: string, wanted: string): boolean {
  if (!Object.hasOwn(claims, name)) return false;
  const claim = claims[name];
  return Array.isArray(claim) ? claim.some((item) => isText(item, wanted)) : isText(claim, wanted);
}

function isText(value: unknown, wanted: string): boolean {
  if (typeof value === "string") return value === wanted;
  return (typeof value === "number" || typeof value === "boolean") && String(value) === wanted;
}
