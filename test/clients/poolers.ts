/**
 * PgBouncer before the gateway (it logs in with the caller's token; TLS on its way there is verified) and behind it (the agent logs in to the
 * pooler as if it were the database). In each place the psycopg program of the catalogue must see what it sees without a pooler.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, chown, copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { makeCertificate } from "../support/certificates.ts";
import { openTcp } from "../support/raw-client.ts";
import { contractConfig, contractManifests } from "../support/orders.ts";
import { runCommand, startSluice } from "../support/sluice.ts";
import { APP_PASSWORD, APP_USER } from "../support/targets.ts";
import { clientPrograms } from "./catalogue.ts";
import { clientPolicies, type ClientGround, type Role } from "./installation.ts";
import { type Outcome, runProgram } from "./run-program.ts";

const PROGRAM = "/usr/sbin/pgbouncer";
const NOBODY = 65_534;
const START_TIMEOUT_MS = 10_000;

interface Pooler {
  readonly port: number;
  readonly caFile: string;
  stop(): Promise<void>;
}

/** `lines` are settings beside the listener's own; `upstream` is what the database `orders` points to. */
async function startPooler(upstream: string, users: string, lines: readonly string[], caFile?: string): Promise<Pooler> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-pooler-"));
  const certificate = await makeCertificate("pooler");
  const port = await freePort();
  const file = (name: string): string => join(directory, name);
  await copyFile(certificate.certFile, file("cert.pem"));
  await copyFile(certificate.keyFile, file("key.pem"));
  if (caFile !== undefined) await copyFile(caFile, file("upstream.pem"));
  await writeFile(file("users.txt"), users);
  const settings = [
    `listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\npool_mode = session\ndefault_pool_size = 20`,
    `auth_file = ${file("users.txt")}\nignore_startup_parameters = extra_float_digits`,
    `client_tls_sslmode = allow\nclient_tls_key_file = ${file("key.pem")}\nclient_tls_cert_file = ${file("cert.pem")}`,
    ...(caFile === undefined ? [] : [`server_tls_sslmode = verify-full\nserver_tls_ca_file = ${file("upstream.pem")}`]),
  ];
  await writeFile(
    file("pgbouncer.ini"),
    `[databases]\norders = ${upstream}\n[pgbouncer]\n${[...settings, ...lines].join("\n")}\n`,
  );
  const account = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  if ("uid" in account) {
    await chmod(directory, 0o755);
    const names = ["cert.pem", "key.pem", "users.txt", "pgbouncer.ini", ...(caFile === undefined ? [] : ["upstream.pem"])];
    for (const name of names) await chown(file(name), NOBODY, NOBODY);
  }
  const child: ChildProcess = spawn(PROGRAM, ["-q", file("pgbouncer.ini")], { stdio: "ignore", ...account });
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await rm(directory, { recursive: true, force: true });
    await certificate.remove();
  };
  try {
    await answering(port);
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, caFile: certificate.caFile, stop };
}

export async function poolerBefore(ground: ClientGround, role: Role): Promise<Outcome> {
  const { orders } = ground;
  const token = ground.token(role);
  // PgBouncer compares what the caller says with its own file, and logs in to the gateway with the same.
  const upstream = `host=127.0.0.1 port=${orders.sluice.port} dbname=orders user=me password=${token}`;
  const pooler = await startPooler(upstream, `"me" "${token}"\n`, ["auth_type = plain"], orders.sluice.ready.caFile);
  try {
    return await throughPsycopg(ground, role, { port: pooler.port, caFile: pooler.caFile });
  } finally {
    await pooler.stop();
  }
}

export async function poolerBehind(ground: ClientGround, role: Role): Promise<Outcome> {
  const { target } = ground.orders;
  const upstream = `host=127.0.0.1 port=${target.port} dbname=orders user=${APP_USER} password=${APP_PASSWORD}`;
  const pooler = await startPooler(upstream, `"${APP_USER}" "${APP_PASSWORD}"\n`, ["auth_type = scram-sha-256"]);
  try {
    const manifests = (await contractManifests(pooler.port)).replace(
      "credential:",
      "inspection: { safeFunctions: [pg_catalog.pg_sleep] }\n  credential:",
    );
    const sluice = await startSluice({
      config: await contractConfig(),
      manifests: { "orders.yaml": manifests, "clients.yaml": clientPolicies },
      environment: { ORDERS_PASSWORD: APP_PASSWORD },
    });
    try {
      const token = await sluice.token("piet", [`clients-${role}`]);
      const behind: ClientGround = { ...ground, orders: { ...ground.orders, sluice }, token: () => token };
      return await throughPsycopg(behind, role, { port: sluice.port, caFile: sluice.ready.caFile });
    } finally {
      await sluice.remove();
    }
  } finally {
    await pooler.stop();
  }
}

async function throughPsycopg(ground: ClientGround, role: Role, door: Pick<Pooler, "port" | "caFile">): Promise<Outcome> {
  const psycopg = clientPrograms.find(({ name }) => name === "psycopg 3")!; // the catalogue has it
  const { features } = await runProgram(await psycopg.prepare(tmpdir()), ground, role, door);
  const version = (await runCommand(PROGRAM, ["--version"], "/")).stdout.split("\n")[0]!.replace("PgBouncer ", "");
  return { version, features };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

async function answering(port: number): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      (await openTcp(port)).destroy();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw new Error("PgBouncer did not start to listen.", { cause: error });
      await delay(50);
    }
  }
}
