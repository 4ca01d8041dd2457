/**
 * One gateway before pairs of databases that are copies of one template, so that their OIDs are equal, and differ in protected
 * values alone. Nothing but lineage and the wire's own origins stands between the values and a caller: no detector looks at them.
 */
import { APP_PASSWORD, startTarget, type Target, type TargetVersion } from "../support/targets.ts";
import { contractConfig } from "../support/orders.ts";
import { RawClient } from "../support/raw-client.ts";
import { type Sluice, startSluice } from "../support/sluice.ts";
import { objects, safeFunctions } from "./schema.ts";
import { odd, oddOther, type Person, shaped, shapedOther } from "./values.ts";

/** Callers who may do everything; what they see of protected columns differs. `clear`: all of it. */
export const groups = ["redacted", "partial", "clear"] as const;
export type Group = (typeof groups)[number];
export type Kind = Exclude<Group, "clear">;

export interface InstallationOptions {
  readonly version?: TargetVersion;
  /** Pairs of databases of each kind: as many sessions run at a time. */
  readonly lanes: Readonly<Record<Kind, number>>;
}

export interface Databases {
  readonly left: string;
  readonly right: string;
  /** The same values as in `left`: what differs here too is no leak. */
  readonly twin: string;
}

/** A target with its databases; gateways before it may come and go. */
export interface FuzzTarget {
  readonly target: Target;
  readonly databases: readonly string[];
  /** The highest OID of the template: what is above was made by a statement. */
  readonly lastOid: number;
  stop(): Promise<void>;
}

export interface FuzzGateway {
  readonly sluice: Sluice;
  connect(group: Group, database: string): Promise<RawClient>;
  stop(): Promise<void>;
}

export function databasesOf(kind: Kind, lane: number): Databases {
  return { left: `${kind}_${lane}_left`, right: `${kind}_${lane}_right`, twin: `${kind}_twin` };
}

/** Beside `redacted_twin`, for who sees everything. */
export const CLEAR_DATABASE = "clear_twin";

export async function startFuzzTarget({ version = 18, lanes }: InstallationOptions): Promise<FuzzTarget> {
  // Without statistics plans are alike whatever the values are.
  const target = await startTarget(version, { autovacuum: "off", synchronous_commit: "off" });
  try {
    await target.createDatabase("orders", objects);
    const lastOid = await target.admin("orders", async (client) => {
      const found = await client.query<{ last: string }>("SELECT max(oid::bigint) AS last FROM pg_class");
      return Number(found.rows[0]!.last);
    });
    const filled = new Map<string, readonly Person[]>([
      ["redacted_twin", odd],
      ["partial_twin", shaped],
      [CLEAR_DATABASE, odd],
    ]);
    for (const kind of ["redacted", "partial"] as const) {
      for (let lane = 0; lane < lanes[kind]; lane++) {
        const { left, right } = databasesOf(kind, lane);
        filled.set(left, kind === "redacted" ? odd : shaped).set(right, kind === "redacted" ? oddOther : shapedOther);
      }
    }
    for (const [database, people] of filled) {
      await target.admin("postgres", (client) =>
        client.query(`CREATE DATABASE ${database} TEMPLATE orders OWNER orders_app`).then(() => undefined),
      );
      await fill(target, database, people);
    }
    return { target, databases: [...filled.keys()], lastOid, stop: () => target.stop() };
  } catch (error) {
    await target.stop();
    throw error;
  }
}

/** `launcher`: of another copy of the project. */
export async function startFuzzGateway(fuzz: FuzzTarget, launcher?: string): Promise<FuzzGateway> {
  const sluice = await startSluice({
    config: await contractConfig(),
    manifests: { "fuzz.yaml": manifests(fuzz) },
    environment: { ORDERS_PASSWORD: APP_PASSWORD },
    ...(launcher === undefined ? {} : { launcher }),
  });
  try {
    const tokens = new Map<Group, string>();
    for (const group of groups) tokens.set(group, await sluice.token(`fuzz-${group}`, [group]));
    return {
      sluice,
      connect: (group, database) =>
        RawClient.login({
          port: sluice.port,
          caFile: sluice.ready.caFile,
          token: tokens.get(group)!, // minted above for every group
          database: `orders/${database}`,
        }),
      stop: () => sluice.remove(),
    };
  } catch (error) {
    await sluice.remove();
    throw error;
  }
}

