/**
 * The configuration file of one installation: every fault at once, with file and line. Pure: paths are computed, not looked
 * at. It reads no environment; a secret is named here, never held.
 */
import { resolve } from "node:path";
import type { Config, GatewayTls, ListenAddress, ListenerConfig, SecretBinding } from "@sluice/core/config.ts";
import { didYouMean } from "@sluice/core/did-you-mean.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { type Fault, showPath, sortFaults, type ValuePath } from "./fault.ts";
import type { Report } from "./documents.ts";
import { configSchema } from "./schema/config.ts";
import type { ConfigShape } from "./shapes.ts";
import { validatorOf } from "./validation.ts";
import { isLoopback, parseAddress } from "./words.ts";
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
  const report: Report = (path, message) => {
    faults.push({ file: file.path, ...document.positionOf(path), kind: "Config", message });
  };
  const schemaFaults = checkSchema(document.value);
  for (const { path, message } of schemaFaults) report(path, message);
  // The schema has accepted the value: the shape says in types what the schema says in data.
  const config = schemaFaults.length === 0 ? configOf(document.value as ConfigShape, directories, report) : undefined;
  return faults.length === 0 ? { config, faults } : { config: undefined, faults: sortFaults(faults, [file.path]) };
}

const checkSchema = validatorOf(configSchema);
const ANY_LOOPBACK_PORT: ListenAddress = { host: "127.0.0.1", port: 0 };

function configOf(shape: ConfigShape, { configDirectory, dataDirectory }: BaseDirectories, report: Report): Config {
  const { controlPlane, dataPlane, agent, events, recorder, limits = {}, manifests = [] } = shape;
  if (events?.bus === "nats") report(["events", "bus"], "the event bus 'nats' is not available yet; use embedded");
  else if (events?.servers !== undefined)
    report(["events", "servers"], "events.servers belongs to the bus 'nats'; the embedded bus has none");
  const fromConfig = (path: string): string => resolve(configDirectory, path);
  const listeners = listenersOf(dataPlane?.listeners ?? [], report);
  return {
    controlPlane: {
      store: storeOf(controlPlane?.store ?? "embedded", report),
      listen: listenOf(controlPlane?.listen, ["controlPlane", "listen"], report),
      developmentIssuer: controlPlane?.developmentIssuer ?? true,
    },
    dataPlane: { listeners, tls: tlsOf(dataPlane?.tls ?? {}, listeners, fromConfig, report) },
    agent: {
      secrets: (agent?.secrets ?? []).flatMap((secret, index) =>
        secretOf(secret, ["agent", "secrets", index], fromConfig, report),
      ),
    },
    events: { bus: "embedded" },
    recorder: { directory: recorderDirectory(recorder?.store ?? "file:recordings", dataDirectory, report) },
    limits: limitsOf(limits, report),
    manifests: manifests.map(fromConfig),
  };
}

function storeOf(text: string, report: Report): Config["controlPlane"]["store"] {
  if (text === "embedded") return { kind: "embedded" };
  const path = ["controlPlane", "store"];
  const url = /^postgres(?:ql)?:\/\//.test(text) ? URL.parse(text) : null;
  if (url === null || url.hostname === "") report(path, "controlPlane.store must be embedded or postgres://user@host/database");
  else if (url.password !== "")
    report(path, "controlPlane.store must not hold a password; use PGPASSWORD, a password file or a client certificate");
  return { kind: "postgres", url: text };
}

function listenOf(text: string | undefined, path: ValuePath, report: Report): ListenAddress {
  if (text === undefined) return ANY_LOOPBACK_PORT;
  const address = parseAddress(text, true);
  if (address !== undefined) return address;
  report(path, `${showPath(path)} must be host:port, such as 127.0.0.1:6432 or [::1]:6432; port 0 is any free one`);
  return ANY_LOOPBACK_PORT;
}

function listenersOf(
  shapes: NonNullable<NonNullable<ConfigShape["dataPlane"]>["listeners"]>,
  report: Report,
): readonly ListenerConfig[] {
  const taken = new Map<string, number>();
  return shapes.map(({ protocol, listen, proxyProtocolFrom = [] }, index) => {
    const path = ["dataPlane", "listeners", index, "listen"];
    const address = listenOf(listen, path, report);
    const first = taken.get(listen);
    if (first !== undefined && address.port !== 0)
      report(path, `${showPath(path)} is the address of dataPlane.listeners[${first}] too`);
    taken.set(listen, first ?? index);
    return { protocol, listen: address, proxyProtocolFrom };
  });
}

function tlsOf(
  { mode, certFile, keyFile }: NonNullable<NonNullable<ConfigShape["dataPlane"]>["tls"]>,
  listeners: readonly ListenerConfig[],
  fromConfig: (path: string) => string,
  report: Report,
): GatewayTls {
  if (certFile !== undefined && keyFile !== undefined)
    return { mode: "files", certFile: fromConfig(certFile), keyFile: fromConfig(keyFile) };
  if (mode !== "plaintext-loopback") return { mode: "self-signed" };
  listeners.forEach(({ listen }, index) => {
    if (isLoopback(listen.host)) return;
    const path = ["dataPlane", "listeners", index, "listen"];
    report(
      path,
      `${showPath(path)} is not a loopback address, so dataPlane.tls cannot be plaintext-loopback: tokens would cross the network in clear`,
    );
  });
  return { mode };
}

function secretOf(
  { env, file, targets }: NonNullable<NonNullable<ConfigShape["agent"]>["secrets"]>[number],
  path: ValuePath,
  fromConfig: (path: string) => string,
  report: Report,
): readonly SecretBinding[] {
  if (env !== undefined && file === undefined) return [{ source: { kind: "env", name: env }, targets }];
  if (file !== undefined && env === undefined) return [{ source: { kind: "file", path: fromConfig(file) }, targets }];
  report(path, `${showPath(path)} must name exactly one of env and file`);
  return [];
}

function recorderDirectory(store: string, dataDirectory: string, report: Report): string {
  const directory = /^file:(?<path>.+)$/.exec(store)?.groups?.["path"];
  if (directory === undefined)
    report(["recorder", "store"], "recorder.store must be file:DIRECTORY (relative to the data directory)");
  return resolve(dataDirectory, directory ?? "recordings");
}

function limitsOf(given: Readonly<Record<string, number>>, report: Report): Partial<Limits> {
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(defaultLimits, name)) continue;
    const guess = didYouMean(name, Object.keys(defaultLimits));
    report(["limits", name], `limits has no bound '${name}'.${guess === undefined ? "" : ` Did you mean '${guess}'?`}`);
  }
  return { ...given };
}
