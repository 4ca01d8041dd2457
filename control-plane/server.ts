/** What the control plane's HTTPS servers share: taking an address, reading certificates, going away in bounded time. */
import { readFile } from "node:fs/promises";
import type { Server } from "node:https";
import type { AddressInfo, Server as NetServer } from "node:net";
import { join } from "node:path";
import type { ListenAddress } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { readFileIfAny, writePrivateFile } from "./ca/private-files.ts";
import type { CertificateFiles } from "./interface.ts";

/** Listens and returns the port. Rejects with `config_invalid` naming `setting` when the address is taken or not ours. */
export async function listenOn(server: NetServer, address: ListenAddress, setting: string): Promise<number> {
  try {
    return await listen(server, address);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "no code"; // thrown by node:net, which sets a code
    throw new GatewayError("config_invalid", `Cannot listen on ${address.host}:${address.port} (${code}).`, {
      cause: error,
      hint: `Change ${setting} in the configuration; port 0 takes any free one.`,
    });
  }
}

/** Listens on the port that it had last time while that is free, so that its address survives restarts; on any other otherwise. */
export async function listenOnRemembered(server: Server, host: string, directory: string): Promise<number> {
  const file = join(directory, "port");
  const remembered = Number((await readFileIfAny(file)) ?? "0");
  const wanted = Number.isInteger(remembered) && remembered > 0 && remembered < 65_536 ? remembered : 0;
  const port = await listen(server, { host, port: wanted }).catch(() => listen(server, { host, port: 0 }));
  await writePrivateFile(file, `${port}\n`);
  return port;
}

export async function readCertificate(files: CertificateFiles): Promise<{ readonly cert: Buffer; readonly key: Buffer }> {
  const [cert, key] = await Promise.all([readFile(files.certFile), readFile(files.keyFile)]);
  return { cert, key };
}

/** No new connections; requests that run may finish within `graceMs`, then their connections are cut. */
export async function closeServer(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  server.closeIdleConnections();
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(cut);
}

function listen(server: NetServer, { host, port }: ListenAddress): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve((server.address() as AddressInfo).port); // listening on TCP, so not a pipe name
    });
  });
}
