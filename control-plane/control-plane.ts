/**
 * Starts the control plane: certificate authority, store, development issuer, manifests in force, index of sessions, admin API.
 * All or nothing: what had started is closed again when a later part fails. It never holds a target secret and never sees a row.
 */
import { hostname } from "node:os";
import { join } from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";
import type { RecordConsumer } from "@sluice/events/bus.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { Logger } from "pino";
import { type AdminServer, startAdminServer } from "./api/admin-server.ts";
import { adminMethods } from "./api/methods.ts";
import { type CertificateAuthority, ensureCertificateAuthority } from "./ca/certificate-authority.ts";
import { type DevelopmentIssuer, startDevelopmentIssuer } from "./identity/development-issuer.ts";
import type { CertificateFiles, ControlPlane, ControlPlaneOptions } from "./interface.ts";
import { showFault } from "./publish/check.ts";
import { createPublisher, type Publisher } from "./publish/publisher.ts";
import { openSessionIndex } from "./store/session-index.ts";
import { openStore } from "./store/store.ts";

export type { ControlPlane, ControlPlaneOptions } from "./interface.ts";

/** Certificates live for weeks: looking twice a day renews them long before their end, also after sleep. */
const RENEWAL_INTERVAL_MS = 12 * 3_600_000;

type Closers = (() => Promise<void>)[];

/**
 * Rejects with `config_invalid` when the manifests have faults (all of them in the message, one a line, as file:line: text), when
 * the store cannot be used or the address cannot be had.
 */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const closers: Closers = [];
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= closeInReverse(closers, options.log);
    return closing;
  };
  try {
    return { ...(await start(options, closers)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(options: ControlPlaneOptions, closers: Closers): Promise<Omit<ControlPlane, "close">> {
  const { config, dataDirectory, limits, clock, random, log } = options;
  const authority = await ensureCertificateAuthority({ directory: join(dataDirectory, "ca"), clock, random, log });
  const certificates = await issueCertificates(authority, options);

  const store = await openStore({ address: config.controlPlane.store, directory: join(dataDirectory, "store"), log });
  closers.push(() => store.close());
  const { db } = store;

  let issuer: DevelopmentIssuer | undefined;
  if (config.controlPlane.developmentIssuer) {
    const directory = join(dataDirectory, "issuer");
    const started = await startDevelopmentIssuer({
      directory,
      certificate: certificates.admin,
      caFile: authority.caFile,
      limits,
      random,
      log,
    });
    closers.push(() => started.close());
    issuer = started;
  }

  const publisher = createPublisher({ db, clock, log, development: issuer?.provider });
  await applyConfigured(publisher, options);
  const sessionIndex = await openSessionIndex({ db, clock, limits, log });

  const adminToken = Buffer.from(random.bytes(32)).toString("base64url");
  const server = await startAdminServer({
    listen: config.controlPlane.listen,
    certificate: certificates.admin,
    token: adminToken,
    methods: adminMethods({ publisher, sessionIndex, recordings: options.recordings, explainer: options.explainer, issuer }),
    ready: () => store.ready(),
    limits,
    log,
  });
  closers.push(() => server.close());
  closers.push(renewCertificates({ authority, options, server, issuer, log }));

  const adminUrl = urlOf(config.controlPlane.listen.host, server.port);
  log.info({ adminUrl, version: publisher.snapshots.current.version }, "control plane ready");
  return partsOf(publisher.snapshots, sessionIndex.consumer, {
    adminUrl,
    adminToken,
    caFile: authority.caFile,
    issuerUrl: issuer?.issuer,
    gatewayCertificate: certificates.gateway,
  });
}

type Facts = Pick<ControlPlane, "adminUrl" | "adminToken" | "caFile" | "issuerUrl" | "gatewayCertificate">;

function partsOf(snapshots: SnapshotSource, sessionIndex: RecordConsumer, facts: Facts): Omit<ControlPlane, "close"> {
  return { ...facts, snapshots, sessionIndex };
}

async function applyConfigured(publisher: Publisher, { manifestFiles }: ControlPlaneOptions): Promise<void> {
  const result = await publisher.apply({ files: manifestFiles, origin: "config", author: "configuration" });
  if (result.ok) return;
  const faults = result.faults.map((fault) => showFault(fault)).join("\n");
  throw new GatewayError("config_invalid", `The manifests have faults:\n${faults}`, {
    hint: "Nothing was started. Mend the files and start again.",
  });
}

interface Certificates {
  readonly admin: CertificateFiles;
  readonly gateway: CertificateFiles;
  readonly renewed: boolean;
}

async function issueCertificates(authority: CertificateAuthority, { config }: ControlPlaneOptions): Promise<Certificates> {
  const adminHosts = hostsOf([config.controlPlane.listen.host]);
  const gatewayHosts = hostsOf(config.dataPlane.listeners.map(({ listen }) => listen.host));
  const { renewed: adminRenewed, ...admin } = await authority.issueServerCertificate({ name: "admin", hosts: adminHosts });
  const { renewed: _own, ...gateway } = await authority.issueServerCertificate({ name: "gateway", hosts: gatewayHosts });
  return { admin, gateway, renewed: adminRenewed };
}

/** Names under which a server is reached: this machine's loopback ones always; its host name where it listens on every address. */
function hostsOf(listenHosts: readonly string[]): readonly string[] {
  const named = listenHosts.map((host) => (isWildcard(host) ? hostname() : host));
  return [...new Set(["localhost", "127.0.0.1", "::1", ...named])];
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::" || host === "";
}

function urlOf(host: string, port: number): string {
  if (isWildcard(host)) return `https://127.0.0.1:${port}`;
  return host.includes(":") ? `https://[${host}]:${port}` : `https://${host}:${port}`;
}

interface Renewal {
  readonly authority: CertificateAuthority;
  readonly options: ControlPlaneOptions;
  readonly server: AdminServer;
  readonly issuer: DevelopmentIssuer | undefined;
  readonly log: Logger;
}

/** Returns how to stop. The gateway watches its own files. */
function renewCertificates({ authority, options, server, issuer, log }: Renewal): () => Promise<void> {
  const renew = async (): Promise<void> => {
    try {
      const { renewed } = await issueCertificates(authority, options);
      if (!renewed) return;
      await server.reloadCertificate();
      await issuer?.reloadCertificate();
    } catch (error) {
      log.error({ err: error }, "certificates could not be renewed; the next try is in twelve hours");
    }
  };
  const timer = setInterval(() => void renew(), RENEWAL_INTERVAL_MS).unref();
  return async () => clearInterval(timer);
}

async function closeInReverse(closers: Closers, log: Logger): Promise<void> {
  for (const closer of closers.splice(0).reverse()) {
    try {
      await closer();
    } catch (error) {
      log.error({ err: error }, "a part of the control plane did not close cleanly");
    }
  }
}
