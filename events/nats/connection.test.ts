import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemRandom } from "@sluice/core/system.ts";
import { fixedIdentity } from "@sluice/rpc/identity/live-identity.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Nats, startNats } from "../../test/support/nats.ts";
import { testLog } from "../testing.ts";
import { type NatsConfig, type NatsLink, openNatsLink } from "./connection.ts";

let directory: string;
let authority: TestAuthority;
let nats: Nats;
const links: NatsLink[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-nats-tls-"));
  authority = await makeTestAuthority();
  const server = await authority.issue({ role: "control-plane", name: "nats", hosts: ["127.0.0.1"] });
  await writeFile(join(directory, "server.pem"), server.certificateChain);
  await writeFile(join(directory, "server-key.pem"), server.privateKey);
  await writeFile(join(directory, "ca.pem"), authority.certificate);
  const file = (name: string): string => join(directory, name);
  nats = await startNats({
    scheme: "tls",
    arguments: [
      "--tlsverify",
      "--tlscert",
      file("server.pem"),
      "--tlskey",
      file("server-key.pem"),
      "--tlscacert",
      file("ca.pem"),
    ],
  });
});

afterEach(async () => {
  for (const link of links.splice(0)) await link.close();
  await nats.stop();
  await rm(directory, { recursive: true, force: true });
});

async function open(caFile: string | null, identity: NodeIdentity, server = nats.url, log = testLog()): Promise<NatsLink> {
  const config: NatsConfig = { bus: "nats", servers: [server], caFile, credentialsFile: null, replicas: 1, streamBytesMax: 1e8 };
  const link = await openNatsLink({ config, name: "test", identity, random: systemRandom, log });
  links.push(link);
  return link;
}

test("over TLS, with the node's certificate in force at each connect", async () => {
  const identity = fixedIdentity(await authority.issue({ role: "gateway", name: "gw-1" }));
  const link = await open(join(directory, "ca.pem"), identity);
  const connection = await link.connected(AbortSignal.timeout(5_000));
  expect(connection.info?.tls_required).toBe(true);
  // From now on only the next certificate would do; the server is told apart from its clients by nothing else.
  identity.replace(await authority.issue({ role: "gateway", name: "gw-1" }));
  await nats.kill();
  await expect.poll(() => link.current).toBeNull();
  await nats.start();
  await link.connected(AbortSignal.timeout(10_000));
  expect(link.current).not.toBeNull();
});

test("not with a server of somebody else's, nor of another place, nor as somebody else's node", async () => {
  const stranger = await makeTestAuthority("Another");
  await writeFile(join(directory, "other.pem"), stranger.certificate);
  const wrongServer = await open(join(directory, "other.pem"), await testIdentity("gateway", "gw-1", {}, authority));
  const wrongClient = await open(join(directory, "ca.pem"), await testIdentity("gateway", "gw-1", {}, stranger));
  const wrongName = await open(
    join(directory, "ca.pem"),
    await testIdentity("gateway", "gw-1", {}, authority),
    nats.url.replace("127.0.0.1", "localhost"),
  );
  await expect(wrongName.connected(AbortSignal.timeout(1_000))).rejects.toMatchObject({ code: "recording_unavailable" });
  await expect(wrongServer.connected(AbortSignal.timeout(1_000))).rejects.toMatchObject({ code: "recording_unavailable" });
  await expect(wrongClient.connected(AbortSignal.timeout(1_000))).rejects.toMatchObject({ code: "recording_unavailable" });
});

test("the server being away is said once, and closing does not wait for it", async () => {
  await nats.kill();
  const log = testLog();
  const link = await open(null, await testIdentity("gateway", "gw-1", {}, authority), nats.url, log);
  await expect.poll(() => log.sentences).toEqual(["NATS does not answer; trying on."]);
  await expect(link.connected(AbortSignal.timeout(1_200))).rejects.toMatchObject({ code: "recording_unavailable" });
  expect(log.sentences.length).toBe(1);
  const closing = performance.now();
  await link.close();
  expect(performance.now() - closing).toBeLessThan(1_000);
  await expect(link.connected(new AbortController().signal)).rejects.toMatchObject({ code: "recording_unavailable" });
});

test("a file that cannot be read is a fault of the configuration", async () => {
  const identity = await testIdentity("gateway", "gw-1", {}, authority);
  await expect(open(join(directory, "absent.pem"), identity)).rejects.toMatchObject({ code: "config_invalid" });
});
