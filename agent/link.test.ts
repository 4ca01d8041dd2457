/** The co-located agent against real servers: every way of authentication, TLS modes, cancel, and targets that misbehave. */
import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { SecretBinding } from "@sluice/core/config.ts";
import { newSessionId } from "@sluice/core/ids.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { CredentialSpec, ResourceSpec, TargetSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { AgentLink, TargetConnection } from "@sluice/rpc/agent-link.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, startCluster } from "../control-plane/store/embedded-postgres.ts";
import { createCoLocatedAgent } from "./link.ts";
import { dialTarget } from "./targets/postgres/dial.ts";
import { QueryClient } from "./targets/postgres/query.ts";

let directory: string;
let cluster: Cluster;
let plain: Cluster;
const servers: Server[] = [];
const logged: string[] = [];
const secrets: Record<string, string> = { WRONG: "not-the-password", UNBOUND: "x", EMPTY: "" };
const everywhere: readonly SecretBinding[] = ["SUPER", "WRONG", "EMPTY"].map((name) => ({
  source: { kind: "env", name },
  targets: ["127.0.0.1:*", "localhost:*"],
}));
const log = {
  debug: () => {},
  info: (...words: unknown[]) => void logged.push(JSON.stringify(words)),
  warn: (...words: unknown[]) => void logged.push(JSON.stringify(words)),
};

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-agent-test-"));
  const tls = makeCertificates();
  const parameters = { fsync: "off", shared_buffers: "16MB" };
  cluster = await startCluster({ directory: join(directory, "tls"), name: "tls", parameters, tls, log });
  plain = await startCluster({ directory: join(directory, "plain"), name: "plain", parameters, password: cluster.password, log });
  secrets["SUPER"] = cluster.password;
  await seed(cluster);
});

afterAll(async () => {
  for (const server of servers) server.close();
  await Promise.all([cluster?.stop(), plain?.stop()]);
  await rm(directory, { recursive: true, force: true });
});

describe("authentication", () => {
  test.each([
    ["scram-sha-256", "scram_user", "disable"],
    ["scram-sha-256 with channel binding", "scram_user", "require"],
    ["md5", "md5_user", "disable"],
    ["trust", "trust_user", "disable"],
    ["password in clear text under verify-full", "clear_user", "verify-full"],
  ] as const)("%s", async (_, user, mode) => {
    const connection = await agent().openTarget(request({ user, tls: { mode, caFile: join(directory, "ca.crt") } }));
    expect(new Map(connection.parameters).get("client_encoding")).toBe("UTF8");
    expect(new Map(connection.parameters).get("application_name")).toBe("test of the agent");
    expect(connection.stream.listenerCount("data") + connection.stream.listenerCount("error")).toBe(0);
    expect(connection.stream.isPaused()).toBe(true);
    const [row] = await ask(connection, "SELECT current_user, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())");
    expect(row).toEqual([user, mode === "disable" ? "f" : "t"]);
  });

  test("a password in clear text is sent neither without TLS nor without a verified name", async () => {
    for (const tls of [
      { mode: "disable" },
      { mode: "require" },
      { mode: "verify-ca", caFile: join(directory, "ca.crt") },
    ] as const) {
      const opening = agent().openTarget(request({ user: "clear_user", tls }));
      await expect(opening).rejects.toMatchObject({
        code: "target_auth_failed",
        hint: expect.stringContaining("verify-full") as string,
      });
    }
  });

  test("a wrong password and an unknown database end in sentences that tell nothing of the target", async () => {
    const wrong = agent().openTarget(request({ user: "scram_user", password: "WRONG" }));
    await expect(wrong).rejects.toMatchObject({
      code: "target_auth_failed",
      message: "The database refused the agent's credential.",
    });
    const unknown = agent().openTarget(request({ user: "scram_user", database: "nowhere" }));
    await expect(unknown).rejects.toMatchObject({
      code: "target_unreachable",
      message: "The target has no database of this name.",
    });
    expect(logged.join("\n")).toContain("28P01");
    for (const secret of [cluster.password, secrets["WRONG"]!]) expect(logged.join("\n")).not.toContain(secret);
  });

  test("a password that is missing where the database asks for one", async () => {
    const { password: _, ...username } = credential("scram_user", "SUPER");
    const opening = agent().openTarget(request({ credential: username }));
    await expect(opening).rejects.toMatchObject({
      code: "target_auth_failed",
      message: expect.stringContaining("declares none") as string,
    });
  });
});