function manifests({ target, databases }: FuzzTarget): string {
  const mask = (group: Group, operator: string): string => `---
apiVersion: sluice/v1
kind: Policy
metadata: { name: ${group} }
spec:
  principals: { groups: [${group}] }
  resources: { labels: { env: fuzz } }
  rules:
    - { name: everything, effect: allow }${
      group === "clear"
        ? ""
        : `
    - { name: hide, effect: mask, entities: [US_SSN, EMAIL_ADDRESS, CREDIT_CARD, SECRET], operator: ${operator} }`
    }
`;
  return `apiVersion: sluice/v1
kind: Resource
metadata: { name: orders, labels: { env: fuzz } }
spec:
  protocol: postgres
  target:
    address: 127.0.0.1:${target.port}
    database: orders
    databases: [${databases.join(", ")}]
    tls: { mode: disable }
  credential:
    username: { value: orders_app }
    password: { env: ORDERS_PASSWORD }
  inspection: { recording: relaxed, safeFunctions: [${safeFunctions.join(", ")}] }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: ssn }
spec: { entity: US_SSN, columnNames: ["ssn"] }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: email }
spec: { entity: EMAIL_ADDRESS, columnNames: ["email"] }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: card }
spec: { entity: CREDIT_CARD, columnNames: ["card"] }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: secret }
spec:
  entity: SECRET
  columns:
    - public.customers.salary
    - public.customers.born
    - hr.customers.name
    - public.docs.person
    - public.kinds.token
    - public.kinds.period
    - public.kinds.feeling
${mask("redacted", "redact")}${mask("partial", "{ partial: { keepLast: 4 } }")}${mask("clear", "")}`;
}

/** Rows are inserted once and never changed: then they lie on the same places everywhere. */
async function fill(target: Target, database: string, people: readonly Person[]): Promise<void> {
  await target.admin(database, async (client) => {
    await client.query("SET ROLE orders_app");
    for (const [at, person] of people.entries()) {
      const id = at + 1;
      const { ssn, email, card, salary, born, token, period, feeling, tags } = person;
      const name = `customer ${id}`;
      const region = ["north", "south", "east", "west"][at % 4];
      await client.query("INSERT INTO customers VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '2024-03-01'::date + $1::int)", [
        id,
        name,
        region,
        ssn,
        email,
        card,
        salary,
        born,
        100 * id,
      ]);
      await client.query("INSERT INTO hr.customers VALUES ($1, $2, $3, $4)", [id, ssn, card, region]);
      await client.query("INSERT INTO arch.customers VALUES ($1, $2, $3, '2020-01-01', $4)", [id, region, `old ${id}`, ssn]);
      await client.query("INSERT INTO people (id, full_name, ssn) VALUES ($1, $2, $3)", [id, name, ssn]);
      await client.query(
        "INSERT INTO docs VALUES ($1::int, ROW($6::text, $3::text)::contact, jsonb_build_object('mail', $4::text, 'n', $1::int), $5, $2, jsonb_build_object('n', $1::int, 'k', 'v'), ARRAY['a', 'b' || $1::int])",
        [id, name, ssn, email, tags, card],
      );
      await client.query("INSERT INTO kinds VALUES ($1, $2, convert_to($3, 'UTF8'), $4, $5, 'kind', '\\x0102')", [
        id,
        card,
        token,
        period,
        feeling,
      ]);
      await client.query("INSERT INTO staff VALUES ($1, $2, $3)", [id, card, `staff ${id}`]);
      await client.query("INSERT INTO base_people VALUES ($1, $2)", [id + 10, card]);
    }
    await client.query(
      "INSERT INTO orders SELECT n, 1 + n % 4, (ARRAY['calm','busy','loud'])[1 + n % 3]::mood, n * 1.5, '2026-01-01'::date + n, 'remark ' || n FROM generate_series(1, 8) n",
    );
    await client.query("INSERT INTO loot VALUES (1, 'one'), (2, 'two')");
    await client.query("REFRESH MATERIALIZED VIEW m_parts");
    // What is written is undone. Where a BEGIN is refused, nothing that follows may stay: later sessions would differ by it.
    await client.query("RESET ROLE");
    await client.query(`ALTER ROLE orders_app IN DATABASE ${database} SET default_transaction_read_only = on`);
  });
}
