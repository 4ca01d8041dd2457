import { GatewayError } from "@sluice/core/errors.ts";
import type { TargetSpec } from "@sluice/core/snapshot.ts";
import { describe, expect, test } from "vitest";
import { type TargetAddress, TargetAddresses, tryInOrder } from "./addresses.ts";

const [a, b, c] = ["a", "b", "c"].map((host) => ({ host, port: 5432 })) as [TargetAddress, TargetAddress, TargetAddress];
const target: TargetSpec = { ...a, database: "d", databases: [], tls: { mode: "disable" }, failover: [b, c, a] };

describe("the order", () => {
  test("is the declared one, each address once", () => {
    expect(new TargetAddresses().inOrder(target, 0)).toEqual([a, b, c]);
    const { failover: _, ...alone } = target;
    expect(new TargetAddresses().inOrder(alone, 0)).toEqual([a]);
  });

  test("begins for half a minute with what answered last, for this target alone", () => {
    const addresses = new TargetAddresses();
    addresses.answered(target, b, 1_000);
    expect(addresses.inOrder(target, 31_000)).toEqual([b, a, c]);
    expect(addresses.inOrder(target, 31_001)).toEqual([a, b, c]);
    expect(addresses.inOrder({ ...target, role: "primary" }, 2_000)).toEqual([a, b, c]);
    expect(addresses.inOrder({ ...target, failover: [c] }, 2_000)).toEqual([a, c]);
  });
});

describe("trying", () => {
  const unreachable = new GatewayError("target_unreachable", "no answer");
  const unbound = new GatewayError("secret_unavailable", "not bound");
  const run = (outcomes: Readonly<Record<string, unknown>>, tried: string[] = []): Promise<string> =>
    tryInOrder(
      [a, b, c],
      { timeoutMs: 900, monotonicMs: () => 0, signal: new AbortController().signal },
      async ({ host }, signal) => {
        tried.push(host);
        expect(signal.aborted).toBe(false);
        if (outcomes[host] !== undefined) throw outcomes[host];
        return host;
      },
    );

  test("goes on where another address may do better, and no further", async () => {
    expect(await run({ a: unreachable, b: unbound })).toBe("c");
    const tried: string[] = [];
    const refused = new GatewayError("target_auth_failed", "wrong password");
    await expect(run({ a: unreachable, b: refused }, tried)).rejects.toBe(refused);
    expect(tried).toEqual(["a", "b"]);
    await expect(run({ a: new Error("a bug") })).rejects.toMatchObject({ code: "internal" });
  });

  test("ends with the most telling error", async () => {
    await expect(run({ a: unreachable, b: unbound, c: unreachable })).rejects.toBe(unbound);
    await expect(run({ a: unreachable, b: new GatewayError("target_unreachable", "another"), c: unbound })).rejects.toBe(unbound);
    await expect(run({ a: unreachable, b: unreachable, c: unreachable })).rejects.toBe(unreachable);
  });

  test("leaves time for the addresses behind one that hangs", async () => {
    const startedMs = performance.now();
    const outcome = await tryInOrder(
      [a, b, c],
      { timeoutMs: 900, monotonicMs: () => performance.now(), signal: new AbortController().signal },
      async ({ host }, signal) => {
        if (host === "c") return host;
        const { promise, reject } = Promise.withResolvers<never>();
        signal.addEventListener("abort", () => reject(unreachable));
        return await promise;
      },
    );
    expect(outcome).toBe("c");
    expect(performance.now() - startedMs).toBeLessThan(850);
  });

  test("stops when its caller gives up", async () => {
    const caller = new AbortController();
    const tried: string[] = [];
    const outcome = tryInOrder([a, b], { timeoutMs: 900, monotonicMs: () => 0, signal: caller.signal }, async ({ host }) => {
      tried.push(host);
      caller.abort();
      throw unreachable;
    });
    await expect(outcome).rejects.toBe(unreachable);
    expect(tried).toEqual(["a"]);
  });
});
