/** Certificates of the servers that people and callers reach: made at start, renewed long before their end, taken over without a restart. */
import { hostname } from "node:os";
import type { Config } from "@sluice/core/config.ts";
import type { Logger } from "pino";
import type { AuthorityFiles } from "./ca/authority-files.ts";
import type { CertificateFiles } from "./interface.ts";

/** Certificates live for weeks: looking twice a day renews them long before their end, also after sleep. */
const RENEWAL_INTERVAL_MS = 12 * 3_600_000;

export interface ServerCertificates {
  readonly admin: CertificateFiles;
  readonly gateway: CertificateFiles;
  /** The admin server's is another one than at the call before. */
  readonly renewed: boolean;
}

export async function issueServerCertificates(files: AuthorityFiles, config: Config): Promise<ServerCertificates> {
  const adminHosts = hostsOf([config.controlPlane.listen.host, ...config.controlPlane.hosts]);
  const { tls, listeners } = config.dataPlane;
  const named = tls.mode === "self-signed" ? tls.hosts : [];
  const gatewayHosts = hostsOf([...listeners.map(({ listen }) => listen.host), ...named]);
  const { renewed: adminRenewed, ...admin } = await files.issueServerCertificate({ name: "admin", hosts: adminHosts });
  const { renewed: _own, ...gateway } = await files.issueServerCertificate({ name: "gateway", hosts: gatewayHosts });
  return { admin, gateway, renewed: adminRenewed };
}

/** Renews from now on, and when the authorities change; `reload` is called when the admin server's changed. Returns how to stop. */
export function keepServerCertificates(
  files: AuthorityFiles,
  onAuthorities: (listener: () => void) => () => void,
  { config, reload, log }: { readonly config: Config; readonly reload: () => Promise<void>; readonly log: Logger },
): () => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  const renew = async (): Promise<void> => {
    try {
      const { renewed } = await issueServerCertificates(files, config);
      if (renewed) await reload();
    } catch (error) {
      log.error({ err: error }, "certificates could not be renewed; the next try is in twelve hours");
    }
  };
  const request = (): void => {
    last = last.then(renew);
  };
  const timer = setInterval(request, RENEWAL_INTERVAL_MS).unref();
  const stop = onAuthorities(request);
  return async () => {
    clearInterval(timer);
    stop();
    await last;
  };
}

/** Names under which a server is reached: this machine's loopback ones always; its host name where it listens on every address. */
export function hostsOf(listenHosts: readonly string[]): readonly string[] {
  const named = listenHosts.map((host) => (isWildcard(host) ? hostname() : host));
  return [...new Set(["localhost", "127.0.0.1", "::1", ...named])];
}

export function urlOf(host: string, port: number): string {
  if (isWildcard(host)) return `https://127.0.0.1:${port}`;
  return host.includes(":") ? `https://[${host}]:${port}` : `https://${host}:${port}`;
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::" || host === "";
}
