/** Where callers are told to connect, and which names the gateway's own certificate should carry for them. */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import type { Config, ListenerConfig } from "@sluice/core/config.ts";
import type { Protocol } from "@sluice/core/snapshot.ts";
import type { NodeAddresses } from "@sluice/rpc/nodes.ts";

type DataPlane = Pick<Config["dataPlane"], "listeners" | "tls">;

/** The first address of each protocol that others could use: as advertised, else as listened on where that is one address. */
export function callerAddresses(
  { listeners }: Pick<DataPlane, "listeners">,
  bound: readonly { readonly protocol: Protocol; readonly address: string }[],
): NodeAddresses["callers"] {
  const callers: Partial<Record<Protocol, string>> = {};
  listeners.forEach((listener, index) => {
    const address = listener.advertise ?? addressOf(listener, bound[index]?.address);
    if (address !== null) callers[listener.protocol] ??= address;
  });
  return callers;
}

/**
 * What the configuration promises callers and the installation's certificate does not carry: nobody could verify the gateway by these. None
 * where it has a certificate from files.
 */
export function hostsNotCertified({ listeners, tls }: DataPlane, certificateChain: string): readonly string[] {
  if (tls.mode !== "self-signed") return [];
  const advertised = listeners.flatMap(({ advertise }) => (advertise === null ? [] : [hostOf(advertise)]));
  const certificate = new X509Certificate(certificateChain);
  const carries = (host: string): boolean =>
    (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined;
  return [...new Set([...tls.hosts, ...advertised])].filter((host) => !carries(host));
}

/** Names and addresses of the configuration, without repetitions. */
export function callerHosts({ listeners, tls }: DataPlane): readonly string[] {
  const advertised = listeners.flatMap(({ advertise }) => (advertise === null ? [] : [hostOf(advertise)]));
  const listened = listeners.flatMap(({ listen }) => (isEverywhere(listen.host) ? [] : [listen.host]));
  return [...new Set([...(tls.mode === "self-signed" ? tls.hosts : []), ...advertised, ...listened])];
}

function addressOf({ listen }: ListenerConfig, bound: string | undefined): string | null {
  if (isEverywhere(listen.host)) return null;
  if (listen.port === 0) return bound ?? null;
  return isIP(listen.host) === 6 ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`;
}

function hostOf(address: string): string {
  const host = address.slice(0, address.lastIndexOf(":"));
  return host.startsWith("[") ? host.slice(1, -1) : host;
}

function isEverywhere(host: string): boolean {
  return host === "0.0.0.0" || host === "::" || host === "";
}
