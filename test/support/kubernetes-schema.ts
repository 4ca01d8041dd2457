/**
 * Checks objects against Kubernetes' own schemas, by the validators that kubernetes-models compiled from its OpenAPI document. These let
 * unknown fields pass, which is how a misspelt one is lost in silence; so it is watched which fields the validator looks at, and what
 * it never asks for is reported too.
 */
import { load } from "./kubernetes-validators.ts";

export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** One sentence a fault; empty: valid. Throws for kinds that no validator is known for. */
export async function faultsOf(object: KubernetesObject): Promise<readonly string[]> {
  const validate = await load(object.apiVersion, object.kind);
  const looked: Looked[] = [];
  const faults: string[] = [];
  if (!validate(watched(object, "", looked))) {
    for (const { instancePath, message } of validate.errors ?? []) faults.push(`${instancePath} ${message ?? "is not valid"}`);
  }
  for (const { path, value, fields, listed } of looked) {
    if (Array.isArray(value) || listed()) continue;
    for (const field of Object.keys(value)) if (!fields.has(field)) faults.push(`${path}/${field} is no field of Kubernetes`);
  }
  return faults;
}

/** An object of the document, and what was asked of it. */
interface Looked {
  readonly path: string;
  readonly value: object;
  readonly fields: ReadonlySet<string>;
  /** All its fields were listed: it is a map, whose keys are free. */
  readonly listed: () => boolean;
}

function watched(value: object, path: string, looked: Looked[]): object {
  const fields = new Set<string>();
  const below = new Map<string | symbol, object>();
  let listed = false;
  looked.push({ path, value, fields, listed: () => listed });
  return new Proxy(value, {
    get: (target, field) => {
      if (typeof field === "string") fields.add(field);
      const found: unknown = Reflect.get(target, field);
      if (typeof found !== "object" || found === null) return found;
      const known = below.get(field) ?? watched(found, `${path}/${String(field)}`, looked);
      below.set(field, known);
      return known;
    },
    ownKeys: (target) => {
      listed = true;
      return Reflect.ownKeys(target);
    },
  });
}
