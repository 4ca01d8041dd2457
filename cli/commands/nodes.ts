/**
 * `sluice nodes …`, `sluice ca …`: the processes of an installation, how they join it, who vouches for them. A join token is printed
 * alone on standard output, so that it can go straight into a secret store.
 */
import type { Command } from "commander";
import { type AdminClient, isRecord } from "../admin-client.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { formatTable, formatTime, visible } from "../output/table.ts";
import { parseDurationSeconds } from "../durations.ts";
import { collect, parsePairs, parseTtl } from "./options.ts";

interface ListOptions extends InstallationOptions {
  readonly json?: boolean;
}

interface RevokeOptions extends InstallationOptions {
  readonly reason?: string;
}

interface CreateOptions extends InstallationOptions {
  readonly role: string;
  readonly name?: string;
  readonly label?: readonly string[];
  readonly host?: readonly string[];
  readonly ttl: string;
  readonly json?: boolean;
}

interface RotateOptions extends InstallationOptions {
  readonly after: string;
}

type Row = Readonly<Record<string, unknown>>;
const ROLES: readonly string[] = ["gateway", "agent", "recorder"];

export function addNodesCommands(program: Command, context: CommandContext): void {
  const nodes = program.command("nodes").description("processes of this installation and how they join");
  withInstallationOptions(
    nodes
      .command("list")
      .description("every node: what it is, whether it is heard of, which policy it enforces")
      .option("--json", "print JSON"),
  ).action((options: ListOptions) => listNodes(options, context));
  withInstallationOptions(
    nodes
      .command("revoke <role> <name>")
      .description("withdraw a node's certificates: it is cut off within a second and must join anew")
      .option("--reason <text>", "for the history"),
  ).action((role: string, name: string, options: RevokeOptions) => revokeNode(role, name, options, context));

  const tokens = nodes.command("join-token").description("single-use tokens by which a process becomes a node");
  withInstallationOptions(
    tokens
      .command("create")
      .description("print a new join token and nothing else on standard output")
      .requiredOption("--role <role>", ROLES.join(", "))
      .option("--name <name>", "only a node of this name may use it (and may take the place of one that is known by it)")
      .option(
        "--label <name=value>",
        "agents: what resources select them by; gateways: which resources they may serve; several",
        collect,
      )
      .option("--host <host>", "a name or address under which others reach it, for its certificate; several", collect)
      .option("--ttl <duration>", "how long it may be used", "1h")
      .option("--json", "print id, token and expiry as JSON"),
  ).action((options: CreateOptions) => createToken(options, context));
  withInstallationOptions(
    tokens.command("list").description("join tokens and what became of them").option("--json", "print JSON"),
  ).action((options: ListOptions) => listTokens(options, context));
  withInstallationOptions(tokens.command("revoke <id>").description("make a join token useless")).action(
    async (id: string, options: InstallationOptions) => {
      await (await adminOf(options, context)).call("NodeService/RevokeJoinToken", { id });
      context.out(`join token ${visible(id)} is revoked\n`);
    },
  );
  addAuthorityCommands(program, context);
}

function addAuthorityCommands(program: Command, context: CommandContext): void {
  const ca = program.command("ca").description("certificate authorities of this installation");
  withInstallationOptions(
    ca.command("list").description("authorities and what each is used for").option("--json", "print JSON"),
  ).action(async (options: ListOptions) => {
    const authorities = rowsOf(await (await adminOf(options, context)).call("AuthorityService/List", {}), "authorities");
    print(options, context, authorities, ["fingerprint", "state", "created", "expires"], (one) => [
      text(one["fingerprint"]).slice(0, 16),
      text(one["state"]),
      formatTime(one["createdAt"]),
      formatTime(one["expiresAt"]),
    ]);
  });
  withInstallationOptions(
    ca
      .command("rotate")
      .description(
        "make a new authority: trusted at once, signing after a while, the former trusted until its certificates have ended",
      )
      .option("--after <duration>", "how long nodes have to learn of it before it signs", "1h"),
  ).action(async (options: RotateOptions) => {
    const signAfterSeconds = parseDurationSeconds(options.after);
    if (signAfterSeconds === undefined)
      throw new UsageError(`--after ${options.after} is not a duration: use for example 10m or 1h.`);
    const answer = await (await adminOf(options, context)).call("AuthorityService/Rotate", { signAfterSeconds });
    const made = isRecord(answer) && isRecord(answer["authority"]) ? answer["authority"] : {};
    context.out(`${text(made["fingerprint"])}\n`);
    context.err(
      `It signs in ${options.after}. Callers that verify gateways need the new ca.pem before that; sluice ca list shows its state.\n`,
    );
  });
}

