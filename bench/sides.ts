/**
 * What is measured side by side: the database itself, PgBouncer with session pooling, Sluice. All in front of one embedded target,
 * all on loopback, each stopped by its process id.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { type Sluice, startSluice } from "../test/support/sluice.ts";
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
  /** Process whose CPU time counts as this side's; undefined for the database itself. */
  readonly pid: number | undefined;
}

export interface Sides {
  readonly target: Target;
  readonly direct: Side;
  readonly bouncer: Side;
  readonly bouncerTls: Side;
  /** Plain text on loopback, records made durable within a second. */
  readonly sluice: Side;
  /** The same with records durable before release. */
  readonly sluiceStrict: Side;
  /** TLS to the caller, relaxed. */
  readonly sluiceTls: Side;
  /** Two columns masked by origin, detectors on the rest. */
  readonly sluiceMasked: Side;
  stop(): Promise<void>;
}

const DATABASE = "bench";
export const BULK_ROWS = 200_000;

export async function startSides(progress: (line: string) => void): Promise<Sides> {
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0).reverse()) await one();
  };
  try {
    progress("starting the target and filling its tables");
    const target = await startTarget(18, { shared_buffers: "256MB", max_wal_size: "4GB", synchronous_commit: "off" });
    stops.push(() => target.stop());
    await fill(target);
    progress("starting PgBouncer (session pooling)");
    const bouncer = await startBouncer(target);
    stops.push(bouncer.stop);
    progress("starting Sluice");
    const plain = await startSluice({
      config: sluiceConfig("{ mode: plaintext-loopback }"),
      manifests: { "bench.yaml": manifests(target.port) },
      environment: { BENCH_PASSWORD: APP_PASSWORD },
    });
    stops.push(() => plain.remove());
    const secured = await startSluice({
      config: sluiceConfig("{ mode: self-signed }"),
      manifests: { "bench.yaml": manifests(target.port) },
      environment: { BENCH_PASSWORD: APP_PASSWORD },
    });
    stops.push(() => secured.remove());
    const open = await plain.token("bench", ["open"]);
    const masked = await plain.token("bench", ["masked"]);
    const viaSluice = (name: string, sluice: Sluice, resource: string, password: string): Side => ({
      name,
      connection: `host=127.0.0.1 port=${sluice.port} dbname=${resource} user=bench ${sluice === secured ? `sslmode=verify-full sslrootcert=${sluice.ready.caFile}` : "sslmode=disable"}`,
      password,
      pid: sluice.ready.pid,
    });
    const via = (name: string, port: number, more: string, pid: number | undefined): Side => ({
      name,
      connection: `host=127.0.0.1 port=${port} dbname=${DATABASE} user=${APP_USER} ${more}`,
      password: APP_PASSWORD,
      pid,
    });
    return {
      target,
      direct: via("direct", target.port, "sslmode=disable", undefined),
      bouncer: via("pgbouncer", bouncer.port, "sslmode=disable", bouncer.pid),
      bouncerTls: via("pgbouncer, TLS", bouncer.port, `sslmode=verify-ca sslrootcert=${bouncer.certFile}`, bouncer.pid),
      sluice: viaSluice("sluice", plain, "bench-relaxed", open),
      sluiceStrict: viaSluice("sluice, strict recording", plain, "bench-strict", open),
      sluiceTls: viaSluice("sluice, TLS", secured, "bench-relaxed", await secured.token("bench", ["open"])),
      sluiceMasked: viaSluice("sluice, masked", plain, "bench-relaxed", masked),
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

async function startBouncer(target: Target): Promise<{ port: number; pid: number; certFile: string; stop: () => Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-bouncer-"));
  const port = await freePort();
  await run(
    "/usr/bin/openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
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

function sluiceConfig(tls: string): string {
  return `apiVersion: sluice/v1
kind: Config
controlPlane: { store: embedded, listen: 127.0.0.1:0 }
dataPlane:
  listeners: [ { protocol: postgres, listen: 127.0.0.1:0 } ]
  tls: ${tls}
agent:
  secrets: [ { env: BENCH_PASSWORD, targets: [ "127.0.0.1:*" ] } ]
events: { bus: embedded }
recorder: { store: "file:recordings" }
manifests: [ ./manifests ]
`;
}

function manifests(port: number): string {
  const resource = (name: string, recording: string): string => `apiVersion: sluice/v1
kind: Resource
metadata: { name: ${name}, labels: { env: bench } }
spec:
  protocol: postgres
  target: { address: "127.0.0.1:${port}", database: ${DATABASE}, tls: { mode: disable } }
  credential: { username: { value: ${APP_USER} }, password: { env: BENCH_PASSWORD } }
  inspection: { recording: ${recording} }
---
`;
  return `${resource("bench-relaxed", "relaxed")}${resource("bench-strict", "strict")}apiVersion: sluice/v1
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
