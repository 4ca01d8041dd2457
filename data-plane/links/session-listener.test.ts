/** Who may open session connections, by real handshakes: nobody but agents of this installation, bounded, and always as of now. */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { IdentityMaterial } from "@sluice/rpc/node-identity.ts";
import { serverNameOf } from "@sluice/rpc/nodes.ts";
import { makeTestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, expect, it } from "vitest";
import { dialSession } from "./fake-agent.ts";
import { codeOf, LinksHarness, until } from "./links-harness.ts";

let harness: LinksHarness;

afterEach(async () => {
  await harness.close();
});

/** Resolves when the gateway has closed the connection; fails the test when it does not. */
async function isClosed(dialing: Promise<TLSSocket>): Promise<void> {
  const socket = await dialing.catch(() => null);
  if (socket !== null) await closeOf(socket);
}

async function closeOf(socket: Socket): Promise<void> {
  socket.on("error", () => undefined);
  socket.resume();
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
}

function dial(material: IdentityMaterial, alpn?: string): Promise<TLSSocket> {
  return dialSession({ material }, "g1", harness.links.addresses.sessions, alpn);
}

it("takes an agent that is linked, and no connection of one that is not", async () => {
  harness = await LinksHarness.start();
  const identity = await testIdentity("agent", "a1", {}, harness.authority);
  await isClosed(dial(identity.material));
  await harness.agent("a1", { identity, warm: 0 });
  const socket = await dial(identity.material);
  await until(() => harness.links.links()[0]?.idleConnections === 1);
  socket.destroy();
  await until(() => harness.links.links()[0]?.idleConnections === 0);
});

it.each(["gateway", "recorder", "control-plane"] as const)("refuses the certificate of a %s, whatever its name", async (role) => {
  harness = await LinksHarness.start();
  await harness.agent("a1", { warm: 0 });
  await isClosed(dial(await harness.authority.issue({ role, name: "a1" })));
  expect(harness.links.links()[0]?.idleConnections).toBe(0);
});

it("refuses another installation's agent, a certificate past its time, and one that was withdrawn", async () => {
  harness = await LinksHarness.start();
  await harness.agent("a1", { warm: 0 });
  const other = await (await makeTestAuthority()).issue({ role: "agent", name: "a1" });
  await isClosed(dial({ ...other, authorities: harness.authority.certificate }));
  const hourMs = 3_600_000;
  const past = { notBeforeMs: Date.now() - 2 * hourMs, notAfterMs: Date.now() - hourMs };
  await isClosed(dial(await harness.authority.issue({ role: "agent", name: "a1", ...past })));
  const withdrawn = await testIdentity("agent", "a1", {}, harness.authority);
  harness.identity.trust(harness.authority.trust([withdrawn.self.serial]));
  await isClosed(dial(withdrawn.material));
  expect(harness.links.links()[0]?.idleConnections).toBe(0);
});

it("refuses another protocol, an older TLS, and whoever has no certificate", async () => {
  harness = await LinksHarness.start();
  const identity = await testIdentity("agent", "a1", {}, harness.authority);
  await harness.agent("a1", { identity, warm: 0 });
  await isClosed(dial(identity.material, "h2"));
  const { certificateChain: cert, privateKey: key, authorities: ca } = identity.material;
  const at = { host: "127.0.0.1", port: portOf(harness.links.addresses.sessions), servername: serverNameOf("gateway", "g1"), ca };
  for (const options of [
    { ...at, cert, key },
    { ...at, cert, key, ALPNProtocols: ["sluice-session/1"], maxVersion: "TLSv1.2" },
    { ...at, ALPNProtocols: ["sluice-session/1"] },
  ] as const) {
    const socket = connectTls({
      ...options,
      ...("ALPNProtocols" in options ? { ALPNProtocols: [...options.ALPNProtocols] } : {}),
    });
    await closeOf(socket);
  }
  expect(harness.links.links()[0]?.idleConnections).toBe(0);
});

it("lets no more strangers in than the bound, and none of them stay", async () => {
  harness = await LinksHarness.start({ agentHandshakesMax: 3, agentHandshakeTimeoutMs: 1_000 });
  const port = portOf(harness.links.addresses.sessions);
  const strangersAt = (localAddress: string): Socket[] =>
    Array.from({ length: 5 }, () => connectTcp({ port, host: "127.0.0.1", localAddress }));
  const open = (sockets: readonly Socket[]): number => sockets.filter((socket) => !socket.closed).length;
  const strangers = strangersAt("127.0.0.1");
  const allClosed = [Promise.all(strangers.map((stranger) => closeOf(stranger)))];
  // Half of the room is the most that one address gets, so that those at others find some.
  await until(() => open(strangers) === 2);
  const others = strangersAt("127.0.0.2");
  allClosed.push(Promise.all(others.map((stranger) => closeOf(stranger))));
  await until(() => open(others) === 1);
  await Promise.all(allClosed);
  // Their places are free again, and handshakes that ended well gave theirs back too.
  const agent = await harness.agent("a1", { warm: 0 });
  for (let dialed = 0; dialed < 5; dialed += 1) await agent.dial();
  await until(() => harness.links.links()[0]?.idleConnections === 5);
});

it("shows the newest certificate to new connections, and checks with the newest authorities", async () => {
  harness = await LinksHarness.start();
  const identity = await testIdentity("agent", "a1", {}, harness.authority);
  await harness.agent("a1", { identity, warm: 0 });
  const before = await dial(identity.material);
  const renewed = await harness.authority.issue({ role: "gateway", name: "g1" });
  harness.identity.replace(renewed);
  const after = await dial(identity.material);
  expect(after.getPeerCertificate().serialNumber).not.toBe(before.getPeerCertificate().serialNumber);
  expect(before.closed).toBe(false);
  const next = await makeTestAuthority();
  harness.identity.replace({ ...renewed, authorities: next.certificate });
  await isClosed(dial(identity.material));
});

it("is no gateway with an agent's certificate", async () => {
  const authority = await makeTestAuthority();
  harness = await LinksHarness.start({}, { authority, identity: await testIdentity("agent", "g1", {}, authority) });
  expect(await codeOf(harness.agent("a1"))).not.toBe("ok");
  expect(harness.links.links()).toEqual([]);
});

it("says which address must be told when it listens on every one", async () => {
  harness = await LinksHarness.start();
  const every = { host: "0.0.0.0", port: 0 };
  const start = LinksHarness.start(
    {},
    { config: { control: every, sessions: every, advertise: { control: "g1:7000", sessions: null } } },
  );
  await expect(start).rejects.toMatchObject({ code: "config_invalid", hint: expect.stringContaining("advertise.sessions") });
  const taken = { host: "127.0.0.1", port: portOf(harness.links.addresses.sessions) };
  const advertise = { control: null, sessions: null };
  const again = LinksHarness.start({}, { config: { control: { host: "127.0.0.1", port: 0 }, sessions: taken, advertise } });
  await expect(again).rejects.toMatchObject({ code: "config_invalid" });
});

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}
