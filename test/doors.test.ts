/** Every way into the gateway and out of it: encryption, caps, balancers, cancels, the drain. Nothing gets in by a side door. */
import { createHash } from "node:crypto";
import { copyFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CertificateFilesOnDisk, makeCertificate } from "./support/certificates.ts";
import { embeddedLibraries, type Orders, startOrders } from "./support/orders.ts";
import { openTcp, RawClient } from "./support/raw-client.ts";
import { runCommand } from "./support/sluice.ts";
import {
  cancelRequest,
  codeOf,
  errorFields,
  errorsOf,
  gssRequest,
  PROTOCOL_3_2,
  password,
  query,
  rowsOf,
  sslRequest,
  startup,
  untyped,
  int32,
  text,
} from "./support/wire-messages.ts";

let orders: Orders;
beforeAll(async () => {
  orders = await startOrders({ version: 18, config: (config) => `${config}\nlimits: { authenticationTimeoutMs: 2000 }\n` });
});
afterAll(async () => {
  await orders?.stop();
});

const at = (): { port: number; caFile: string } => ({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });

/** Sends bytes over plain TCP and returns all that comes until the gateway closes. */
async function shout(port: number, ...parts: readonly Buffer[]): Promise<Buffer> {
  const socket = await openTcp(port);
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise<void>((resolve) => {
    socket.once("close", () => resolve());
  });
  socket.write(Buffer.concat(parts));
  const late = delay(10_000, "late" as const, { ref: false });
  if ((await Promise.race([closed, late])) === "late") throw new Error("the gateway kept the connection open for 10 s");
  return Buffer.concat(chunks);
}

/** The error in what an unencrypted connection received. */
function errorIn(bytes: Buffer): Readonly<Record<string, string>> {
  const start = bytes.indexOf("E");
  expect(start, `no ErrorResponse in ${JSON.stringify(bytes.toString("latin1"))}`).toBeGreaterThanOrEqual(0);
  return errorFields(bytes.subarray(start + 5));
}

describe("encryption", () => {
  it("answers an SSLRequest, and speaks TLS 1.2 or later", async () => {
    const client = await RawClient.login({ ...at(), token: orders.agent });
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
  });

  it("takes TLS at once with ALPN, and without ALPN does not", async () => {
    const client = await RawClient.login({ ...at(), token: orders.agent, tls: "direct" });
    expect(client.alpnProtocol).toBe("postgresql");
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
    for (const alpn of [[], ["h2"]]) {
      const outcome = await RawClient.connect({ ...at(), tls: "direct", alpn }).then(
        (connected) => connected.untilClosed().then(() => "closed"),
        () => "refused",
      );
      expect(["closed", "refused"]).toContain(outcome);
    }
  });

  it("refuses GSS encryption and goes on with TLS", async () => {
    const socket = await openTcp(orders.sluice.port);
    const answers: string[] = [];
    socket.on("data", (chunk: Buffer) => answers.push(chunk.toString("latin1")));
    socket.write(gssRequest);
    await expect.poll(() => answers.join("")).toBe("N");
    socket.write(sslRequest);
    await expect.poll(() => answers.join("")).toBe("NS");
    socket.destroy();
  });

  it("refuses a startup in clear before a token is asked for", async () => {
    const bytes = await shout(orders.sluice.port, startup({ user: "me", database: "orders" }), password(orders.agent));
    expect(bytes[0]).toBe("E".charCodeAt(0));
    const fields = errorIn(bytes);
    expect(fields).toMatchObject({ S: "FATAL", C: "28000", H: expect.stringContaining("sslmode=verify-full") });
    expect(codeOf(fields)).toBe("tls_required");
  });

  it("refuses bytes stuffed behind an SSLRequest", async () => {
    const bytes = await shout(orders.sluice.port, sslRequest, startup({ user: "me", database: "orders" }));
    expect(codeOf(errorIn(bytes))).toBe("protocol_violation");
    const gss = await shout(orders.sluice.port, gssRequest, gssRequest);
    expect(codeOf(errorIn(gss))).toBe("protocol_violation");
  });

  it("speaks protocol 3.2 with a long cancel key, and 3.0 with four bytes", async () => {
    for (const [version, bytes] of [
      [PROTOCOL_3_2, 32],
      [0x0003_0000, 4],
    ] as const) {
      const client = await RawClient.connect(at());
      const answers = await client.login({ token: orders.agent, version });
      expect(errorsOf(answers)).toEqual([]);
      expect(answers.some(({ type }) => type === "v")).toBe(false);
      expect(answers.find(({ type }) => type === "K")!.body.length - 4).toBe(bytes);
      await client.end();
    }
  });

  it("negotiates newer minor versions and unknown options down", async () => {
    const client = await RawClient.connect(at());
    client.send(startup({ user: "me", database: "orders", "_pq_.dance": "on" }, 0x0003_0009));
    const answers = await client.until(({ type }) => type === "R");
    const negotiation = answers.find(({ type }) => type === "v")!.body;
    expect(negotiation.readInt32BE(0) & 0xffff).toBe(2);
    expect(negotiation.toString("latin1")).toContain("_pq_.dance");
    client.vanish();
    const old = await RawClient.connect(at());
    old.send(untyped(int32(0x0002_0000), text("x")));
    expect(codeOf(errorsOf(await old.untilClosed())[0])).toBe("protocol_violation");
  });

  it("serves psql of PostgreSQL 18 by direct TLS", async () => {
    const result = await runCommand(
      "psql",
      [
        `host=127.0.0.1 port=${orders.sluice.port} dbname=orders user=me sslmode=verify-full sslnegotiation=direct min_protocol_version=3.2 max_protocol_version=3.2 sslrootcert=${orders.sluice.ready.caFile}`,
        "-XAtc",
        "SELECT ssn FROM customers WHERE id = 1",
      ],
      orders.sluice.directory,
      { PGPASSWORD: orders.agent, LD_LIBRARY_PATH: embeddedLibraries() },
    );
    expect(result).toMatchObject({ status: 0, stdout: "***-**-9382\n" });
  });
});