describe("TLS", () => {
  const caFile = (): string => join(directory, "ca.crt");

  test("the certificate of a real server has an end-point hash, so that logins above are bound to it", async () => {
    const target = { host: "127.0.0.1", port: cluster.port, tls: { mode: "require" } } as const;
    const dialed = await dialTarget(target, new AbortController().signal);
    dialed.socket.destroy();
    const certificate = new X509Certificate(await readFile(join(directory, "server.crt")));
    expect(dialed.wire).toEqual({
      tls: true,
      verifiedFully: false,
      endPointHash: createHash("sha256").update(certificate.raw).digest(),
    });
  });

  test("verify-full takes the right name and refuses others; serverName stands in for the address", async () => {
    const good = await agent().openTarget(request({ host: "localhost", tls: { mode: "verify-full", caFile: caFile() } }));
    good.stream.destroy();
    const renamed = { mode: "verify-full", caFile: caFile(), serverName: "db.example" } as const;
    await expect(agent().openTarget(request({ tls: renamed }))).rejects.toMatchObject({
      code: "target_unreachable",
      message: "The database's certificate was issued for another name.",
    });
  });

  test("verify-ca checks the chain alone, require nothing", async () => {
    for (const tls of [{ mode: "verify-ca", caFile: caFile(), serverName: "db.example" }, { mode: "require" }] as const) {
      const connection = await agent().openTarget(request({ tls }));
      connection.stream.destroy();
    }
    for (const mode of ["verify-ca", "verify-full"] as const) {
      const opening = agent().openTarget(request({ tls: { mode } }));
      await expect(opening).rejects.toMatchObject({ message: "The database's certificate is not one that the resource trusts." });
    }
    const noFile = agent().openTarget(request({ tls: { mode: "verify-full", caFile: join(directory, "absent.crt") } }));
    await expect(noFile).rejects.toMatchObject({ code: "target_unreachable", hint: expect.stringContaining("caFile") as string });
  });

  test("a server without TLS is refused when TLS is demanded", async () => {
    const opening = agent().openTarget(request({ port: plain.port, tls: { mode: "require" } }));
    await expect(opening).rejects.toMatchObject({
      code: "target_unreachable",
      message: expect.stringContaining("does not offer TLS") as string,
    });
  });

  test("bytes stuffed in after the answer to SSLRequest are refused", async () => {
    const port = await listen((socket) => void socket.write("SE"));
    await expect(agent().openTarget(request({ port, tls: { mode: "require" } }))).rejects.toMatchObject({
      code: "target_protocol",
    });
  });
});

describe("a connection in use", () => {
  test.each(["disable", "verify-full"] as const)("cancel reaches the running statement (%s)", async (mode) => {
    const connection = await agent().openTarget(request({ tls: { mode, caFile: join(directory, "ca.crt") } }));
    const running = ask(connection, "SELECT pg_sleep(30)");
    const outcome = expect(running).rejects.toMatchObject({ sqlState: "57014" });
    await delay(100);
    await connection.cancel();
    await outcome;
  });

  test("bytes past the answer to what the agent itself asks stay in the stream", async () => {
    const ready = Buffer.concat([authOk(), parameter("server_version", "16.4 (Debian)"), Buffer.from("Z\0\0\0\x05I")]);
    const port = await listen(
      (socket) =>
        void socket.once("data", () => {
          socket.write(ready);
          socket.once("data", () => socket.write("Z\0\0\0\x05Iextra bytes"));
        }),
    );
    const connection = await agent().openTarget(request({ port }));
    connection.stream.resume();
    const [rest] = (await once(connection.stream, "data")) as [Buffer];
    expect(rest.toString()).toBe("extra bytes");
    await expect(connection.cancel()).rejects.toMatchObject({ code: "target_protocol" });
    connection.stream.destroy();
  });
});

