/** Real clusters of the bundled binaries: made, reused, unreachable places, orphans, TLS, faults. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, describe, expect, test } from "vitest";
import { type Cluster, type ClusterOptions, packagedBinaries, startCluster } from "./embedded-postgres.ts";

const directories: string[] = [];
const clusters: Cluster[] = [];
const log = { info: () => {}, warn: () => {} };
const quick = { fsync: "off", shared_buffers: "16MB" };

async function scratch(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-embedded-test-"));
  directories.push(directory);
  return directory;
}

async function start(options: Partial<ClusterOptions> & { directory: string }): Promise<Cluster> {
  const cluster = await startCluster({ name: "store", parameters: quick, log, ...options });
  clusters.push(cluster);
  return cluster;
}

async function ask(cluster: Cluster, sql: string): Promise<unknown> {
  const client = new Client({
    host: cluster.host,
    port: cluster.port,
    user: cluster.superuser,
    password: cluster.password,
    database: "postgres",
  });
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql);
    return Object.values(rows[0] ?? {})[0];
  } finally {
    await client.end();
  }
}

afterAll(async () => {
  await Promise.all(clusters.map((cluster) => cluster.stop()));
  await Promise.all(directories.map((directory) => rm(directory, { recursive: true, force: true })));
});

describe("startCluster", () => {
  test("makes a cluster, keeps its content over a restart, and logs neither statements nor values", async () => {
    const home = join(await scratch(), "store");
    const first = await start({ directory: home, password: "pass'word ü" });
    expect(first.major).toBe(18);
    expect(await ask(first, "SHOW server_encoding")).toBe("UTF8");
    expect(await ask(first, "SELECT upper('ü')")).toBe("Ü");
    await ask(first, "CREATE TABLE kept (n int PRIMARY KEY)");
    await ask(first, "INSERT INTO kept VALUES (7141)");
    await expect(ask(first, "INSERT INTO kept VALUES (7141)")).rejects.toThrow("duplicate key");
    await expect(ask(first, "SELECT 'secret-7141'::int")).rejects.toThrow("invalid input");
    await first.stop();
    await first.stop();
    const second = await start({ directory: home, password: "pass'word ü" });
    expect(await ask(second, "SELECT n FROM kept")).toBe(7141);
    expect(second.pid).not.toBe(first.pid);
    await second.stop();
    const wholeLog = await readFile(join(second.dataDirectory, "..", "store.log"), "utf8");
    expect(wholeLog).toContain("ready to accept connections");
    expect(wholeLog).not.toContain("7141");
  });

  test("asks for the password, and listens on 127.0.0.1 alone without a Unix socket", async () => {
    const cluster = await start({ directory: await scratch(), name: "closed" });
    expect(cluster.password.length).toBeGreaterThanOrEqual(32);
    await expect(ask({ ...cluster, password: "wrong" }, "SELECT 1")).rejects.toThrow("password authentication failed");
    expect(await ask(cluster, "SHOW listen_addresses")).toBe("127.0.0.1");
    expect(await ask(cluster, "SHOW unix_socket_directories")).toBe("");
    expect((await stat(cluster.dataDirectory)).mode & 0o777).toBe(0o700);
    expect((await stat(join(cluster.dataDirectory, "..", "closed.password"))).mode & 0o777).toBe(0o600);
  });

  test("refuses a cluster that a living process has, and stops a server whose owner was killed", async () => {
    const home = await scratch();
    const cluster = await start({ directory: home });
    await expect(start({ directory: home })).rejects.toMatchObject({ code: "config_invalid" });
    await cluster.stop();
    const owner = await ownerProcess(home);
    const orphan = Number((await readFile(join(cluster.dataDirectory, "postmaster.pid"), "utf8")).split("\n")[0]);
    owner.kill("SIGKILL");
    await once(owner, "exit");
    expect(await isRunning(orphan)).toBe(true);
    const next = await start({ directory: home });
    expect(next.pid).not.toBe(orphan);
    expect(await isRunning(orphan)).toBe(false);
    expect(await ask(next, "SELECT 1")).toBe(1);
  });

  test("starts over a pid file that names some other living process, and leaves that process alone", async () => {
    const home = await scratch();
    const cluster = await start({ directory: home });
    const pidFile = join(cluster.dataDirectory, "postmaster.pid");
    const content = await readFile(pidFile, "utf8");
    await cluster.stop();
    const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
    const bystander = spawn("/bin/sleep", ["60"], { ...account, stdio: "ignore" });
    await writeFile(pidFile, content.replace(/^\d+/, String(bystander.pid)));
    const next = await start({ directory: home });
    expect(await ask(next, "SELECT 1")).toBe(1);
    expect(bystander.exitCode).toBe(null);
    bystander.kill();
    await once(bystander, "exit");
  });

  test("says so when the server dies early, and when the directory is of another version", async () => {
    const home = await scratch();
    const bad = start({ directory: home, parameters: { ...quick, shared_buffers: "no-size" } });
    await expect(bad).rejects.toMatchObject({ code: "internal", message: expect.stringContaining("shared_buffers") as string });
    const old = start({ directory: home, binariesDirectory: packagedBinaries("@embedded-postgres-15/linux-x64") });
    await expect(old).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringContaining("PostgreSQL 18") as string,
    });
    await expect(start({ directory: join(home, "store", "PG_VERSION", "below") })).rejects.toMatchObject({
      code: "config_invalid",
    });
    await expect(start({ directory: home, binariesDirectory: "/nowhere" })).rejects.toMatchObject({ code: "config_invalid" });
  });

  test("runs PostgreSQL 15 from its package's directory", async () => {
    const directory = join(packagedBinaries("@embedded-postgres-15/linux-x64"), "..");
    const cluster = await start({ directory: await scratch(), binariesDirectory: directory });
    expect(cluster.major).toBe(15);
    expect(await ask(cluster, "SELECT current_setting('server_version_num')::int / 10000")).toBe(15);
  });

  test("finds a place when a directory above is closed to the server's account, the same one again", async () => {
    const closed = await scratch();
    await chmod(closed, 0o700);
    const warnings: string[] = [];
    const noting = { info: () => {}, warn: (...words: readonly unknown[]) => void warnings.push(String(words[1])) };
    const wanted = join(closed, "deep", "data", "store");
    await mkdir(wanted, { recursive: true });
    const first = await start({ directory: wanted, log: noting });
    await ask(first, "CREATE TABLE kept AS SELECT 5 AS n");
    await first.stop();
    const second = await start({ directory: wanted, password: first.password, log: noting });
    expect(await ask(second, "SELECT n FROM kept")).toBe(5);
    expect(second.dataDirectory).toBe(first.dataDirectory);
    if (process.getuid?.() === 0) {
      expect(warnings).toEqual([expect.stringContaining("it is kept elsewhere")]);
      expect((await stat(closed)).mode & 0o777).toBe(0o700);
      directories.push(join(first.dataDirectory, ".."));
    } else {
      expect(first.dataDirectory).toBe(join(wanted, "store"));
    }
  });
});

/** A zombie does not run: in a container nobody may collect what the killed owner left. */
async function isRunning(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") Z");
  return !/\) [ZX]/.test(text);
}

/** Another process that starts the cluster and then only waits. */
async function ownerProcess(home: string): Promise<ChildProcess> {
  const module = JSON.stringify(new URL("./embedded-postgres.ts", import.meta.url).href);
  const options = JSON.stringify({ directory: home, name: "store", parameters: quick });
  const script = `
    const { startCluster } = await import(${module});
    await startCluster({ ...${options}, log: { info() {}, warn() {} } });
    console.log("started");
    setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(owner.stdout, "data");
  return owner;
}
