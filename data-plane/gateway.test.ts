import { createServer } from "node:net";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { Spool } from "@sluice/events/spool.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import pino from "pino";
import { expect, test } from "vitest";
import { startGateway } from "./gateway.ts";

/** A port that is free now. */
async function bound(): Promise<{ port: number; free: () => Promise<void> }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number }; // a TCP server's address
  return { port, free: () => new Promise((resolve) => void server.close(() => resolve())) };
}

test("a gateway that cannot start leaves no port and no subscription behind", async () => {
  const first = await bound();
  await first.free();
  const taken = await bound();
  let subscribed = 0;
  const listener = (port: number) =>
    ({ protocol: "postgres", listen: { host: "127.0.0.1", port }, proxyProtocolFrom: [], advertise: null }) as const;
  const starting = startGateway({
    config: { listeners: [listener(first.port), listener(taken.port)] },
    certificate: null,
    snapshots: {
      current: { version: "1", resources: [], classifiers: [], policies: [], identityProviders: [] },
      subscribe: () => {
        subscribed += 1;
        return () => (subscribed -= 1);
      },
    },
    agentLink: {} as AgentLink, // nothing is opened
    spool: {} as Spool, // nothing is recorded
    limits: defaultLimits,
    clock: systemClock,
    random: systemRandom,
    log: pino({ level: "silent" }),
  });
  await expect(starting).rejects.toThrow(GatewayError);
  expect(subscribed).toBe(0);
  const again = createServer();
  await new Promise<void>((resolve, reject) => {
    again.once("error", reject);
    again.listen(first.port, "127.0.0.1", resolve);
  });
  await new Promise<void>((resolve) => void again.close(() => resolve()));
  await taken.free();
});
