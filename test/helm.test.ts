/**
 * What the charts render to: the committed renderings are current, Kubernetes would take every object, the configurations inside are
 * configurations of Sluice, names that refer to each other do, and nothing runs with more rights than it needs. Where helm is installed
 * the charts are linted and rendered again too.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { parseConfig } from "@sluice/manifest/config.ts";
import { Ajv } from "ajv";
import { beforeAll, describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { findHelm, headerOf, lint, listValuesSets, render, type ValuesSet } from "../tools/render-helm.ts";
import { faultsOf, type KubernetesObject } from "./support/kubernetes-schema.ts";
import { repository } from "./support/sluice.ts";

const read = (file: string): Promise<string> => readFile(path.join(repository, file), "utf8");
const sets = await listValuesSets(repository);
const helm = await findHelm(process.env["PATH"] ?? "");

interface Container {
  readonly name: string;
  readonly args?: readonly string[];
  readonly ports?: readonly { readonly name: string }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly securityContext: Record<string, unknown>;
  readonly resources: { readonly requests: object; readonly limits: object };
  readonly livenessProbe?: { readonly httpGet?: { readonly path: string; readonly port: string } };
  readonly readinessProbe?: { readonly httpGet?: { readonly path: string; readonly port: string } };
  readonly lifecycle?: { readonly preStop: { readonly exec: { readonly command: readonly string[] } } };
}

interface Workload {
  readonly name: string;
  readonly kind: string;
  readonly component: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly pod: {
    readonly serviceAccountName?: string;
    readonly automountServiceAccountToken: boolean;
    readonly terminationGracePeriodSeconds: number;
    readonly securityContext: Record<string, unknown>;
    readonly containers: readonly Container[];
    readonly initContainers?: readonly Container[];
    readonly volumes: readonly { readonly name: string; readonly configMap?: { readonly name: string } }[];
  };
  readonly claims: readonly string[];
}

function workloadsOf(objects: readonly KubernetesObject[]): readonly Workload[] {
  return objects
    .filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet")
    .map(({ kind, metadata, spec }) => {
      // Validated against Kubernetes' schema in a test of its own.
      const { template, volumeClaimTemplates = [] } = spec as {
        template: { metadata: { labels: Record<string, string> }; spec: Workload["pod"] };
        volumeClaimTemplates?: { metadata: { name: string } }[];
      };
      const { labels } = template.metadata;
      const claims = volumeClaimTemplates.map((claim) => claim.metadata.name);
      return {
        name: metadata.name,
        kind,
        component: labels["app.kubernetes.io/component"] ?? "",
        labels,
        pod: template.spec,
        claims,
      };
    });
}

const planes = new Set(["control-plane", "gateway", "recorder", "agent"]);

describe.each(sets)("$name", (set: ValuesSet) => {
  let text: string;
  let objects: readonly KubernetesObject[];
  let workloads: readonly Workload[];

  beforeAll(async () => {
    text = await read(set.renderedFile);
    objects = parseAllDocuments(text).map((document) => {
      expect(document.errors).toEqual([]);
      return document.toJS() as KubernetesObject; // looked at below
    });
    workloads = workloadsOf(objects);
  });

  it("was rendered from the chart and the values as they are", async () => {
    expect(text.split("\n")[0], "run: node tools/render-helm.ts").toBe(await headerOf(repository, set));
  });

  it("is taken by Kubernetes, field by field", async () => {
    expect(objects.length).toBeGreaterThan(4);
    for (const object of objects) expect(await faultsOf(object), `${object.kind} ${object.metadata.name}`).toEqual([]);
    const names = objects.map(({ kind, metadata }) => `${kind}/${metadata.namespace ?? ""}/${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
  });

  it("configures every plane with what Sluice takes, and no secret", () => {
    const configured = new Map<string, ReturnType<typeof configOf>>();
    for (const object of objects.filter(({ kind }) => kind === "ConfigMap")) {
      const data = object["data"] as Record<string, string>; // validated above
      expect(JSON.stringify(data)).not.toMatch(/PRIVATE KEY|sluice-join\.v1|password=|:[^/"@]+@/i);
      if (data["config.yaml"] !== undefined)
        configured.set(object.metadata.name, configOf(object.metadata.name, data["config.yaml"]));
    }
    for (const { name, component, pod } of workloads.filter((workload) => planes.has(workload.component))) {
      const config = configured.get(name);
      expect(config, `${name} has a configuration`).toBeDefined();
      expect(config?.operations.listen?.port).toBe(9464);
      const waitsSeconds = Number(pod.containers[0]?.lifecycle?.preStop.exec.command.at(-1) ?? "0");
      const drainMs = config?.limits.drainTimeoutMs ?? 0;
      expect(drainMs).toBeGreaterThan(0);
      expect(pod.terminationGracePeriodSeconds * 1_000).toBeGreaterThan(waitsSeconds * 1_000 + drainMs + 5_000);
      if (component !== "control-plane")
        expect(config?.node).toMatchObject({ name: `${name}-x`, controlPlanes: expect.any(Array) as unknown });
    }
  });

  it("gives no pod more than it needs", () => {
    for (const { name, component, pod } of workloads) {
      expect(pod.automountServiceAccountToken, name).toBe(false);
      expect(pod.securityContext, name).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
      expect(JSON.stringify(pod)).not.toMatch(/hostNetwork|hostPID|hostPath|privileged/);
      for (const container of [...pod.containers, ...(pod.initContainers ?? [])]) {
        expect(container.securityContext, name).toMatchObject({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        });
        expect(container.resources, name).toMatchObject({
          requests: expect.any(Object) as unknown,
          limits: expect.any(Object) as unknown,
        });
      }
      if (!planes.has(component)) continue;
      const [main] = pod.containers;
      expect(main?.livenessProbe?.httpGet).toEqual({ path: "/healthz", port: "operations" });
      expect(main?.readinessProbe?.httpGet).toEqual({ path: "/readyz", port: "operations" });
    }
  });

  it("refers only to what is there", () => {
    const named = (kind: string): ReadonlySet<string> =>
      new Set(objects.filter((object) => object.kind === kind).map(({ metadata }) => metadata.name));
    // Made by Kubernetes, or by people beforehand: the notes of the charts say how.
    const others = new Set(["kube-root-ca.crt", "sluice-ca", "sluice-manifests", "vault-ca"]);
    for (const { name, pod, claims } of workloads) {
      const volumes = new Set([...pod.volumes.map((volume) => volume.name), ...claims]);
      const mounts = [...pod.containers, ...(pod.initContainers ?? [])].flatMap((container) => container.volumeMounts ?? []);
      expect([...new Set(mounts.map((mount) => mount.name))].sort(), name).toEqual([...volumes].sort());
      if (pod.serviceAccountName !== undefined) expect(named("ServiceAccount")).toContain(pod.serviceAccountName);
      for (const { configMap } of pod.volumes) {
        if (configMap !== undefined && !others.has(configMap.name)) expect(named("ConfigMap")).toContain(configMap.name);
      }
    }
    for (const { kind, metadata, spec } of objects) {
      for (const { labels, ports } of selections(kind, spec)) {
        const selected = workloads.filter((workload) =>
          Object.entries(labels).every(([label, value]) => workload.labels[label] === value),
        );
        expect(selected.length, `${kind} ${metadata.name} selects`).toBe(1);
        const known = selected.flatMap(({ pod }) =>
          pod.containers.flatMap((container) => container.ports?.map((port) => port.name) ?? []),
        );
        for (const port of ports) expect(known, `${kind} ${metadata.name}`).toContain(port);
      }
    }
  });

  // Elsewhere the digest above says whether the renderings are current.
  if (helm !== undefined) {
    it("is what helm renders, without a complaint", async () => {
      const linted = await lint(repository, helm, set);
      expect(linted.ok, linted.output).toBe(true);
      expect(await render(repository, helm, set)).toBe(text);
    });
  }
});

describe("values", () => {
  const valid = async (chart: string, values: unknown): Promise<string> => {
    const ajv = new Ajv({ allErrors: true, strict: true, allowUnionTypes: true });
    const check = ajv.compile(JSON.parse(await read(`helm/${chart}/values.schema.json`)) as object); // a schema is an object
    return check(values) ? "" : ajv.errorsText(check.errors);
  };
  const defaultsOf = async (chart: string): Promise<unknown> => parse(await read(`helm/${chart}/values.yaml`)) as unknown;

  it.each(["sluice", "sluice-agent"])("of the chart %s are what its schema says", async (chart) => {
    expect(await valid(chart, await defaultsOf(chart))).toBe("");
  });

  it.each(sets)("of $name are too, on top of the chart's", async ({ chart, valuesFile }) => {
    expect(await valid(chart, merged(await defaultsOf(chart), parse(await read(valuesFile)) as unknown))).toBe("");
  });

  it.each([
    ["a misspelt name", { gateway: { replica: 2 } }],
    ["a password in the store's address", { controlPlane: { store: { url: "postgres://sluice:secret@db/sluice" } } }],
    ["a password in a server of NATS", { events: { servers: ["nats://user:secret@nats:4222"] } }],
    ["a drain time in two places", { gateway: { limits: { drainTimeoutMs: 5 } } }],
    ["two NATS replicas", { nats: { replicas: 2 } }],
    ["an unknown way to join", { join: { method: "trust-me" } }],
  ])("are refused with %s", async (_, change) => {
    expect(await valid("sluice", merged(await defaultsOf("sluice"), change))).not.toBe("");
  });
});

describe("the check against Kubernetes' schemas", () => {
  const good = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "a", labels: { any: "label" } },
    spec: {
      selector: { matchLabels: { a: "b" } },
      template: { metadata: { labels: { a: "b" } }, spec: { containers: [{ name: "a", image: "b" }] } },
    },
  };

  it("takes what is right, and finds misspelt fields and wrong types at any depth", async () => {
    expect(await faultsOf(good)).toEqual([]);
    expect(await faultsOf({ ...good, metadata: { ...good.metadata, lables: {} } } as KubernetesObject)).toEqual([
      "/metadata/lables is no field of Kubernetes",
    ]);
    const probe = structuredClone(good);
    Object.assign(probe.spec.template.spec.containers[0]!, { readinessProbe: { periodSecond: 3 }, image: 7 });
    expect(await faultsOf(probe)).toEqual([
      "/spec/template/spec/containers/0/image is not valid",
      "/spec/template/spec/containers/0/readinessProbe/periodSecond is no field of Kubernetes",
    ]);
  });
});

/** Parsed as it is in a pod. */
function configOf(name: string, template: string): NonNullable<ReturnType<typeof parseConfig>["config"]> {
  const text = template
    .replaceAll("${POD_NAME}", `${name}-x`)
    .replaceAll("${POD_IP}", "10.0.0.7")
    .replaceAll("${NODE_IP}", "192.0.2.7");
  expect(text).not.toContain("${");
  const { config, faults } = parseConfig(
    { path: `${name}.yaml`, text },
    { configDirectory: "/etc/sluice/config", dataDirectory: "/var/lib/sluice" },
  );
  expect(faults, name).toEqual([]);
  return config!; // there is one where there are no faults
}

