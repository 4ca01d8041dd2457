/**
 * Opens an authenticated connection to a PostgreSQL server and cancels on one: the login machine over a real socket.
 * The password lives in this call alone. What the server says about a refusal goes to the log, never to the caller.
 */
import type { Socket } from "node:net";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { encodeMessage, int32 } from "@sluice/inspect/wire/postgres/frames.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import { type DialedTarget, type DialTarget, dialTarget, toDialError } from "./dial.ts";
import { type BackendKey, type LoginEffect, LoginMachine, type LoginOptions, type LoginResult } from "./login.ts";
import { nextChunk } from "./next-chunk.ts";
import type { ScramKeyCache } from "./scram-keys.ts";

export interface OpenPostgresRequest {
  readonly target: DialTarget;
  readonly database: string;
  readonly user: string;
  readonly password: string | undefined;
  readonly startup: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface OpenPostgresDependencies {
  readonly limits: Limits;
  readonly random: Random;
  readonly scramKeys: ScramKeyCache;
}

export interface PostgresConnection extends TargetConnection {
  readonly stream: Socket;
  /** Such as 150018; see `serverVersionOf`. */
  readonly serverVersion: number;
}

/** The oldest version whose catalog and messages this code was made for; older ones have been without fixes for years. */
const SERVER_VERSION_MIN = 140_000;
const CANCEL_REQUEST_CODE = 80_877_102;
/** RFC 5802 asks for enough that two logins never share one; libpq takes 18 bytes. */
const NONCE_BYTES = 18;

/**
 * Returns a connection that is ready for its first query: its stream is paused, has no listener, and starts with whatever the
 * server sent past ReadyForQuery. Throws GatewayError `target_unreachable`, `target_auth_failed`, `target_protocol`.
 */
export async function openPostgres(
  request: OpenPostgresRequest,
  dependencies: OpenPostgresDependencies,
): Promise<PostgresConnection> {
  const { limits, random } = dependencies;
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(limits.targetConnectTimeoutMs)]);
  const dialed = await dialTarget(request.target, signal);
  try {
    const login = await logIn(dialed, toLoginOptions(request, dialed, limits, random), dependencies.scramKeys, signal);
    const serverVersion = serverVersionOf(login.parameters);
    if (serverVersion < SERVER_VERSION_MIN) {
      throw new GatewayError("target_protocol", "The database's server is older than PostgreSQL 14, which Sluice cannot judge.", {
        hint: "Upgrade the server to a version that PostgreSQL's project still maintains.",
      });
    }
    if (login.rest.length > 0) dialed.socket.unshift(login.rest);
    dialed.release();
    return {
      stream: dialed.socket,
      parameters: login.parameters,
      ...(dialed.lendTo === undefined ? {} : { lendTo: dialed.lendTo }),
      serverVersion,
      cancel: () => cancelOn(request.target, dialed.address, login.backendKey, limits.targetCancelTimeoutMs),
    };
  } catch (error) {
    dialed.socket.destroy();
    throw toDialError(error);
  }
}

/** `15.18 (Debian …)` → 150018, `19beta1` → 190000; 0 when the server did not say. */
export function serverVersionOf(parameters: LoginResult["parameters"]): number {
  const text = parameters.find(([name]) => name === "server_version")?.[1] ?? "";
  const match = /^(\d{1,3})(?:\.(\d{1,3}))?/.exec(text);
  return match === null ? 0 : Number(match[1]) * 10_000 + Number(match[2] ?? 0);
}

function toLoginOptions(request: OpenPostgresRequest, dialed: DialedTarget, limits: Limits, random: Random): LoginOptions {
  return {
    user: request.user,
    database: request.database,
    password: request.password,
    startup: request.startup,
    wire: dialed.wire,
    nonce: Buffer.from(random.bytes(NONCE_BYTES)).toString("base64"),
    frameBytesMax: limits.targetLoginFrameBytesMax,
    scramIterationsMax: limits.scramIterationsMax,
  };
}

/** Drives the machine until it is ready. Leaves the socket paused and without listeners of its own, also when it throws. */
async function logIn(
  dialed: DialedTarget,
  options: LoginOptions,
  scramKeys: ScramKeyCache,
  signal: AbortSignal,
): Promise<LoginResult> {
  const { socket } = dialed;
  const machine = new LoginMachine(options);
  socket.write(machine.start());
  for (;;) {
    let effects = machine.receive(await nextChunk(socket, signal));
    while (effects.length > 0) {
      const outcome = await perform(effects, socket, scramKeys);
      if (outcome?.kind === "ready") return outcome.login;
      signal.throwIfAborted();
      effects = outcome === undefined ? [] : machine.keysDerived(outcome.keys);
    }
  }
}

type Outcome =
  | Extract<LoginEffect, { kind: "ready" }>
  | { readonly kind: "keys"; readonly keys: Awaited<ReturnType<ScramKeyCache["keysFor"]>> };

/** Effects in order; one that must be answered to the machine is always the last. */
async function perform(effects: readonly LoginEffect[], socket: Socket, keys: ScramKeyCache): Promise<Outcome | undefined> {
  for (const effect of effects) {
    switch (effect.kind) {
      case "send":
        socket.write(effect.bytes);
        break;
      case "deriveKeys":
        return { kind: "keys", keys: await keys.keysFor(effect.password, effect.challenge) };
      case "ready":
        return effect;
      default:
        assertNever(effect);
    }
  }
  return undefined;
}

/** Over a connection of its own, with the same TLS, to the address that answered before. Resolves when the server has closed it. */
async function cancelOn(target: DialTarget, address: string, key: BackendKey | undefined, timeoutMs: number): Promise<void> {
  if (key === undefined) {
    throw new GatewayError("target_protocol", "The database did not say how its statements can be cancelled.");
  }
  const signal = AbortSignal.timeout(timeoutMs);
  const dialed = await dialTarget(target, signal, address);
  try {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    dialed.socket.once("close", () => resolve());
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    dialed.socket.write(encodeMessage(null, [int32(CANCEL_REQUEST_CODE), int32(key.processId), key.secret]));
    dialed.socket.resume(); // so that the end is seen
    await promise;
  } catch (error) {
    throw toDialError(error);
  } finally {
    dialed.socket.destroy();
  }
}
