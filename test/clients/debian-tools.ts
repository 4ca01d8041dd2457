/** pg_dump (whole for a caller who sees everything, refused for one who sees masks) and pgbench with its built-in scripts. */
import { markersOf, planted } from "../support/orders-schema.ts";
import { type CommandResult, runCommand } from "../support/sluice.ts";
import { APP_PASSWORD, APP_USER } from "../support/targets.ts";
import type { ClientGround, Role } from "./installation.ts";
import type { Outcome } from "./run-program.ts";

const BIN = "/usr/lib/postgresql/15/bin";

function environmentOf({ orders, token }: ClientGround, role: Role): Readonly<Record<string, string>> {
  return {
    PGHOST: "127.0.0.1",
    PGPORT: String(orders.sluice.port),
    PGDATABASE: "orders",
    PGUSER: "me",
    PGPASSWORD: token(role),
    PGSSLMODE: "verify-full",
    PGSSLROOTCERT: orders.sluice.ready.caFile,
  };
}

/** pg_dump refuses a server newer than itself, so against version 18 it says so and nothing is compared. */
export async function dumps(ground: ClientGround, role: Role): Promise<Outcome> {
  const { target } = ground.orders;
  const version = (await runCommand(`${BIN}/pg_dump`, ["--version"], "/")).stdout
    .trim()
    .replace(/^.* \(PostgreSQL\) (\S+).*$/, "$1");
  const dump = (environment: Readonly<Record<string, string>>, ...more: string[]): Promise<CommandResult> =>
    runCommand(`${BIN}/pg_dump`, ["--no-owner", ...more], "/", environment);
  const features: Record<string, string> = {};
  const direct = {
    PGHOST: "127.0.0.1",
    PGPORT: String(target.port),
    PGDATABASE: "orders",
    PGUSER: APP_USER,
    PGPASSWORD: APP_PASSWORD,
  };
  for (const [feature, ...more] of [
    ["dump"],
    ["dump with inserts", "--inserts"],
    ["dump of the schema", "--schema-only"],
  ] as const) {
    const through = await dump(environmentOf(ground, role), ...more);
    if (role === "masked") {
      const leaks = markersOf(planted).some((marker) => through.stdout.includes(marker) || through.stderr.includes(marker));
      features[feature] = leaks ? "a protected value was printed" : through.status !== 0 ? "ok" : "was not refused";
    } else if (target.version !== 15) {
      features[feature] = /server version mismatch/.test(through.stderr) ? "ok" : `said ${through.stderr}`;
    } else {
      const expected = await dump(direct, ...more);
      if (/name of a setting that is computed/.test(through.stderr)) {
        features[feature] =
          "known: set_config(name, …) FROM pg_settings, with which pg_dump begins since 15.8, is refused for every caller";
        continue;
      }
      const same = through.status === 0 && withoutKeys(through.stdout) === withoutKeys(expected.stdout);
      features[feature] = same ? "ok" : `not the same as a direct dump: ${through.stderr.slice(0, 300)}`;
    }
  }
  return { version, features };
}

/** Newer pg_dump writes a random key around its output. */
function withoutKeys(dump: string): string {
  return dump.replaceAll(/^\\(un)?restrict .*$/gm, "");
}

export async function measures(ground: ClientGround, role: Role): Promise<Outcome> {
  const environment = environmentOf(ground, role);
  const version = (await runCommand(`${BIN}/pgbench`, ["--version"], "/")).stdout
    .trim()
    .replace(/^.* \(PostgreSQL\) (\S+).*$/, "$1");
  const features: Record<string, string> = {};
  const run = async (feature: string, ...args: string[]): Promise<void> => {
    const ran = await runCommand(`${BIN}/pgbench`, args, "/", environment);
    const failed = /number of failed transactions: (\d+)/.exec(ran.stdout)?.[1] ?? "0";
    features[feature] = ran.status === 0 && failed === "0" ? "ok" : `status ${ran.status}: ${ran.stderr.trim().slice(-300)}`;
  };
  await run("fill", "-i", "-q", "-s", "1");
  for (const mode of ["simple", "extended", "prepared"])
    for (const script of ["tpcb-like", "simple-update", "select-only"])
      await run(`${script}, ${mode}`, "-n", "-c", "2", "-t", "20", "-M", mode, "-b", script);
  await run("connect each time", "-n", "-C", "-c", "2", "-t", "5", "-b", "select-only");
  return { version, features };
}
