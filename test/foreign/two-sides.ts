/**
 * Two fresh clusters of one version that differ in nothing: one to be used directly, one through a gateway whose policy allows
 * everything and protects nothing. What a script prints on both must then be the same.
 */
import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { startSluice, type Sluice } from "../support/sluice.ts";
import { startTarget, type Target, type TargetVersion } from "../support/targets.ts";

export interface Side {
  readonly target: Target;
  /** libpq's environment to reach the database. */
  readonly environment: Readonly<Record<string, string>>;
}

export interface TwoSides {
  readonly direct: Side;
  readonly gateway: Side;
  readonly sluice: Sluice;
  stop(): Promise<void>;
}

const DATABASE = "regression";
const VARIABLE = "REGRESSION_PASSWORD";

const config = `apiVersion: sluice/v1
kind: Config
controlPlane: { store: embedded, listen: 127.0.0.1:0 }
dataPlane:
  listeners: [{ protocol: postgres, listen: 127.0.0.1:0 }]
  tls: { mode: self-signed }
agent:
  secrets: [{ env: ${VARIABLE}, targets: ["127.0.0.1:*"] }]
events: { bus: embedded }
recorder: { store: "file:recordings" }
manifests: [./manifests]
`;

const manifests = (port: number): string => `apiVersion: sluice/v1
kind: Resource
metadata: { name: ${DATABASE}, labels: { env: test } }
spec:
  protocol: postgres
  target: { address: "127.0.0.1:${port}", database: ${DATABASE}, tls: { mode: disable } }
  credential: { username: { value: postgres }, password: { env: ${VARIABLE} } }
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: everything }
spec:
  principals: { groups: [everyone] }
  resources: { labels: { env: test } }
  rules: [{ name: everything, effect: allow }]
`;

/** The scripts want settings that pg_regress gives in the environment; these cannot be given at a gateway's start-up. */
const SETTINGS = ["intervalstyle = 'postgres_verbose'", "lc_messages = 'C'", "bytea_output = 'hex'"];

export async function startTwoSides(version: TargetVersion): Promise<TwoSides> {
  const started: { stop(): Promise<unknown> }[] = [];
  const stop = async (): Promise<void> => {
    for (const each of started.toReversed()) await each.stop();
  };
  try {
    const targets: Target[] = [];
    for (let side = 0; side < 2; side++) {
      const target = await startTarget(version, {
        autovacuum: "off",
        max_prepared_transactions: "20",
        max_locks_per_transaction: "256",
      });
      started.push(target);
      await target.admin("postgres", async (client) => {
        await client.query(`CREATE DATABASE ${DATABASE} TEMPLATE template0`);
        for (const setting of SETTINGS) await client.query(`ALTER DATABASE ${DATABASE} SET ${setting}`);
      });
      targets.push(target);
    }
    const [plain, guarded] = targets as [Target, Target]; // two were started above
    const sluice = await startSluice({
      config,
      manifests: { "regression.yaml": manifests(guarded.port) },
      environment: { [VARIABLE]: guarded.cluster.password },
    });
    started.push({ stop: () => sluice.remove() });
    const token = await sluice.token("runner", ["everyone"], "--ttl", "4h");
    const common = { PGHOST: "127.0.0.1", PGUSER: "postgres", PGDATABASE: DATABASE };
    const direct = { ...common, PGPORT: String(plain.port), PGPASSWORD: plain.cluster.password };
    const gateway = {
      ...common,
      PGPORT: String(sluice.port),
      PGPASSWORD: token,
      PGSSLMODE: "verify-full",
      PGSSLROOTCERT: sluice.ready.caFile,
    };
    return { direct: { target: plain, environment: direct }, gateway: { target: guarded, environment: gateway }, sluice, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Runs a script with psql as pg_regress does; both of its streams go to `output`, in the order in which they were written. */
export async function runScript(
  side: Side,
  script: string,
  output: string,
  environment: Readonly<Record<string, string>>,
  timeoutMs: number,
): Promise<"ended" | "stopped"> {
  const from = await open(script, "r");
  const to = await open(output, "w");
  const flags = ["-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"];
  try {
    const child = spawn("psql", flags, {
      stdio: [from.fd, to.fd, to.fd],
      env: { PATH: process.env["PATH"], LC_MESSAGES: "C", ...side.environment, ...environment },
    });
    let stopped = false;
    const timer = setTimeout(() => {
      stopped = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", resolve);
    });
    clearTimeout(timer);
    return stopped ? "stopped" : "ended";
  } finally {
    await from.close();
    await to.close();
  }
}
