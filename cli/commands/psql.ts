/**
 * `sluice psql RESOURCE`: gets a token of the development issuer and opens psql with it, or a small client of our own where
 * psql is not installed. It must never connect without verifying the server, and never put the token on a command line.
 */
import path from "node:path";
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import type { AdminClient } from "../admin-client.ts";
import { type CommandContext, NegativeAnswer, UsageError } from "../context.ts";
import { measureGateways } from "../nearest-gateway.ts";
import { findInstallation, type InstallationOptions, readAuthority, withInstallationOptions } from "../installation.ts";
import type { ReadyFile } from "../ready-file.ts";
import { findProgram } from "./find-program.ts";
import { collect, parseClaims, parseTtl } from "./options.ts";
import { runBuiltinClient } from "./psql-builtin.ts";
import { mintToken } from "./token.ts";

interface PsqlOptions extends InstallationOptions {
  readonly as?: string;
  readonly group?: readonly string[];
  readonly claim?: readonly string[];
  readonly ttl: string;
  readonly command?: readonly string[];
  readonly builtin?: boolean;
  readonly gatewayCaFile?: string;
}

export function addPsqlCommand(program: Command, context: CommandContext): void {
  withInstallationOptions(
    program
      .command("psql <resource> [psql-arguments...]")
      .description("connect to a resource with a fresh token; uses psql, or a small built-in client where psql is not installed")
      .option("--as <subject>", "who to be (default: the name of this account)")
      .option("--group <name>", "a group of the subject; may be given several times", collect)
      .option("--claim <name=value>", "a further claim; may be given several times", collect)
      .option("--ttl <duration>", "how long the token is valid", "1h")
      .option("-c, --command <sql>", "run this statement and end; may be given several times", collect)
      .option("--builtin", "use the built-in client even where psql is installed")
      .option(
        "--gateway-ca-file <file>",
        "PEM file that verifies the gateway where it has a certificate of yours (default: the ready file's)",
      ),
  ).action((resource: string, more: readonly string[], options: PsqlOptions) => psql(resource, more, options, context));
}

async function psql(resource: string, more: readonly string[], options: PsqlOptions, context: CommandContext): Promise<void> {
  const wish = {
    subject: options.as ?? context.userName,
    groups: options.group ?? [],
    claims: parseClaims(options.claim ?? []),
    ttlSeconds: parseTtl(options.ttl),
  };
  if (wish.subject.trim() === "") throw new UsageError("--as must not be empty.");
  const { admin, ready } = await findInstallation(options, context);
  if (ready === undefined)
    throw new UsageError("psql needs a ready file (--ready-file): --server does not say where the listeners are.");
  // A control plane alone has no listeners: then the nearest gateway is taken.
  const { host, port } = ready.listeners.length > 0 ? listenerOf(ready) : await nearestOf(admin, wish.subject);
  const token = await mintToken(admin, wish);
  if (wish.groups.length === 0) {
    context.err(`Connecting as ${wish.subject} without groups; policies usually go by group: --group NAME.\n`);
  }
  const caFile =
    options.gatewayCaFile === undefined ? ready.caFile : path.resolve(context.workingDirectory, options.gatewayCaFile);
  const program = options.builtin === true ? undefined : await findProgram("psql", context);
  if (program === undefined) {
    if (more.length > 0)
      throw new UsageError("psql is not installed here, and the built-in client takes no psql arguments; use --command.");
    const target = { host, port, database: resource, user: wish.subject, token, ca: await readAuthority(caFile) };
    await runBuiltinClient(target, options.command ?? [], context);
    return;
  }
  const connection = conninfo({
    host,
    port: String(port),
    dbname: resource,
    user: wish.subject,
    sslmode: "verify-full",
    sslrootcert: caFile,
  });
  const commands = (options.command ?? []).flatMap((sql) => ["-c", sql]);
  const status = await context.runProgram(program, [connection, ...commands, ...more], { PGPASSWORD: token });
  if (status !== 0) throw new NegativeAnswer(); // psql has said why
}

async function nearestOf(admin: AdminClient, chooser: string): Promise<{ readonly host: string; readonly port: number }> {
  const [nearest] = await measureGateways(admin, "postgres", chooser);
  if (nearest !== undefined && Number.isFinite(nearest.roundTripMs)) return nearest;
  throw new GatewayError("node_unreachable", "No gateway answers from here.", { hint: "`sluice nodes list` shows them." });
}

/** Host and port of the first PostgreSQL listener. Throws GatewayError when there is none. */
export function listenerOf(ready: ReadyFile): { readonly host: string; readonly port: number } {
  const listener = ready.listeners.find((candidate) => candidate.protocol === "postgres");
  if (listener === undefined) throw new GatewayError("not_found", "The installation has no PostgreSQL listener.");
  const at = listener.address.lastIndexOf(":");
  const host = listener.address.slice(0, at).replace(/^\[(.*)\]$/, "$1");
  return { host: host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host, port: Number(listener.address.slice(at + 1)) };
}

/** A libpq connection string; every value quoted (PostgreSQL documentation, "Connection Strings"). */
export function conninfo(parts: Readonly<Record<string, string>>): string {
  return Object.entries(parts)
    .map(([name, value]) =>
      /^[A-Za-z0-9_./:@-]+$/.test(value) ? `${name}=${value}` : `${name}='${value.replace(/[\\']/g, "\\$&")}'`,
    )
    .join(" ");
}
