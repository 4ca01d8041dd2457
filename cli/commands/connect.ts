/** `sluice connect RESOURCE`: which gateway is the nearest, and how a client connects to it. Prints no token. */
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CommandContext } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { measureGateways, type NearGateway } from "../nearest-gateway.ts";
import { visible } from "../output/table.ts";
import { conninfo } from "./psql.ts";

interface ConnectOptions extends InstallationOptions {
  readonly json?: boolean;
}

export function addConnectCommand(program: Command, context: CommandContext): void {
  withInstallationOptions(
    program
      .command("connect <resource>")
      .description("measure the gateways and print how to connect to the nearest one (your token is the password)")
      .option("--json", "print the choice and all measurements as JSON"),
  ).action((resource: string, options: ConnectOptions) => connectTo(resource, options, context));
}

async function connectTo(resource: string, options: ConnectOptions, context: CommandContext): Promise<void> {
  const { admin, ready } = await findInstallation(options, context);
  const gateways = await measureGateways(admin, "postgres", context.userName);
  const [nearest] = gateways;
  if (nearest === undefined || !Number.isFinite(nearest.roundTripMs)) {
    throw new GatewayError("node_unreachable", "No gateway answers from here.", {
      hint: `Tried ${gateways.map(({ host, port }) => `${host}:${port}`).join(", ")}.`,
    });
  }
  const connection = conninfo({
    host: nearest.host,
    port: String(nearest.port),
    dbname: resource,
    user: context.userName === "" ? "me" : context.userName,
    sslmode: "verify-full",
    ...(ready === undefined ? {} : { sslrootcert: ready.caFile }),
  });
  if (options.json === true) {
    context.out(
      `${JSON.stringify({ gateway: nearest.name, address: `${nearest.host}:${nearest.port}`, conninfo: connection, measured: gateways.map(shown) })}\n`,
    );
    return;
  }
  for (const gateway of gateways)
    context.err(`${visible(gateway.name).padEnd(24)} ${visible(gateway.region).padEnd(12)} ${timeOf(gateway)}\n`);
  context.out(`psql "${connection}"\n`);
}

function shown({ name, region, roundTripMs, draining }: NearGateway): Readonly<Record<string, unknown>> {
  return { name, region, roundTripMs: Number.isFinite(roundTripMs) ? Number(roundTripMs.toFixed(3)) : null, draining };
}

function timeOf({ roundTripMs, draining }: NearGateway): string {
  if (!Number.isFinite(roundTripMs)) return "does not answer";
  return `${roundTripMs.toFixed(1)} ms${draining ? ", draining" : ""}`;
}
