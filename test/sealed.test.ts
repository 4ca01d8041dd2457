/** A secret sealed on the command line opens in the agent of the same process, for its target and no other; nothing else holds it in clear. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { repository, runCommand } from "./support/sluice.ts";
import { APP_PASSWORD } from "./support/targets.ts";

let orders: Orders;
beforeAll(async () => {
  orders = await startOrders({
    config: (text) => text.replace("agent:\n  secrets:", 'agent:\n  secrets:\n    - { sealed: true, targets: ["127.0.0.1:*"] }'),
    environment: { ORDERS_PASSWORD: "not-the-password" },
  });
});
afterAll(async () => {
  await orders?.stop();
});

async function seal(target: string): Promise<string> {
  const { stdout, stderr, status } = await runCommand(
    process.execPath,
    [join(repository, "cli/bin/sluice.mjs"), "seal", "--target", target, "--ready-file", orders.sluice.readyFile],
    orders.sluice.directory,
    {},
    APP_PASSWORD,
  );
  expect(status, stderr).toBe(0);
  return stdout.trim();
}

async function applySealed(sealed: string): Promise<void> {
  const manifest = await readFile(join(orders.sluice.directory, "manifests", "orders.yaml"), "utf8");
  const file = join(orders.sluice.directory, "sealed.yaml");
  await writeFile(file, manifest.replace("{ env: ORDERS_PASSWORD }", `{ sealed: "${sealed}" }`).split("---\n")[0]!);
  expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0 });
}

describe("a sealed password", () => {
  it("lets the agent in, and stands nowhere in clear", async () => {
    await expect(orders.connect(orders.agent)).rejects.toThrow(/credential/);
    await applySealed(await seal(`127.0.0.1:${orders.target.port}`));
    const client = await orders.connect(orders.agent);
    expect((await client.query("SELECT count(*)::int AS n FROM orders")).rows[0]).toMatchObject({
      n: expect.any(Number) as number,
    });
    await client.end();
    const files = await readdir(orders.sluice.dataDirectory, { recursive: true, withFileTypes: true });
    for (const file of files.filter((entry) => entry.isFile())) {
      const bytes = await readFile(join(file.parentPath, file.name)).catch(() => Buffer.alloc(0)); // removed meanwhile
      expect(bytes.includes(APP_PASSWORD), join(file.parentPath, file.name)).toBe(false);
    }
    expect(orders.sluice.output()).not.toContain(APP_PASSWORD);
  });

  it("is not sent to a target that it was not sealed for", async () => {
    await applySealed(await seal("db.internal:5432"));
    await expect(orders.connect(orders.agent)).rejects.toThrow(/sealed/);
  });
});