async function listNodes(options: ListOptions, context: CommandContext): Promise<void> {
  const nodes = rowsOf(await (await adminOf(options, context)).call("NodeService/List", {}), "nodes");
  if (nodes.length === 0 && options.json !== true) {
    context.out("None have joined. With `sluice up` or `npm start` all planes are in one process, and this is right.\n");
    return;
  }
  const header = ["role", "name", "region", "labels", "state", "sessions", "links", "snapshot", "certificate until", "last seen"];
  print(options, context, nodes, header, (node) => [
    text(node["role"]),
    text(node["name"]),
    text(node["region"]),
    labelsOf(node["labels"]),
    text(node["state"]),
    text(node["sessions"]),
    linksOf(node["links"]),
    snapshotOf(node),
    formatTime(node["certificateExpiresAt"]),
    formatTime(node["lastSeenAt"]),
  ]);
}

function labelsOf(value: unknown): string {
  const pairs = isRecord(value) ? Object.entries(value).map(([name, one]) => `${visible(name)}=${text(one)}`) : [];
  return pairs.length === 0 ? "-" : pairs.join(" ");
}

/** `agent-1 3 (0.4 ms)`: name, sessions, round trip. */
function linksOf(value: unknown): string {
  const links = Array.isArray(value) ? value.filter(isRecord) : [];
  const words = links.map(({ name, sessions, roundTripUs }) => {
    const ms = typeof roundTripUs === "number" && roundTripUs > 0 ? ` (${(roundTripUs / 1_000).toFixed(1)} ms)` : "";
    return `${text(name)} ${text(sessions)}${ms}`;
  });
  return words.length === 0 ? "-" : words.join(", ");
}

function snapshotOf(node: Row): string {
  const { snapshot, rejected } = node;
  const has = isRecord(snapshot) ? `${text(snapshot["sequence"])} ${text(snapshot["version"])}` : "-";
  return isRecord(rejected) ? `${has}; refused ${text(rejected["sequence"])}: ${text(rejected["message"])}` : has;
}

async function revokeNode(role: string, name: string, options: RevokeOptions, context: CommandContext): Promise<void> {
  requireRole(role);
  await (await adminOf(options, context)).call("NodeService/Revoke", { role, name, reason: options.reason ?? "" });
  context.out(`${role} ${visible(name)} is revoked\n`);
}

async function createToken(options: CreateOptions, context: CommandContext): Promise<void> {
  requireRole(options.role);
  const answer = await (await adminOf(options, context)).call("NodeService/CreateJoinToken", {
    role: options.role,
    ...(options.name === undefined ? {} : { name: options.name }),
    labels: parsePairs(options.label ?? [], "--label"),
    hosts: options.host ?? [],
    ttlSeconds: parseTtl(options.ttl),
  });
  if (options.json === true) {
    context.out(`${JSON.stringify(answer)}\n`);
    return;
  }
  const { id, token, expiresAt } = isRecord(answer) ? answer : {};
  context.out(`${text(token)}\n`);
  context.err(`Join token ${text(id)} for one ${options.role}, until ${formatTime(expiresAt)}. It is not shown again.\n`);
}

async function listTokens(options: ListOptions, context: CommandContext): Promise<void> {
  const tokens = rowsOf(await (await adminOf(options, context)).call("NodeService/ListJoinTokens", {}), "tokens");
  print(options, context, tokens, ["id", "role", "name", "state", "used by", "author", "created", "expires"], (token) => [
    text(token["id"]),
    text(token["role"]),
    text(token["name"] ?? "any"),
    text(token["state"]),
    text(token["usedBy"] ?? "-"),
    text(token["author"]),
    formatTime(token["createdAt"]),
    formatTime(token["expiresAt"]),
  ]);
}

function requireRole(role: string): void {
  if (!ROLES.includes(role)) throw new UsageError(`${role} is no role that joins: use ${ROLES.join(", ")}.`);
}

async function adminOf(options: InstallationOptions, context: CommandContext): Promise<AdminClient> {
  return (await findInstallation(options, context)).admin;
}

function print(
  options: ListOptions,
  context: CommandContext,
  rows: readonly Row[],
  header: readonly string[],
  cells: (row: Row) => readonly string[],
): void {
  if (options.json === true) context.out(`${JSON.stringify(rows)}\n`);
  else if (rows.length === 0) context.out("None.\n");
  else context.out(`${formatTable(header, rows.map(cells)).join("\n")}\n`);
}

function rowsOf(answer: unknown, field: string): readonly Row[] {
  const rows = isRecord(answer) ? answer[field] : undefined;
  return Array.isArray(rows) ? rows.filter(isRecord) : [];
}

function text(value: unknown): string {
  if (typeof value === "string") return visible(value);
  return typeof value === "number" || typeof value === "boolean" ? String(value) : "-";
}
