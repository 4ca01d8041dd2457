/**
 * Runs one client program as one caller and judges each line that it prints: the feature must be known and what was seen must be what is
 * expected. Nothing of a protected value may stand in anything that a masked caller's program wrote.
 */
import { isDeepStrictEqual } from "node:util";
import { markersOf, planted } from "../support/orders-schema.ts";
import { runCommand } from "../support/sluice.ts";
import { expectedOf } from "./expected.ts";
import type { ClientGround, Role } from "./installation.ts";

export interface ReadyProgram {
  readonly command: string;
  readonly args: readonly string[];
  readonly directory: string;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface Outcome {
  readonly version: string;
  /** By feature: `ok`, or what was seen instead. */
  readonly features: Readonly<Record<string, string>>;
}

/** Where a program connects to when not straight to the gateway. */
export interface Door {
  readonly port: number;
  readonly caFile: string;
}

export async function runProgram(program: ReadyProgram, ground: ClientGround, role: Role, door?: Door): Promise<Outcome> {
  const { orders } = ground;
  const ran = await runCommand(program.command, program.args, program.directory, {
    TEST_PORT: String(door?.port ?? orders.sluice.port),
    TEST_CA: door?.caFile ?? orders.sluice.ready.caFile,
    TEST_WRONG_CA: ground.wrongCaFile,
    TEST_TOKEN: ground.token(role),
    TEST_DATABASE: "orders",
    ...program.environment,
  });
  return judge(ran.status, ran.stdout, ran.stderr, role);
}

/** What came of a program that has ended. */
export function judge(status: number, stdout: string, stderr: string, role: Role): Outcome {
  const expected = expectedOf(role);
  const features: Record<string, string> = {};
  let version = "";
  for (const line of stdout.split("\n").filter((each) => each.startsWith("{"))) {
    const told = JSON.parse(line) as { feature: string; value?: unknown; error?: string }; // printed by our own programs
    if (told.feature === "version") version = String(told.value);
    else if (!(told.feature in expected)) features[told.feature] = "nobody said what is expected";
    else if (told.error !== undefined) features[told.feature] = `failed: ${told.error}`;
    else if (isDeepStrictEqual(told.value, expected[told.feature])) features[told.feature] = "ok";
    else features[told.feature] = `saw ${JSON.stringify(told.value)}`;
  }
  if (status !== 0) features["end"] = `ended with status ${status}: ${stderr.trim().split("\n").slice(-3).join(" | ")}`;
  if (Object.keys(features).length === 0) features["end"] = "printed nothing";
  if (role === "masked" && markersOf(planted).some((marker) => stdout.includes(marker) || stderr.includes(marker)))
    features["secrets"] = "a protected value was printed";
  return { version, features };
}
