/**
 * Secrets of a Kubernetes cluster, read by the agent's own service account. The account's token is read again at each request:
 * the kubelet replaces it. Never writes, never lists. Spec: Kubernetes API, core/v1 Secret, "read the specified Secret".
 */
import { dirname, join } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import type { KubernetesConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { FetchedSecrets } from "./fetched.ts";
import { createJsonClient, type JsonClient } from "./http-json.ts";
import { readSecretFile } from "./secret-file.ts";
import { type KubernetesSource, nameOf } from "./source-names.ts";

export interface KubernetesSecrets {
  /** What a secret without one means. */
  namespace(): Promise<string>;
  /** Undefined when the secret has no such key. Throws GatewayError `secret_unavailable`. */
  read(source: KubernetesSource): Promise<string | undefined>;
  invalidate(source: KubernetesSource): void;
  close(): void;
}

export interface KubernetesOptions {
  readonly limits: Limits;
  readonly clock: Clock;
}

export function createKubernetesSecrets(config: KubernetesConfig, { limits, clock }: KubernetesOptions): KubernetesSecrets {
  const client = createJsonClient({
    name: "Kubernetes API",
    address: config.address,
    caFile: config.caFile,
    timeoutMs: limits.secretRequestTimeoutMs,
    answerBytesMax: limits.secretAnswerBytesMax,
  });
  const fetched = new FetchedSecrets<Readonly<Record<string, unknown>>>(clock, limits);
  const namespaceFile = join(dirname(config.tokenFile), "namespace");
  const namespace = async (): Promise<string> =>
    config.namespace === "" ? await readOwnFile(namespaceFile, "namespace", limits.secretBytesMax) : config.namespace;
  return {
    namespace,
    read: async (source) => {
      const data = await fetched.get(keyOf(source), async () => {
        const path = `${source.namespace ?? (await namespace())}/${source.secret}`;
        requireNames(path);
        const token = await readOwnFile(config.tokenFile, "token", limits.secretBytesMax);
        return await readData(client, path, token);
      });
      const value = Object.hasOwn(data, source.key) ? data[source.key] : undefined;
      return value === undefined ? undefined : decode(value, source);
    },
    invalidate: (source) => fetched.invalidate(keyOf(source)),
    close: () => {
      fetched.clear();
      client.close();
    },
  };
}

/** All keys of a secret come with one request. */
function keyOf({ namespace, secret }: KubernetesSource): string {
  return `${namespace ?? ""}/${secret}`;
}

/** Anything else could be another path than the one whose name was compared with the bindings. */
function requireNames(path: string): void {
  if (/^[a-z0-9]([a-z0-9-]*[a-z0-9])?\/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(path)) return;
  throw new GatewayError("secret_unavailable", "The resource names a Kubernetes secret that cannot exist.", {
    hint: "Names and namespaces are lower-case letters, digits and '-'; names may have '.' too.",
  });
}

async function readData(client: JsonClient, path: string, token: string): Promise<Readonly<Record<string, unknown>>> {
  const [namespace = "", name = ""] = path.split("/").map(encodeURIComponent);
  const { status, body } = await client.send({
    method: "GET",
    path: `/api/v1/namespaces/${namespace}/secrets/${name}`,
    headers: { authorization: `Bearer ${token}` },
  });
  if (status !== 200) throw refusal(status, path);
  if (!isRecord(body) || body["kind"] !== "Secret") throw strange(path);
  const { data = {} } = body; // a secret without any key has no data
  if (!isRecord(data)) throw strange(path);
  return data;
}

function decode(value: unknown, source: KubernetesSource): string {
  const bytes = typeof value === "string" ? Buffer.from(value, "base64") : undefined;
  if (bytes === undefined || bytes.toString("base64") !== value) throw strange(nameOf(source));
  const text = bytes.toString("utf8");
  if (!Buffer.from(text, "utf8").equals(bytes)) {
    throw new GatewayError("secret_unavailable", `What the agent's ${nameOf(source)} holds is not text.`, {
      hint: "It must be UTF-8.",
    });
  }
  return text.replace(/\r?\n$/, ""); // as in files: what editors and `echo` add
}

function refusal(status: number, path: string): GatewayError {
  switch (status) {
    case 401:
      return new GatewayError("secret_unavailable", "The Kubernetes API does not accept the agent's token.", {
        hint: "Check agent.kubernetes.tokenFile, and that the service account and the API belong to the same cluster.",
      });
    case 403:
      return new GatewayError("secret_unavailable", `The Kubernetes API does not let the agent read the secret ${path}.`, {
        hint: "Give the agent's service account a role with the verb get on this secret.",
      });
    case 404:
      return new GatewayError("secret_unavailable", `There is no Kubernetes secret ${path}.`, {
        hint: "Check its name and namespace in the resource's credential.",
      });
    default:
      return new GatewayError("secret_unavailable", `The Kubernetes API answered with status ${status} for the secret ${path}.`, {
        hint: "Look at the API server; the agent asks again at the next login.",
      });
  }
}

function strange(what: string): GatewayError {
  return new GatewayError("secret_unavailable", `The Kubernetes API answered something else than a secret for ${what}.`, {
    hint: "Check agent.kubernetes.address.",
  });
}

/** Files that Kubernetes puts into each pod. */
async function readOwnFile(path: string, what: string, bytesMax: number): Promise<string> {
  const text = await readSecretFile(path, bytesMax).catch(() => undefined);
  if (text !== undefined && text !== "") return text.trim();
  throw new GatewayError("secret_unavailable", `The agent cannot read its ${what} for the Kubernetes API from ${path}.`, {
    hint: "Run it with a service account whose token is mounted, or name the file and the namespace in agent.kubernetes.",
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