describe("before authentication", () => {
  it("ends a connection that says nothing, or not enough, at the deadline", async () => {
    const startedAt = Date.now();
    const silent = await shout(orders.sluice.port);
    expect(codeOf(errorIn(silent))).toBe("login_timeout");
    expect(Date.now() - startedAt).toBeGreaterThan(1_500);
    const client = await RawClient.connect(at());
    client.send(startup({ user: "me", database: "orders" }));
    expect(codeOf(errorsOf(await client.untilClosed())[0])).toBe("login_timeout");
  });

  it("reports the session id and the target's settings to the caller, never the target's account", async () => {
    const client = await RawClient.connect(at());
    const answers = await client.login({ token: orders.agent, parameters: { TimeZone: "Asia/Tokyo", application_name: "mine" } });
    const status = Object.fromEntries(
      answers
        .filter(({ type }) => type === "S")
        .map(({ body }) => body.toString("utf8").split("\0").slice(0, 2) as [string, string]), // two strings, by the protocol
    );
    expect(status).toMatchObject({
      "sluice.session_id": expect.stringMatching(/^s_[\w-]{22}$/),
      TimeZone: "Asia/Tokyo",
      client_encoding: "UTF8",
      server_version: expect.stringMatching(/^18/),
    });
    expect(JSON.stringify(status)).not.toContain("orders_app");
    await client.end();
  });

  it("tells the target who is behind a connection", async () => {
    const client = await RawClient.connect(at());
    const answers = await client.login({ token: orders.agent, parameters: { application_name: "somebody else" } });
    const id = answers
      .find(({ body }) => body.includes("sluice.session_id"))!
      .body.toString()
      .split("\0")[1]!;
    const names = await orders.target.admin("postgres", async (admin) => {
      const { rows } = await admin.query<{ application_name: string }>(
        "SELECT application_name FROM pg_stat_activity WHERE datname = 'orders' AND application_name LIKE 'ada %'",
      );
      return rows.map(({ application_name }) => application_name);
    });
    expect(names).toContain(`ada ${id}`);
    await client.end();
  });

  it("refuses start-up settings that say who the caller is, or how text is read", async () => {
    const refused: readonly Readonly<Record<string, string>>[] = [
      { role: "postgres" },
      { replication: "database" },
      { standard_conforming_strings: "off" },
      { client_encoding: "SJIS" },
      { options: "-c session_authorization=postgres" },
      { session_preload_libraries: "x" },
    ];
    for (const parameters of refused) {
      const client = await RawClient.connect(at());
      const answers = await client.login({ token: orders.agent, parameters });
      expect(errorsOf(answers)[0], JSON.stringify(parameters)).toMatchObject({ S: "FATAL", C: "42501" });
      client.vanish();
    }
  });
});

describe("cancelling", () => {
  const keyOf = async (): Promise<{ client: RawClient; processId: number; secret: Buffer }> => {
    const client = await RawClient.connect(at());
    const answers = await client.login({ token: orders.dba });
    const { body } = answers.find(({ type }) => type === "K")!;
    return { client, processId: body.readInt32BE(0), secret: Buffer.from(body.subarray(4)) };
  };

  it("cancels with the gateway's key, over plain TCP and TLS, and with no other", async () => {
    const { client, processId, secret } = await keyOf();
    const wrong = Buffer.from(secret);
    wrong[0] = wrong[0]! ^ 1;
    for (const tls of ["none", "request"] as const) {
      client.send(query("SELECT pg_sleep(15)"));
      await delay(200);
      expect(await shout(orders.sluice.port, cancelRequest(processId, wrong))).toHaveLength(0);
      await delay(200);
      const startedAt = Date.now();
      const canceller = await RawClient.connect({ ...at(), tls });
      canceller.send(cancelRequest(processId, secret));
      expect(errorsOf(await client.untilReady())[0]).toMatchObject({ C: "57014" });
      expect(Date.now() - startedAt).toBeLessThan(5_000);
      await canceller.untilClosed();
    }
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
  });
});

