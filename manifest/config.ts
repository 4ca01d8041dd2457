/**
 * The configuration file of one process: every fault at once, with file and line. Pure: paths are computed, not looked
 * at. It reads no environment; a secret is named here, never held.
 */
import { resolve } from "node:path";
import type {
  Config,
  EventsConfig,
  GatewayTls,
  JoinSource,
  KeySource,
  LinksConfig,
  ListenAddress,
  NodeConfig,
  WorkloadEnrolment,
} from "@sluice/core/config.ts";
import { agentOf } from "./config-agent.ts";
import type { ConfigShape, ControlPlaneShape, DataPlaneShape, EventsShape, NodeShape, WorkloadShape } from "./config-shape.ts";
import { type Fault, sortFaults, type ValuePath } from "./fault.ts";
import { configSchema } from "./schema/config.ts";
import { validatorOf } from "./validation.ts";
import { checked, parseAddress, parseDurationMs } from "./words.ts";
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

type FromConfig = (path: string) => string;

const checkSchema = validatorOf(configSchema);
const ANY_LOOPBACK_PORT: ListenAddress = { host: "127.0.0.1", port: 0 };
/** A gibibyte: days of recordings of a busy installation, little for a disk of today. Bytes. */
const STREAM_BYTES_DEFAULT = 1_073_741_824;

function configOf(shape: ConfigShape, { configDirectory, dataDirectory }: BaseDirectories): Config {
  const { node, controlPlane = {}, dataPlane = {}, agent = {}, events = {}, recorder = {}, telemetry = {} } = shape;
  const fromConfig: FromConfig = (path) => resolve(configDirectory, path);
  return {
    node: node === undefined ? null : nodeOf(node, fromConfig),
    controlPlane: controlPlaneOf(controlPlane, fromConfig),
    dataPlane: dataPlaneOf(dataPlane, fromConfig),
    agent: agentOf(agent, fromConfig),
    events: eventsOf(events, fromConfig),
    recorder: {
      directory: resolve(dataDirectory, (recorder.store ?? "file:recordings").slice("file:".length)),
      listen: optionalListen(recorder.listen),
      advertise: recorder.advertise ?? null,
    },
    operations: { listen: optionalListen(shape.operations?.listen) },
    telemetry: { tracesEndpoint: telemetry.traces ?? null, sampleRatio: telemetry.sample ?? 1 },
    limits: { ...shape.limits },
    manifests: (shape.manifests ?? []).map(fromConfig),
  };
}

function nodeOf({ name, region = "", controlPlanes = [], join }: NodeShape, fromConfig: FromConfig): NodeConfig {
  return { name, region, controlPlanes, join: join === undefined ? null : joinOf(join, fromConfig) };
}

function joinOf(
  { tokenFile, tokenEnv, workloadTokenFile, caFile }: NonNullable<NodeShape["join"]>,
  fromConfig: FromConfig,
): JoinSource {
  if (tokenFile !== undefined) return { kind: "tokenFile", path: fromConfig(tokenFile) };
  if (tokenEnv !== undefined) return { kind: "tokenEnv", name: tokenEnv };
  return { kind: "workload", path: fromConfig(checked(workloadTokenFile)), caFile: fromConfig(checked(caFile)) };
}

function controlPlaneOf(shape: ControlPlaneShape, fromConfig: FromConfig): Config["controlPlane"] {
  const { store = "embedded", listen, hosts = [], developmentIssuer = true, nodes, workloads = [], lease = {} } = shape;
  return {
    store: store === "embedded" ? { kind: "embedded" } : { kind: "postgres", url: store },
    listen: optionalListen(listen) ?? ANY_LOOPBACK_PORT,
    hosts,
    developmentIssuer,
    nodes: nodes === undefined ? null : { listen: listenOf(nodes.listen), hosts: nodes.hosts ?? [] },
    encryptionKey: keySourceOf(shape.encryptionKey, fromConfig),
    workloads: workloads.map((workload) => workloadOf(workload, fromConfig)),
    lease: {
      ms: checked(parseDurationMs(lease.policy ?? "4h")),
      strictMs: checked(parseDurationMs(lease.strict ?? "1h")),
    },
  };
}

function keySourceOf(shape: ControlPlaneShape["encryptionKey"], fromConfig: FromConfig): KeySource {
  if (shape === undefined) return { kind: "generated" };
  const { file, env, command } = shape;
  if (file !== undefined) return { kind: "file", path: fromConfig(file) };
  if (env !== undefined) return { kind: "env", name: env };
  return { kind: "command", command: checked(command) };
}

function workloadOf(shape: WorkloadShape, fromConfig: FromConfig): WorkloadEnrolment {
  const { name, issuer, audience, jwksUri, caFile, tokenFile, role, claims, namePrefix = "", labels = {}, hosts = [] } = shape;
  return {
    name,
    issuer,
    audience,
    jwksUri: jwksUri ?? null,
    caFile: caFile === undefined ? null : fromConfig(caFile),
    ...(tokenFile === undefined ? {} : { tokenFile: fromConfig(tokenFile) }),
    role,
    claims: { ...claims },
    namePrefix,
    labels: { ...labels },
    hosts,
  };
}

function dataPlaneOf({ listeners = [], tls = {}, links }: DataPlaneShape, fromConfig: FromConfig): Config["dataPlane"] {
  return {
    listeners: listeners.map(({ protocol, listen, proxyProtocolFrom = [], advertise = null }) => {
      return { protocol, listen: listenOf(listen), proxyProtocolFrom, advertise };
    }),
    tls: tlsOf(tls, fromConfig),
    links: links === undefined ? null : linksOf(links),
  };
}

function tlsOf(
  { mode = "self-signed", hosts = [], certFile, keyFile }: NonNullable<DataPlaneShape["tls"]>,
  fromConfig: FromConfig,
): GatewayTls {
  if (certFile !== undefined && keyFile !== undefined) {
    return { mode: "files", certFile: fromConfig(certFile), keyFile: fromConfig(keyFile) };
  }
  return mode === "self-signed" ? { mode, hosts } : { mode };
}

function linksOf({ control, sessions, advertise = {} }: NonNullable<DataPlaneShape["links"]>): LinksConfig {
  return {
    control: listenOf(control),
    sessions: listenOf(sessions),
    advertise: { control: advertise.control ?? null, sessions: advertise.sessions ?? null },
  };
}

function eventsOf(
  { bus = "embedded", servers, caFile, credentialsFile, replicas = 1, streamBytes = STREAM_BYTES_DEFAULT }: EventsShape,
  fromConfig: FromConfig,
): EventsConfig {
  if (bus === "embedded") return { bus };
  return {
    bus,
    servers: checked(servers),
    caFile: caFile === undefined ? null : fromConfig(caFile),
    credentialsFile: credentialsFile === undefined ? null : fromConfig(credentialsFile),
    replicas,
    streamBytesMax: streamBytes,
  };
}

function optionalListen(text: string | undefined): ListenAddress | null {
  return text === undefined ? null : listenOf(text);
}

function listenOf(text: string): ListenAddress {
  return checked(parseAddress(text, true));
}
