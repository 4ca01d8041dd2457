/**
 * `sluice seal`: encrypts a secret to the agents that may open it, so that a manifest may carry it. The secret is read from
 * standard input, never from arguments, where every process of the machine could read it; it goes nowhere but into the sealed text.
 */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { type SealingRecipient, sealSecret } from "@sluice/agent/secrets/sealed.ts";
import { rotateSealingKey } from "@sluice/agent/secrets/sealing-key.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { Command } from "commander";
import { type AdminClient, isRecord } from "../admin-client.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { collect } from "./options.ts";

export { type SealingRecipient, sealSecret } from "@sluice/agent/secrets/sealed.ts";

interface SealOptions extends InstallationOptions {
  readonly target: string;
  readonly label?: readonly string[];
}

export function addSealCommand(program: Command, context: CommandContext): void {
  withInstallationOptions(
    program
      .command("seal")
      .description("read a secret from standard input and print it sealed to the agents that may open it, for a manifest")
      .requiredOption("--target <host:port>", "the target address it may go to; '*' matches any run of characters")
      .option("--label <name=value>", "only to agents that carry this label; may be given several times", collect),
  ).action(async (options: SealOptions) => {
    const target = parseTarget(options.target);
    const labels = parseLabels(options.label ?? []);
    const secret = requireSecret(await context.readStandardInput());
    const { admin } = await findInstallation(options, context);
    const recipients = await askRecipients(admin, labels);
    const sealed = await sealSecret(secret, recipients, target);
    context.out(`${sealed}\n`);
    context.err(`sealed to ${recipients.map(({ agent }) => agent).join(", ")} for ${target}\n`);
  });
}

/** For the agent's machine; an agent that runs goes on with the key it has until it starts again. */
export function addRotateSealingKeyCommand(program: Command, context: CommandContext): void {
  program
    .command("rotate-sealing-key")
    .description("add a new key for sealed secrets to an agent's data directory; the former ones still open")
    .requiredOption("--data-dir <directory>", "data directory of the agent on this machine")
    .action(async (options: { readonly dataDir: string }) => {
      const dataDirectory = resolve(context.workingDirectory, options.dataDir);
      await stat(dataDirectory).catch(() => {
        throw new UsageError(`There is no directory ${dataDirectory}: name the one that the agent was started with.`);
      });
      const directory = resolve(dataDirectory, "sealing");
      const { publicJwk } = await rotateSealingKey(directory);
      context.out(`${publicJwk}\n`);
      context.err("restart the agent; then seal secrets again, so that the former key can go\n");
    });
}

/** The public keys of the agents that carry the labels. Throws `not_found` when there are none. */
async function askRecipients(admin: AdminClient, labels: Readonly<Record<string, string>>): Promise<readonly SealingRecipient[]> {
  const answer = await admin.call("NodeService/SealingRecipients", { labels });
  const listed = isRecord(answer) ? answer["recipients"] : undefined;
  if (!Array.isArray(listed)) throw strange();
  const recipients = listed.map((one: unknown): SealingRecipient => {
    if (!isRecord(one) || typeof one["agent"] !== "string" || typeof one["jwk"] !== "string") throw strange();
    return { agent: one["agent"], jwk: one["jwk"] };
  });
  if (recipients.length > 0) return recipients;
  throw new GatewayError("not_found", "No agent of the installation carries these labels.", {
    hint: "Start the agent that is to open the secret; `sluice nodes list` shows agents and their labels.",
  });
}

function strange(): GatewayError {
  return new GatewayError("internal", "The installation answered without the agents' keys.");
}

function parseTarget(text: string): string {
  if (/^\S+:[0-9*]+$/.test(text) && text.length <= 1_024) return text;
  throw new UsageError("--target must be host:port, in which '*' matches any run of characters: for example db.internal:5432.");
}

function parseLabels(pairs: readonly string[]): Readonly<Record<string, string>> {
  const labels: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at <= 0 || at === pair.length - 1) throw new UsageError(`--label ${pair} must have the form name=value.`);
    const name = pair.slice(0, at);
    if (Object.hasOwn(labels, name)) throw new UsageError(`--label ${name} is given twice.`);
    labels[name] = pair.slice(at + 1);
  }
  return labels;
}

/** Without the one line end that editors and `echo` add, as in the agent's files. */
function requireSecret(text: string): string {
  const secret = text.replace(/\r?\n$/, "");
  if (secret === "")
    throw new UsageError("There was nothing on standard input: pipe the secret in, for example sluice seal … < FILE.");
  if (secret.includes("\0") || Buffer.byteLength(secret) > defaultLimits.secretBytesMax) {
    throw new UsageError(
      `What is on standard input cannot be a secret: it holds a NUL byte or more than ${defaultLimits.secretBytesMax} bytes.`,
    );
  }
  return secret;
}
