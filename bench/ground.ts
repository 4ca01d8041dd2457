/**
 * What every comparison stands on: one embedded target with pgbench's tables and a wide one, the database itself and PgBouncer with
 * session pooling as sides. All on loopback, each stopped by its process id.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmod, chown, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { APP_PASSWORD, APP_USER, startTarget, type Target } from "../test/support/targets.ts";

export const run: (
  file: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; maxBuffer?: number },
) => Promise<{ stdout: string; stderr: string }> = promisify(execFile);

export interface Side {
  readonly name: string;
  /** A libpq connection string without password. */
  readonly connection: string;
  readonly password: string;
  /** Whose CPU time counts as this side's; none for the database itself. */
  readonly processes: readonly MeasuredProcess[];
}

export interface MeasuredProcess {
  readonly name: string;
  readonly pid: number;
}

export interface Ground {
  readonly target: Target;
  readonly direct: Side;
  readonly bouncer: Side;
  /** TLS 1.3 to the caller, a certificate of the kind that Sluice's gateways have. */
  readonly bouncerTls: Side;
  stop(): Promise<void>;
}

export const DATABASE = "bench";
export const BULK_ROWS = 200_000;
/** Of one row on the wire. */
export const BULK_ROW_BYTES = 185;

export async function startGround(progress: (line: string) => void): Promise<Ground> {
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0).reverse()) await one();
  };
  try {
    progress("starting the target and filling its tables");
    const target = await startTarget(18, {
      shared_buffers: "256MB",
      max_wal_size: "4GB",
      synchronous_commit: "off",
      max_connections: "1000",
    });
    stops.push(() => target.stop());
    await fill(target);
    progress("starting PgBouncer (session pooling)");
    const bouncer = await startBouncer(target);
    stops.push(bouncer.stop);
    const via = (name: string, port: number, more: string, processes: Side["processes"]): Side => ({
      name,
      connection: `host=127.0.0.1 port=${port} dbname=${DATABASE} user=${APP_USER} ${more}`,
      password: APP_PASSWORD,
      processes,
    });
    const processes = [{ name: "pgbouncer", pid: bouncer.pid }];
    return {
      target,
      direct: via("direct", target.port, "sslmode=disable", []),
      bouncer: via("pgbouncer", bouncer.port, "sslmode=disable", processes),
      bouncerTls: via("pgbouncer, TLS", bouncer.port, `sslmode=verify-ca sslrootcert=${bouncer.certFile}`, processes),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** pgbench's own tables at scale 1, and 200,000 rows of ten text columns (185 bytes a row on the wire, as the targets are stated). */
async function fill(target: Target): Promise<void> {
  await target.createDatabase(DATABASE, []);
  await run(pgbenchPath, ["-i", "-q", "-s", "5", "-h", "127.0.0.1", "-p", String(target.port), "-U", APP_USER, DATABASE], {
    env: { ...process.env, PGPASSWORD: APP_PASSWORD },
  });
  await target.admin(DATABASE, async (client) => {
    const columns = ["c1", "c2", "ssn", "card", "c5", "c6", "c7", "c8", "c9"];
    await client.query(`SET ROLE ${APP_USER}`);
    await client.query(`CREATE TABLE bulk (id text, ${columns.map((column) => `${column} text`).join(", ")})`);
    await client.query(`INSERT INTO bulk SELECT n::text, 'name ' || n, 'city of ' || n % 977, lpad((100 + n % 600)::text, 3, '0') || '-' || lpad((10 + n % 80)::text, 2, '0') || '-' || lpad((n % 9000 + 1000)::text, 4, '0'),
      '401288888888' || lpad((n % 10000)::text, 4, '0'), 'note ' || n, 'state ' || n % 50, 'street ' || n % 5000, 'remark number ' || n, 'x' FROM generate_series(1, ${BULK_ROWS}) n`);
    await client.query("VACUUM ANALYZE bulk");
  });
}

const pgbenchPath = "/usr/lib/postgresql/15/bin/pgbench";

/** Runs pgbench; resolves with transactions per second and mean latency in milliseconds as it printed them. */
export async function pgbench(side: Side, args: readonly string[]): Promise<{ tps: number; latencyMs: number }> {
  const { stdout, stderr } = await run(pgbenchPath, ["-n", ...args, side.connection], {
    env: { ...process.env, PGPASSWORD: side.password },
    maxBuffer: 1 << 26,
  });
  const tps = /tps = ([\d.]+)/.exec(stdout)?.[1];
  const latency = /latency average = ([\d.]+)/.exec(stdout)?.[1];
  if (tps === undefined || latency === undefined || / aborted/.test(stderr))
    throw new Error(`pgbench through ${side.name} failed:\n${stdout}\n${stderr}`);
  return { tps: Number(tps), latencyMs: Number(latency) };
}

/** As `pgbench` runs it, each transaction timed: the middle one, in microseconds. */
export async function pgbenchMedianUs(side: Side, args: readonly string[]): Promise<{ tps: number; medianUs: number }> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-pgbench-"));
  try {
    const { tps } = await pgbench(side, [...args, "-l", "--log-prefix", join(directory, "log")]);
    const logs = await Promise.all((await readdir(directory)).map((name) => readFile(join(directory, name), "utf8")));
    // Client, transaction, microseconds, and when it was.
    const times = logs.flatMap((log) => log.trimEnd().split("\n")).map((line) => Number(line.split(" ")[2]));
    return { tps, medianUs: times.sort((a, b) => a - b)[times.length >> 1]! };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function startBouncer(target: Target): Promise<{ port: number; pid: number; certFile: string; stop: () => Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-bouncer-"));
  const port = await freePort();
  await run(
    "/usr/bin/openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=localhost",
      "-keyout",
      join(directory, "key.pem"),
      "-out",
      join(directory, "cert.pem"),
    ],
    {},
  );
  await writeFile(join(directory, "users.txt"), `"${APP_USER}" "${APP_PASSWORD}"\n`);
  await writeFile(
    join(directory, "pgbouncer.ini"),
    [
      "[databases]",
      `${DATABASE} = host=127.0.0.1 port=${target.port} dbname=${DATABASE}`,
      "[pgbouncer]",
      `listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =`,
      `auth_type = plain\nauth_file = ${join(directory, "users.txt")}`,
      "pool_mode = session\nmax_client_conn = 500\ndefault_pool_size = 100",
      "ignore_startup_parameters = extra_float_digits",
      `client_tls_sslmode = allow\nclient_tls_key_file = ${join(directory, "key.pem")}\nclient_tls_cert_file = ${join(directory, "cert.pem")}`,
      "",
    ].join("\n"),
  );
  const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  if ("uid" in account) {
    await chmod(directory, 0o755);
    for (const name of ["key.pem", "cert.pem", "users.txt", "pgbouncer.ini"]) await chown(join(directory, name), 65_534, 65_534);
  }
  const child: ChildProcess = spawn("/usr/sbin/pgbouncer", ["-q", join(directory, "pgbouncer.ini")], {
    stdio: "ignore",
    ...account,
  });
  await listening(port);
  return {
    port,
    pid: child.pid!,
    certFile: join(directory, "cert.pem"),
    stop: async () => {
      child.kill("SIGTERM");
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Resources of one target, by how they are recorded; groups `open` and `masked`. */
export function benchManifests(port: number, passwordVariable: string): string {
  const resource = (name: string, recording: string, more: string): string => `apiVersion: sluice/v1
kind: Resource
metadata: { name: ${name}, labels: { env: bench } }
spec:
  protocol: postgres
  target: { address: "127.0.0.1:${port}", database: ${DATABASE}, tls: { mode: disable }${more} }
  credential: { username: { value: ${APP_USER} }, password: { env: ${passwordVariable} } }
  inspection: { recording: ${recording} }
---
`;
  return `${resource("bench-relaxed", "relaxed", "")}${resource("bench-strict", "strict", "")}${resource("bench-pooled", "relaxed", ", pool: { connections: 32 }")}apiVersion: sluice/v1
kind: Classifier
metadata: { name: ssn }
spec: { entity: US_SSN, columns: [ "public.bulk.ssn" ], values: { detector: US_SSN } }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: card }
spec: { entity: CREDIT_CARD, columns: [ "public.bulk.card" ], values: { detector: CREDIT_CARD } }
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: open }
spec:
  principals: { groups: [ open, masked ] }
  resources: { labels: { env: bench } }
  rules: [ { name: everything, effect: allow, when: "true" } ]
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: masked }
spec:
  principals: { groups: [ masked ] }
  resources: { labels: { env: bench } }
  rules: [ { name: pii, effect: mask, entities: [ US_SSN, CREDIT_CARD ], operator: { partial: { keepLast: 4 } } } ]
`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no free port");
  return address.port;
}

async function listening(port: number): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = createConnection({ host: "127.0.0.1", port }, () => {
        socket.destroy();
        resolve(true);
      });
      socket.on("error", () => resolve(false));
    });
    if (open) return;
    await delay(50);
  }
  throw new Error(`nothing listens on port ${port}`);
}
