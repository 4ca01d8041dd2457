/**
 * The configuration file of one installation: every fault at once, with file and line. Pure: paths are computed, not looked
 * at. It reads no environment; a secret is named here, never held.
 */
import { resolve } from "node:path";
import type { Config, GatewayTls, ListenAddress, SecretBinding } from "@sluice/core/config.ts";
import { type Fault, sortFaults, type ValuePath } from "./fault.ts";
import { configSchema } from "./schema/config.ts";
import type { ConfigShape } from "./shapes.ts";
import { validatorOf } from "./validation.ts";
import { parseAddress } from "./words.ts";
import { readYaml, type SourceFile } from "./yaml-source.ts";

/** Both absolute. */
export interface BaseDirectories {
  /** Of the configuration file: manifests, certificates and secret files are relative to it. */
  readonly configDirectory: string;
  /** Stores are relative to it. */
  readonly dataDirectory: string;
}

export interface ParsedConfig {
  /** Undefined when there is any fault. */
  readonly config: Config | undefined;
  readonly faults: readonly Fault[];
}

/** Reads one document of kind Config; what it leaves out has the defaults of `core/config.ts`. Never throws for what the file holds. */
export function parseConfig(file: SourceFile, directories: BaseDirectories): ParsedConfig {
  const { documents, faults: yamlFaults } = readYaml(file);
  const faults: Fault[] = [...yamlFaults];
  const [document, second] = documents;
  if (document === undefined) {
    if (faults.length === 0) faults.push({ file: file.path, line: 1, message: "the file holds no configuration (kind: Config)" });
    return { config: undefined, faults };
  }
  if (second !== undefined) {
    const message = "a configuration file holds one document; manifests go into files of their own";
    faults.push({ file: file.path, ...second.positionOf([]), kind: "Config", message });
  }
  const report = (path: ValuePath, message: string): void => {
    faults.push({ file: file.path, ...document.positionOf(path), kind: "Config", message });
  };
  const schemaFaults = checkSchema(document.value);
  for (const { path, message } of schemaFaults) report(path, message);
  // The schema has accepted the value: the shape says in types what the schema says in data.
  const config = schemaFaults.length === 0 ? configOf(document.value as ConfigShape, directories) : undefined;
  return faults.length === 0 ? { config, faults } : { config: undefined, faults: sortFaults(faults, [file.path]) };
}

const checkSchema = validatorOf(configSchema);
const ANY_LOOPBACK_PORT: ListenAddress = { host: "127.0.0.1", port: 0 };

function configOf(shape: ConfigShape, { configDirectory, dataDirectory }: BaseDirectories): Config {
  const { controlPlane = {}, dataPlane = {}, agent = {}, recorder = {}, limits = {}, manifests = [] } = shape;
  const { store = "embedded", listen, developmentIssuer = true } = controlPlane;
  const { listeners = [], tls = {} } = dataPlane;
  const fromConfig = (path: string): string => resolve(configDirectory, path);
  return {
    controlPlane: {
      store: store === "embedded" ? { kind: "embedded" } : { kind: "postgres", url: store },
      listen: listen === undefined ? ANY_LOOPBACK_PORT : listenOf(listen),
      developmentIssuer,
    },
    dataPlane: {
      listeners: listeners.map(({ protocol, listen, proxyProtocolFrom = [] }) => {
        return { protocol, listen: listenOf(listen), proxyProtocolFrom };
      }),
      tls: tlsOf(tls, fromConfig),
    },
    agent: { secrets: (agent.secrets ?? []).map((secret) => secretOf(secret, fromConfig)) },
    events: { bus: "embedded" },
    recorder: { directory: resolve(dataDirectory, (recorder.store ?? "file:recordings").slice("file:".length)) },
    limits: { ...limits },
    manifests: manifests.map(fromConfig),
  };
}

function listenOf(text: string): ListenAddress {
  const address = parseAddress(text, true);
  if (address === undefined) throw new Error("a configuration was built that its checks should have refused");
  return address;
}

type TlsShape = NonNullable<NonNullable<ConfigShape["dataPlane"]>["tls"]>;

function tlsOf({ mode = "self-signed", certFile, keyFile }: TlsShape, fromConfig: (path: string) => string): GatewayTls {
  if (certFile === undefined || keyFile === undefined) return { mode };
  return { mode: "files", certFile: fromConfig(certFile), keyFile: fromConfig(keyFile) };
}

type SecretBindingShape = NonNullable<NonNullable<ConfigShape["agent"]>["secrets"]>[number];

function secretOf({ env, file = "", targets }: SecretBindingShape, fromConfig: (path: string) => string): SecretBinding {
  return { source: env === undefined ? { kind: "file", path: fromConfig(file) } : { kind: "env", name: env }, targets };
}
