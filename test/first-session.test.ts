import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { targetVersions } from "./support/targets.ts";

describe.each(targetVersions)("the first session, against PostgreSQL %s", (version) => {
  let orders: Orders;
  beforeAll(async () => {
    orders = await startOrders({ version });
  });
  afterAll(async () => {
    await orders?.stop();
  });

  it("masks for an agent, shows to a dba", async () => {
    const agent = await orders.connect(orders.agent);
    const masked = await agent.query("SELECT id, name, email, ssn, card FROM customers WHERE id = 1");
    expect(masked.rows).toEqual([
      {
        id: 1,
        name: "customer 1",
        email: expect.stringMatching(/^[*@.]+\.?.*org$/),
        ssn: "***-**-9382",
        card: "************1881",
      },
    ]);
    await agent.end();
    const dba = await orders.connect(orders.dba);
    const clear = await dba.query("SELECT ssn, card FROM customers WHERE id = 1");
    expect(clear.rows).toEqual([{ ssn: "521-44-9382", card: "4012888888881881" }]);
    await dba.end();
  });

  it("refuses bulk export with the rule's reason and keeps the session usable", async () => {
    const result = await orders.psql(orders.agent, "SELECT * FROM customers;\nSELECT count(*) FROM customers;\n");
    expect(result.stderr).toContain("bulk export is not allowed for agents");
    expect(result.stdout).toContain("3");
  });
});