describe("a gateway that must go", () => {
  it("lets a running statement finish, refuses new sessions and ends within its time", async () => {
    const own = await startOrders();
    try {
      const client = await own.connect(own.dba);
      const idle = await own.connect(own.agent);
      const idleEnded = new Promise<pg.DatabaseError>((resolve) => {
        idle.on("error", (error) => resolve(error as pg.DatabaseError)); // node-postgres gives the server's last error
      });
      const running = client.query("SELECT pg_sleep(2), 'done' AS outcome");
      await delay(300);
      const stopping = own.sluice.stop();
      await delay(300);
      await expect(own.connect(own.agent)).rejects.toThrow();
      expect((await running).rows[0]).toMatchObject({ outcome: "done" });
      expect(await idleEnded).toMatchObject({ code: "57P01" });
      expect(await stopping).toBe(0);
      await expect(client.query("SELECT 1")).rejects.toThrow();
    } finally {
      await own.stop();
    }
  });
});

describe("doors as configured", () => {
  let own: Orders;
  let directory: string;
  let certificate: CertificateFilesOnDisk;
  beforeAll(async () => {
    certificate = await makeCertificate("first");
    directory = certificate.directory;
    own = await startOrders({
      config: (config) =>
        `${config
          .replace("tls: { mode: self-signed }", `tls: { certFile: ${certificate.certFile}, keyFile: ${certificate.keyFile} }`)
          .replace(
            "- { protocol: postgres, listen: 127.0.0.1:0 }",
            "- { protocol: postgres, listen: 127.0.0.1:0 }\n    - { protocol: postgres, listen: 127.0.0.1:0, proxyProtocolFrom: [127.0.0.1] }",
          )}\nlimits: { sessionsPerPrincipalMax: 2, unauthenticatedPerAddressMax: 4, authenticationTimeoutMs: 5000 }\n`,
      caFile: certificate.caFile,
    });
  });
  afterAll(async () => {
    await own?.stop();
    await certificate?.remove();
  });
  const door = (): { port: number; caFile: string } => ({ port: own.sluice.port, caFile: join(directory, "ca.pem") });
  const proxied = (): { port: number; caFile: string } => ({
    port: Number(own.sluice.ready.listeners[1]!.address.split(":")[1]),
    caFile: join(directory, "ca.pem"),
  });

  it("counts sessions of a principal and frees them", async () => {
    const first = await RawClient.login({ ...door(), token: own.agent });
    const second = await RawClient.login({ ...door(), token: own.agent });
    const third = await RawClient.connect(door());
    const [refusal] = errorsOf(await third.login({ token: own.agent }));
    expect(refusal).toMatchObject({ S: "FATAL", C: "53300" });
    expect(codeOf(refusal)).toBe("too_many_connections");
    const other = await RawClient.login({ ...door(), token: own.dba });
    await Promise.all([first.end(), other.end()]);
    await expect
      .poll(async () => {
        const again = await RawClient.connect(door());
        const answers = await again.login({ token: own.agent });
        await again.end();
        return errorsOf(answers).length;
      })
      .toBe(0);
    await second.end();
  });

  it("counts connections that have not authenticated, per address", async () => {
    const sockets = await Promise.all(Array.from({ length: 4 }, () => openTcp(own.sluice.port)));
    await delay(100);
    expect(codeOf(errorIn(await shout(own.sluice.port)))).toBe("too_many_connections");
    for (const socket of sockets) socket.destroy();
    await expect
      .poll(async () => {
        const client = await RawClient.login({ ...door(), token: own.dba }).catch(() => null);
        await client?.end();
        return client !== null;
      })
      .toBe(true);
  });

  it("takes the client's address from a PROXY v2 header, and requires one", async () => {
    const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
    const header = Buffer.concat([
      signature,
      Buffer.from([0x21, 0x11, 0, 12, 203, 0, 113, 9, 127, 0, 0, 1, 0x30, 0x39, 0x15, 0x38]),
    ]);
    const client = await RawClient.login({ ...proxied(), token: own.dba, preamble: header });
    await client.end();
    await expect
      .poll(async () => (await own.sluice.cli("sessions", "replay", "last", "--json")).stdout)
      .toContain('"clientAddress":"203.0.113.9"');
    expect(await shout(proxied().port, sslRequest)).toHaveLength(0);
    expect(await shout(own.sluice.port, header)).not.toHaveLength(0);
  });

  it("serves a changed certificate to new connections and keeps the old one while the new is broken", async () => {
    const fingerprint = async (): Promise<string> => {
      const client = await RawClient.connect(door());
      const { raw } = (client.socket as TLSSocket).getPeerCertificate(); // connect made it TLS
      client.vanish();
      return createHash("sha256").update(raw).digest("hex");
    };
    const before = await fingerprint();
    const running = await RawClient.login({ ...door(), token: own.dba });
    const next = await makeCertificate("second", directory);
    await rename(next.keyFile, join(directory, "first.key.pem"));
    await delay(2_500);
    expect(await fingerprint()).toBe(before);
    await copyFile(next.certFile, join(directory, "first.cert.pem"));
    await expect.poll(fingerprint, { timeout: 10_000, interval: 250 }).not.toBe(before);
    expect(rowsOf(await running.query("SELECT 1"))).toEqual([["1"]]);
    await running.end();
  });
});
