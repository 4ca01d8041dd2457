/**
 * The ready file: where a running installation is found and the token that opens its admin API. It must never be readable by
 * others (mode 0600) and never be seen half written (written beside, then renamed).
 */
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";

export interface ReadyFile {
  /** `https://host:port` of the admin API. */
  readonly admin: string;
  readonly adminToken: string;
  /** PEM file of the CA that verifies `admin` and every listener under 127.0.0.1 and localhost. */
  readonly caFile: string;
  readonly listeners: readonly ReadyListener[];
  /** Issuer URL of the built-in development identity provider; absent when it is off. */
  readonly issuer?: string;
  /** `host:port` of health and metrics; absent when the configuration asks for none. */
  readonly operations?: string;
  /** The process to send SIGTERM to. */
  readonly pid: number;
}

export interface ReadyListener {
  readonly protocol: "postgres";
  /** `host:port` as callers connect to it. */
  readonly address: string;
}

/** Says how to get a running installation; part of every message about a missing one. */
export const startHint =
  "Start one with `npm start` (demo) or `npx --no-install sluice up --config FILE`, or name its ready file with --ready-file.";

/** Writes atomically with mode 0600, making the folder when it is missing. Throws what the file system throws. */
export async function writeReadyFile(file: string, ready: ReadyFile): Promise<void> {
  await writePrivateJson(file, { ...ready });
}

/** The same for whatever a plane says of itself. */
export async function writePrivateJson(file: string, ready: Readonly<Record<string, unknown>>): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  await rm(temporary, { force: true });
  const handle = await open(temporary, "wx", 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(ready, undefined, 2)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}

/** Reads and checks the shape. Throws GatewayError `not_found` when there is none, `config_invalid` when it is no ready file. */
export async function readReadyFile(file: string): Promise<ReadyFile> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    const denied = isNodeError(error) && (error.code === "EACCES" || error.code === "EPERM");
    throw new GatewayError(
      "not_found",
      denied ? `${file} may not be read by this user.` : `No Sluice is running here: ${file} does not exist.`,
      {
        hint: denied ? "It holds the admin token: use the account that started Sluice." : startHint,
        cause: error,
      },
    );
  }
  const ready = parseReadyFile(text);
  if (ready === undefined) {
    throw new GatewayError("config_invalid", `${file} is not a ready file of Sluice.`, { hint: startHint });
  }
  return ready;
}

/** True when the process that wrote the file still exists (it may belong to another user). */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isNodeError(error) && error.code === "EPERM";
  }
}

function parseReadyFile(text: string): ReadyFile | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { admin, adminToken, caFile, listeners, issuer, operations, pid } = value as Record<string, unknown>; // an object, checked above
  if (typeof admin !== "string" || typeof adminToken !== "string" || typeof caFile !== "string") return undefined;
  if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 0 || !Array.isArray(listeners)) return undefined;
  const parsed = listeners.map((entry) => parseListener(entry));
  if (parsed.some((entry) => entry === undefined)) return undefined;
  return {
    admin,
    adminToken,
    caFile,
    listeners: parsed.filter((entry) => entry !== undefined),
    ...(typeof issuer === "string" ? { issuer } : {}),
    ...(typeof operations === "string" ? { operations } : {}),
    pid,
  };
}

function parseListener(value: unknown): ReadyListener | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { protocol, address } = value as Record<string, unknown>; // an object, checked above
  return protocol === "postgres" && typeof address === "string" ? { protocol, address } : undefined;
}

function isNodeError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error;
}
