/** The validator of each kind that the charts use. ServiceMonitor and PodMonitor are not Kubernetes' own: what is used of them stands here. */
import { isDeepStrictEqual } from "node:util";

export interface Validator {
  (data: unknown): boolean;
  errors?: readonly { readonly instancePath: string; readonly message?: string }[] | null | undefined;
}

const folders: Readonly<Record<string, string>> = {
  v1: "CoreV1",
  "apps/v1": "AppsV1",
  "policy/v1": "PolicyV1",
  "autoscaling/v2": "AutoscalingV2",
  "networking.k8s.io/v1": "NetworkingV1",
  "rbac.authorization.k8s.io/v1": "RbacV1",
};

export async function load(apiVersion: string, kind: string): Promise<Validator> {
  if (apiVersion === "monitoring.coreos.com/v1") return monitor(kind);
  const folder = folders[apiVersion];
  if (folder === undefined) throw new Error(`no validator is known for ${apiVersion}`);
  const module = (await import(`kubernetes-models/_schemas/IoK8sApi${folder}${kind}`)) as { validate: Validator }; // its own shape
  return module.validate;
}

/** https://prometheus-operator.dev/docs/api-reference/api/ as far as the charts go. */
function monitor(kind: string): Validator {
  const endpoints = kind === "PodMonitor" ? "podMetricsEndpoints" : "endpoints";
  const validate: Validator = (data) => {
    const { apiVersion, kind: _kind, metadata, spec, ...rest } = data as Record<string, unknown>; // an object: it had a kind
    const { name, labels } = metadata as Record<string, unknown>; // every object has metadata
    const { selector, [endpoints]: list, ...more } = spec as Record<string, unknown>; // looked at below
    const labelNames = Object.keys(labels as object).length > 0 && typeof name === "string" && apiVersion !== undefined;
    const selects = Object.keys((selector as { matchLabels: object }).matchLabels).length > 0; // throws when it selects nothing
    const scraped = (list as Record<string, unknown>[]).every((one) =>
      isDeepStrictEqual(Object.keys(one).sort(), ["interval", "path", "port"]),
    );
    // Reading every field, so that none counts as unknown.
    JSON.stringify(data);
    const ok = labelNames && selects && scraped && Object.keys(rest).length === 0 && Object.keys(more).length === 0;
    validate.errors = ok ? null : [{ instancePath: "", message: `is no ${kind} as the charts make it` }];
    return ok;
  };
  return validate;
}