describe("targets that misbehave", () => {
  const limits: Limits = { ...defaultLimits, targetConnectTimeoutMs: 200 };

  test("nobody listens", async () => {
    const port = await listen(() => {});
    const server = servers.pop()!;
    server.close();
    await once(server, "close");
    const opening = agent().openTarget(request({ port }));
    await expect(opening).rejects.toMatchObject({ code: "target_unreachable", message: "The database did not answer." });
  });

  test.each(["disable", "require"] as const)("it hangs (%s)", async (mode) => {
    const port = await listen(() => {});
    const opening = agent({ limits }).openTarget(request({ port, tls: { mode } }));
    await expect(opening).rejects.toMatchObject({ code: "target_unreachable", message: "The database did not answer in time." });
  });

  test.each(["disable", "require"] as const)("it closes at once (%s)", async (mode) => {
    const port = await listen((socket) => void socket.destroy());
    await expect(agent({ limits }).openTarget(request({ port, tls: { mode } }))).rejects.toMatchObject({
      code: "target_unreachable",
    });
  });

  test.each(["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "R\0\0\0\x04", "\0".repeat(64)])(
    "it says %j",
    async (garbage) => {
      const port = await listen((socket) => void socket.write(garbage));
      await expect(agent({ limits }).openTarget(request({ port }))).rejects.toMatchObject({ code: "target_protocol" });
    },
  );

  test("it is too old", async () => {
    const old = Buffer.concat([authOk(), parameter("server_version", "9.6.24"), Buffer.from("Z\0\0\0\x05I")]);
    const port = await listen((socket) => void socket.once("data", () => socket.write(old)));
    const opening = agent().openTarget(request({ port }));
    await expect(opening).rejects.toMatchObject({
      code: "target_protocol",
      message: expect.stringContaining("PostgreSQL 14") as string,
    });
  });

  test("the caller gives up, and the agent closes", async () => {
    const port = await listen(() => {});
    const gone = new AbortController();
    const opening = agent().openTarget(request({ port, signal: gone.signal }));
    const closing = agent();
    const waiting = closing.openTarget(request({ port }));
    const outcomes = Promise.allSettled([opening, waiting]);
    gone.abort();
    await closing.close();
    const failed = { status: "rejected", reason: { code: "target_unreachable" } };
    expect(await outcomes).toMatchObject([failed, failed]);
    await expect(closing.openTarget(request({}))).rejects.toMatchObject({ code: "target_unreachable" });
  });
});

describe("secrets", () => {
  test("an unbound secret is not sent, and the sentence says what to add", async () => {
    let connections = 0;
    const port = await listen(() => void connections++);
    const opening = agent().openTarget(request({ port, password: "UNBOUND" }));
    await expect(opening).rejects.toMatchObject({
      code: "secret_unavailable",
      message: expect.stringContaining("UNBOUND") as string,
      hint: expect.stringContaining("agent.secrets") as string,
    });
    expect(connections).toBe(0);
  });

  test("a database that the resource does not list is not opened", async () => {
    const { signal, sessionId, resource } = request({});
    const opening = agent().openTarget({
      resource,
      database: "template1",
      account: "readWrite",
      signal,
      sessionId,
      startup: {},
    });
    await expect(opening).rejects.toMatchObject({ code: "target_unreachable" });
  });
});

function agent(overrides: { limits?: Limits } = {}): AgentLink {
  return createCoLocatedAgent({
    config: { secrets: everywhere, vaults: [], kubernetes: null },
    sealingKey: null,
    readEnvironment: (name) => secrets[name],
    limits: defaultLimits,
    clock: systemClock,
    random: systemRandom,
    log,
    ...overrides,
  });
}

interface RequestOptions {
  readonly user?: string;
  readonly password?: string;
  readonly credential?: CredentialSpec;
  readonly host?: string;
  readonly port?: number;
  readonly database?: string;
  readonly tls?: TargetSpec["tls"];
  readonly signal?: AbortSignal;
}

function request(options: RequestOptions): Parameters<AgentLink["openTarget"]>[0] {
  const { user = "postgres", password = "SUPER", host = "127.0.0.1", port = cluster.port, database = "postgres" } = options;
  const resource: ResourceSpec = {
    name: "orders",
    labels: {},
    protocol: "postgres",
    target: { host, port, database, databases: [], tls: options.tls ?? { mode: "disable" } },
    credential: options.credential ?? credential(user, password),
    inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "auto" },
  };
  const startup = { application_name: "test of the agent", replication: "database", user: "intruder" };
  return {
    resource,
    database,
    sessionId: newSessionId(systemRandom),
    account: "readWrite",
    startup,
    signal: options.signal ?? new AbortController().signal,
  };
}

function credential(user: string, password: string): CredentialSpec {
  return { username: { kind: "value", value: user }, password: { kind: "env", name: password } };
}

async function ask(connection: TargetConnection, sql: string): Promise<readonly (readonly (string | null)[])[]> {
  const bounds = { rowsMax: 1_000, bytesMax: 1_000_000, frameBytesMax: 1_000_000 };
  // The co-located agent hands over sockets, which the interface calls Duplex.
  const postgres = connection as unknown as ConstructorParameters<typeof QueryClient>[0];
  const client = new QueryClient(postgres, bounds, new AbortController().signal);
  try {
    return await client.query(sql);
  } finally {
    client.close();
  }
}

/** Users with one password each way; pg_hba.conf says how each must log in. */
async function seed(target: Cluster): Promise<void> {
  const connection = await agent().openTarget(request({}));
  const password = target.password;
  await ask(
    connection,
    `CREATE USER scram_user PASSWORD '${password}'; CREATE USER trust_user; CREATE USER clear_user PASSWORD '${password}';
     SET password_encryption = 'md5'; CREATE USER md5_user PASSWORD '${password}'`,
  );
  const hba = join(target.dataDirectory, "pg_hba.conf");
  const lines = ["trust_user trust", "clear_user password", "md5_user md5"].map((line) => {
    const [user, method] = line.split(" ");
    return `host all ${user} 127.0.0.1/32 ${method}\n`;
  });
  const before = await readFile(hba, "utf8");
  await writeFile(hba, lines.join("") + before);
  process.kill(target.pid, "SIGHUP");
  await delay(200);
}

/** A CA and a server certificate for localhost and 127.0.0.1, by Debian's openssl. */
function makeCertificates(): { certFile: string; keyFile: string } {
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, { cwd: directory, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test CA");
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  openssl("req", "-x509", "-CA", "ca.crt", "-CAkey", "ca.key", ...key, "-keyout", "server.key", "-out", "server.crt", ...names);
  return { certFile: join(directory, "server.crt"), keyFile: join(directory, "server.key") };
}

async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    onConnection(socket);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

function authOk(): Buffer {
  return Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 0]);
}

function parameter(name: string, value: string): Buffer {
  const body = Buffer.from(`${name}\0${value}\0`);
  return Buffer.concat([Buffer.from([0x53, 0, 0, 0, body.length + 4]), body]);
}
