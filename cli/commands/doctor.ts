/**
 * `sluice doctor`: looks at this installation, in one process or in many, and says what to mend. It only reads; every finding that is
 * not well comes with what to do.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import { type AdminClient, AdminError, isRecord } from "../admin-client.ts";
import { type CommandContext, NegativeAnswer } from "../context.ts";
import {
  DEFAULT_READY_FILE,
  findInstallation,
  findReadyFile,
  type InstallationOptions,
  withInstallationOptions,
} from "../installation.ts";
import { visible } from "../output/table.ts";
import { probe, type Readiness } from "../probe.ts";
import type { ReadyFile } from "../ready-file.ts";
import { type Finding, judgeAuthorities, judgeClock, judgeNodes, mayPass } from "./doctor-findings.ts";
import { findProgram } from "./find-program.ts";

interface DoctorOptions extends InstallationOptions {
  readonly json?: boolean;
}

/** Nodes have a new snapshot within a second; who looks in that moment looks again. Milliseconds. */
const SECOND_LOOK_MS = 2_000;

export function addDoctorCommand(program: Command, context: CommandContext): void {
  withInstallationOptions(
    program
      .command("doctor")
      .description("check this installation and say what to mend: processes, certificates, policy snapshots, clocks, store, NATS")
      .option("--json", "print the findings as JSON"),
  ).action(async (options: DoctorOptions) => {
    const findings = [
      checkNode(),
      await checkReadyFile(options, context),
      ...(await checkInstallation(options, context)),
      await checkPsql(context),
    ];
    if (options.json === true) context.out(`${JSON.stringify(findings)}\n`);
    else for (const { ok, name, text } of findings) context.out(`${ok ? "ok  " : "MEND"}  ${name}: ${text}\n`);
    if (findings.some((finding) => !finding.ok)) throw new NegativeAnswer();
  });
}

function checkNode(): Finding {
  const ok = process.versions.node.startsWith("24.");
  return {
    name: "Node",
    ok,
    text: ok ? process.versions.node : `${process.versions.node}; Sluice needs 24: run npm ci in its folder`,
  };
}

async function checkReadyFile(options: InstallationOptions, context: CommandContext): Promise<Finding> {
  const name = "ready file";
  if (options.server !== undefined) return { name, ok: true, text: "not used with --server" };
  try {
    const ready = await findReadyFile(options, context);
    const file = path.resolve(context.workingDirectory, options.readyFile ?? DEFAULT_READY_FILE);
    // Bits of group and others: the file holds the admin token.
    const open = ((await stat(file)).mode & 0o077) !== 0;
    if (open) return { name, ok: false, text: `${file} can be read by others; run chmod 600 on it` };
    return { name, ok: true, text: `${file}, process ${ready.pid}` };
  } catch (error) {
    return { name, ok: false, text: describe(error) };
  }
}

/** Stops at the first thing without which the rest cannot be asked. */
async function checkInstallation(options: InstallationOptions, context: CommandContext): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  try {
    const { admin, ready } = await findInstallation(options, context);
    // What keeps it from answering at all is told in better words by the call below.
    const probed = await admin.probe().catch(() => undefined);
    const aheadMs = probed?.clockAheadMs ?? 0;
    if (probed !== undefined) findings.push(judgeStore(probed), judgeClock(aheadMs), ...(await checkOperations(ready)));
    if (probed?.ready === false) return findings;
    await admin.call("SessionService/List", {});
    findings.unshift({ name: "admin API", ok: true, text: "answers, and accepts the token" });
    // Certificates are judged by the control plane's clock: ours may be the one that is off.
    const nowMs = Date.now() - aheadMs;
    findings.push(judgeAuthorities(rowsOf(await admin.call("AuthorityService/List", {}), "authorities"), nowMs));
    findings.push(...judgeNodes(await listNodes(admin), nowMs));
  } catch (error) {
    findings.push({ name: "admin API", ok: false, text: describe(error) });
  }
  return findings;
}

function judgeStore({ ready }: Readiness): Finding {
  if (ready) return { name: "store", ok: true, text: "answers" };
  const text = "does not answer the control plane: does its PostgreSQL run, and may the control plane log in?";
  return { name: "store", ok: false, text };
}

/** What the process says of all it needs, NATS among it, where its configuration has `operations`. */
async function checkOperations(ready: ReadyFile | undefined): Promise<readonly Finding[]> {
  const address = ready?.operations;
  if (address === undefined) return [];
  const name = "readiness";
  let answer: Readiness;
  try {
    answer = await probe(new URL(`http://${address}/readyz`));
  } catch {
    return [{ name, ok: false, text: `${address} does not answer: is operations.listen reachable from here?` }];
  }
  if (answer.ready) return [{ name, ok: true, text: "the control plane has all it needs" }];
  return answer.reasons.map((reason) => ({ name, ok: false, text: visible(reason) }));
}

/** Looks again when it saw a moment of change. */
async function listNodes(admin: AdminClient): Promise<ReturnType<typeof rowsOf>> {
  const nodes = rowsOf(await admin.call("NodeService/List", {}), "nodes");
  if (!mayPass(nodes)) return nodes;
  await delay(SECOND_LOOK_MS);
  return rowsOf(await admin.call("NodeService/List", {}), "nodes");
}

async function checkPsql(context: CommandContext): Promise<Finding> {
  const found = await findProgram("psql", context);
  return { name: "psql", ok: true, text: found ?? "not installed; `sluice psql` uses its built-in client" };
}

function rowsOf(answer: unknown, field: string): readonly Readonly<Record<string, unknown>>[] {
  const rows = isRecord(answer) ? answer[field] : undefined;
  return Array.isArray(rows) ? rows.filter(isRecord) : [];
}

function describe(error: unknown): string {
  if (!(error instanceof GatewayError) && !(error instanceof AdminError)) return "failed for an unexpected reason";
  return error.hint === undefined ? error.message : `${error.message} ${error.hint}`;
}
