/** `sluice token`: a token of the built-in development issuer on standard output, and nothing else there. */
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import { type AdminClient, isRecord } from "../admin-client.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { collect, parseClaims, parseTtl } from "./options.ts";

interface TokenOptions extends InstallationOptions {
  readonly subject: string;
  readonly group?: readonly string[];
  readonly claim?: readonly string[];
  readonly ttl: string;
}

/** What a token is to say. */
export interface TokenWish {
  readonly subject: string;
  readonly groups: readonly string[];
  readonly claims: Readonly<Record<string, string>>;
  readonly ttlSeconds: number;
}

export function addTokenCommand(program: Command, context: CommandContext): void {
  withInstallationOptions(
    program
      .command("token")
      .description("print a token of the built-in development issuer (all-in-one installations only)")
      .requiredOption("--subject <name>", "who the token is for")
      .option("--group <name>", "a group of the subject; may be given several times", collect)
      .option("--claim <name=value>", "a further claim; may be given several times", collect)
      .option("--ttl <duration>", "how long it is valid: 30s, 15m, 1h, 7d", "1h"),
  ).action(async (options: TokenOptions) => {
    if (options.subject.trim() === "") throw new UsageError("--subject must not be empty.");
    const wish: TokenWish = {
      subject: options.subject,
      groups: options.group ?? [],
      claims: parseClaims(options.claim ?? []),
      ttlSeconds: parseTtl(options.ttl),
    };
    const { admin } = await findInstallation(options, context);
    context.out(`${await mintToken(admin, wish)}\n`);
  });
}

/** Asks for a token. Throws AdminError when the development issuer is off. */
export async function mintToken(admin: AdminClient, wish: TokenWish): Promise<string> {
  const answer = await admin.call("TokenService/Mint", { ...wish });
  const token = isRecord(answer) ? answer["token"] : undefined;
  if (typeof token !== "string" || token === "") throw new GatewayError("internal", "The installation answered without a token.");
  return token;
}