/** Which pods an object selects, and which of their ports it names. */
function selections(
  kind: string,
  spec: unknown,
): readonly { readonly labels: Readonly<Record<string, string>>; readonly ports: readonly string[] }[] {
  // Validated against Kubernetes' schema in a test of its own.
  const {
    selector,
    podSelector,
    ports = [],
    ingress = [],
  } = (spec ?? {}) as {
    selector?: Record<string, string> & { matchLabels?: Record<string, string> };
    podSelector?: { matchLabels: Record<string, string> };
    ports?: { targetPort: string }[];
    ingress?: { ports: { port: string }[] }[];
  };
  switch (kind) {
    case "Service":
      return selector === undefined ? [] : [{ labels: selector, ports: ports.map(({ targetPort }) => targetPort) }];
    case "PodDisruptionBudget":
      return [{ labels: selector?.matchLabels ?? {}, ports: [] }];
    case "ServiceMonitor":
    case "PodMonitor":
      return [{ labels: selector?.matchLabels ?? {}, ports: ["operations"] }];
    case "NetworkPolicy":
      return [{ labels: podSelector?.matchLabels ?? {}, ports: ingress.flatMap((rule) => rule.ports.map(({ port }) => port)) }];
    default:
      return [];
  }
}

/** As helm puts values on top of each other: mappings are merged, everything else is replaced. */
function merged(below: unknown, above: unknown): unknown {
  if (!isMapping(below) || !isMapping(above)) return above === undefined ? below : above;
  const names = new Set([...Object.keys(below), ...Object.keys(above)]);
  return Object.fromEntries([...names].map((name) => [name, merged(below[name], above[name])]));
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
