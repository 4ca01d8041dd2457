/**
 * One connection to NATS that is made again for ever. Must never queue what is sent while the server is away: callers wait for
 * `connected` and keep their own. Spec: https://docs.nats.io/reference/reference-protocols/nats-protocol
 */
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type { EventsConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { connect, credsAuthenticator, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node";
import type { Log } from "../log.ts";

export type NatsConfig = Extract<EventsConfig, { readonly bus: "nats" }>;

export interface NatsLinkOptions {
  readonly config: NatsConfig;
  /** What the server's monitoring shows. */
  readonly name: string;
  /** Shown to a TLS server that asks for a client certificate; always the one in force. */
  readonly identity: NodeIdentity;
  readonly random: Random;
  readonly log: Log;
}

export interface NatsLink {
  /** Null while there is none. */
  readonly current: NatsConnection | null;
  /** Waits for a connection. Rejects when the signal aborts or the link is closed. */
  connected(signal: AbortSignal): Promise<NatsConnection>;
  /** Called with each connection to a server, again after each reconnect. Subscriptions survive reconnects and need not be made again. */
  onConnection(listener: (connection: NatsConnection) => void): void;
  close(): Promise<void>;
}

const RETRY_MS = 250;
const RETRY_JITTER_MS = 250;
const CONNECT_TIMEOUT_MS = 5_000;
/** A server that does not answer two of these is gone: half-open connections are noticed in ten seconds. */
const PING_MS = 5_000;
const PINGS_MISSED_MAX = 2;

/** Begins to connect and returns at once: a gateway starts without NATS as well. Throws `config_invalid` when a file cannot be read. */
export async function openNatsLink(options: NatsLinkOptions): Promise<NatsLink> {
  const link = new Link(options, await connectionOptions(options));
  link.start();
  return link;
}

class Link implements NatsLink {
  readonly #options: NatsLinkOptions;
  readonly #connectionOptions: NodeConnectionOptions;
  readonly #closing = new AbortController();
  readonly #waiting = new Set<() => void>();
  readonly #listeners: ((connection: NatsConnection) => void)[] = [];
  #connection: NatsConnection | null = null;
  #up = false;
  #running: Promise<void> = Promise.resolve();

  constructor(options: NatsLinkOptions, connectionOptions: NodeConnectionOptions) {
    this.#options = options;
    this.#connectionOptions = connectionOptions;
  }

  start(): void {
    this.#running = this.#run();
  }

  get current(): NatsConnection | null {
    return this.#up ? this.#connection : null;
  }

  async connected(signal: AbortSignal): Promise<NatsConnection> {
    const ending = AbortSignal.any([signal, this.#closing.signal]);
    while (this.current === null) {
      if (ending.aborted) throw away();
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          ending.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiting.add(wake);
        ending.addEventListener("abort", wake);
      });
    }
    return this.current;
  }

  onConnection(listener: (connection: NatsConnection) => void): void {
    this.#listeners.push(listener);
    if (this.current !== null) listener(this.current);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#up = false;
    await this.#connection?.close().catch(() => undefined); // it is closed then
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let told = false;
    while (!signal.aborted) {
      try {
        const connection = await this.#connect();
        if (connection === null) return;
        told = false;
        await this.#serve(connection);
      } catch (error) {
        if (!told)
          this.#options.log.warn({ err: error, servers: this.#options.config.servers }, "NATS does not answer; trying on.");
        told = true;
      }
      const jitterMs = ((this.#options.random.bytes(1)[0] ?? 0) / 256) * RETRY_JITTER_MS;
      await delay(RETRY_MS + jitterMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks at the signal
    }
  }

  /** Null when the link was closed meanwhile: a server that does not answer must not hold that up. */
  async #connect(): Promise<NatsConnection | null> {
    const { signal } = this.#closing;
    const connecting = connect(this.#connectionOptions);
    const { promise, resolve } = Promise.withResolvers<null>();
    const stop = (): void => resolve(null);
    signal.addEventListener("abort", stop);
    try {
      const connection = await Promise.race([connecting, promise]);
      if (connection === null) connecting.then((late) => late.close()).catch(() => undefined); // nobody waits for it
      return connection;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** Until the connection is closed for good, which the library does of its own accord only when told. */
  async #serve(connection: NatsConnection): Promise<void> {
    this.#connection = connection;
    this.#setUp(connection);
    for await (const status of connection.status()) {
      if (status.type === "disconnect") {
        this.#up = false;
        this.#options.log.warn({ server: status.server }, "The connection to NATS is lost; trying again.");
      } else if (status.type === "reconnect") this.#setUp(connection);
      else if (status.type === "error") this.#options.log.warn({ err: status.error }, "NATS reports an error.");
    }
    this.#up = false;
    await connection.close().catch(() => undefined); // it may be closed already
  }

  #setUp(connection: NatsConnection): void {
    this.#up = true;
    this.#options.log.info({ server: connection.getServer() }, "Connected to NATS.");
    for (const listener of this.#listeners) listener(connection);
    for (const wake of this.#waiting) wake();
  }
}

async function connectionOptions({ config, name, identity }: NatsLinkOptions): Promise<NodeConnectionOptions> {
  const ca = config.caFile === null ? null : await read(config.caFile, "certificates of NATS's authority");
  const credentials = config.credentialsFile === null ? null : await read(config.credentialsFile, "credentials for NATS");
  const secured = ca !== null || config.servers.some((server) => server.startsWith("tls://"));
  return {
    servers: [...config.servers],
    name,
    timeout: CONNECT_TIMEOUT_MS,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RETRY_MS,
    reconnectJitter: RETRY_JITTER_MS,
    reconnectJitterTLS: RETRY_JITTER_MS,
    ignoreAuthErrorAbort: true,
    ignoreClusterUpdates: true, // servers are those of the configuration, whose certificates are known
    pingInterval: PING_MS,
    maxPingOut: PINGS_MISSED_MAX,
    ...(credentials === null ? {} : { authenticator: credsAuthenticator(credentials) }),
    ...(secured ? { tls: tlsOptions(ca, identity, config.servers) } : {}),
  };
}

/** Getters, since the library asks anew at every connect, and certificates of nodes change. */
function tlsOptions(
  ca: Buffer | null,
  identity: NodeIdentity,
  servers: readonly string[],
): NonNullable<NodeConnectionOptions["tls"]> {
  const hosts = servers.map((server) => new URL(server).hostname.replace(/^\[|\]$/g, ""));
  const options = {
    ...(ca === null ? {} : { ca: ca.toString("utf8") }),
    get cert() {
      return identity.material.certificateChain;
    },
    get key() {
      return identity.material.privateKey;
    },
    // The library gives no name when the server is an address, and Node then looks for localhost.
    checkServerIdentity: (_name: string, certificate: PeerCertificate): Error | undefined => {
      const faults = hosts.map((host) => checkServerIdentity(host, certificate));
      return faults.includes(undefined) ? undefined : faults[0];
    },
  };
  return options; // more than its type says: the library hands all of it to Node
}

async function read(path: string, what: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new GatewayError("config_invalid", `The file with the ${what}, ${path}, cannot be read.`, {
      cause,
      hint: "Check `events` in the configuration, and that this user may read the file.",
    });
  }
}

function away(): GatewayError {
  return new GatewayError("recording_unavailable", "Session records cannot be delivered: NATS does not answer.", {
    hint: "They stay in the gateway's spool and are offered again.",
  });
}
