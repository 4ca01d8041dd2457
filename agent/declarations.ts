/**
 * The agent's own copy of what it may reach: resources as the control plane signed them for agents with its labels. Verified before
 * it is parsed, kept on disk so that a restart without the control plane goes on with it. Never goes back to an older one, and
 * never learns of a resource from anybody else.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { unpackBody, verifySignedContent } from "@sluice/rpc/signed-content.ts";
import type { Logger } from "pino";
import { replaceFile } from "./replace-file.ts";
import type { AgentResources } from "./tunnel/tunnel-context.ts";

export interface DeclarationsOptions {
  readonly identity: NodeIdentity;
  /** Where the last one is kept. */
  readonly file: string;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly log: Pick<Logger, "info" | "warn" | "error">;
  /** What became of one that was received; null: it is in force. */
  readonly verdict: (sequence: bigint, version: string, fault: GatewayError | null) => void;
  readonly changed: () => void;
}

export interface Declarations extends AgentResources {
  /** Takes a serialised SignedContent. What is not accepted is logged, and the former ones stay. */
  receive(signed: Uint8Array): void;
  /** Resolves with the first ones; rejects when the signal aborts before. */
  ready(signal?: AbortSignal): Promise<void>;
  /** Resolves when what was accepted is on disk. */
  close(): Promise<void>;
}

/** Takes up what the last run has kept, where it still verifies. */
export async function openDeclarations(options: DeclarationsOptions): Promise<Declarations> {
  await mkdir(dirname(options.file), { recursive: true, mode: 0o700 });
  return new KeptDeclarations(options, await readFile(options.file).catch(() => null));
}

/** Before the signed bytes in the file: the sequence below which nothing is taken, even when the bytes do not verify any more. */
const FLOOR_BYTES = 8;

class KeptDeclarations implements Declarations {
  readonly #options: DeclarationsOptions;
  readonly #ready = Promise.withResolvers<void>();
  #floor = 0n;
  #sequence = 0n;
  #digest = "";
  #resources: ReadonlyMap<string, ResourceSpec> = new Map();
  #pending: Buffer | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: DeclarationsOptions, kept: Buffer | null) {
    this.#options = options;
    if (kept === null || kept.length <= FLOOR_BYTES) return;
    this.#floor = kept.readBigUInt64BE(0);
    try {
      this.#accept(kept.subarray(FLOOR_BYTES));
    } catch (error) {
      options.log.warn({ reason: toGatewayError(error).message }, "what was kept of the agent's resources is not used");
    }
  }

  get sequence(): bigint {
    return this.#sequence;
  }

  find(name: string): ResourceSpec | undefined {
    return this.#resources.get(name);
  }

  receive(signed: Uint8Array): void {
    const { log, verdict, changed } = this.#options;
    try {
      const digest = createHash("sha256").update(signed).digest("hex");
      const { sequence, version } = this.#accept(signed);
      if (digest === this.#digest) {
        // Each replica sends it.
        verdict(sequence, version, null);
        return;
      }
      this.#digest = digest;
      this.#keep(signed);
      log.info({ sequence: String(sequence), version, resources: this.#resources.size }, "resources received");
      verdict(sequence, version, null);
      changed();
    } catch (thrown) {
      const error = toGatewayError(thrown);
      log.error({ code: error.code, reason: error.message, inForce: String(this.#sequence) }, "resources not taken");
      if (thrown instanceof Refused) verdict(thrown.sequence, thrown.version, error);
    }
  }

  async ready(signal?: AbortSignal): Promise<void> {
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    try {
      await Promise.race([this.#ready.promise, aborted]);
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async close(): Promise<void> {
    await this.#writing;
  }

  #accept(signed: Uint8Array): { readonly sequence: bigint; readonly version: string } {
    const { identity, clock, limits, log } = this.#options;
    const { sequence, version, body } = verifySignedContent(signed, identity, clock.nowMs(), "agent");
    if (sequence < this.#floor) {
      // A replica that is behind says nothing of the newest: no verdict.
      throw new GatewayError("unauthorized", `Resources of sequence ${sequence} are older than those known, ${this.#floor}.`);
    }
    let resources: readonly ResourceSpec[];
    try {
      resources = parseResources(unpackBody(body, limits.snapshotBytesMax), (name) =>
        log.warn({ resource: name }, "a resource is of a kind that this agent does not know; it is left out"),
      );
    } catch (error) {
      throw new Refused(toGatewayError(error), sequence, version);
    }
    this.#floor = sequence;
    this.#sequence = sequence;
    this.#resources = new Map(resources.map((resource) => [resource.name, resource]));
    this.#ready.resolve();
    return { sequence, version };
  }

  /** In the background; the latest wins. */
  #keep(signed: Uint8Array): void {
    const floor = Buffer.alloc(FLOOR_BYTES);
    floor.writeBigUInt64BE(this.#floor);
    const first = this.#pending === undefined;
    this.#pending = Buffer.concat([floor, signed]);
    if (first) this.#writing = this.#writing.then(() => this.#write());
  }

  async #write(): Promise<void> {
    const bytes = this.#pending;
    this.#pending = undefined;
    if (bytes === undefined) return;
    const { file, log } = this.#options;
    try {
      await replaceFile(file, bytes);
    } catch (error) {
      log.error({ err: error }, "the agent's resources could not be kept on disk; a restart would not find them");
    }
  }
}

/** Signed, but not usable here: the control plane is told. */
class Refused extends GatewayError {
  readonly sequence: bigint;
  readonly version: string;

  constructor(error: GatewayError, sequence: bigint, version: string) {
    super(error.code, error.message, { cause: error });
    this.sequence = sequence;
    this.version = version;
  }
}

/**
 * The resources that this version can open; what a newer control plane adds to one is passed over, a protocol that is not known
 * here leaves the resource out. Throws `incompatible` when it is no list of resources.
 */
function parseResources(text: string, skipped: (name: string) => void): readonly ResourceSpec[] {
  const { resources } = objectOf(parseJson(text));
  if (!Array.isArray(resources)) throw unreadable();
  const known: ResourceSpec[] = [];
  for (const value of resources as readonly unknown[]) {
    const resource = objectOf(value);
    const name = resource["name"];
    if (typeof name !== "string") throw unreadable();
    if (resource["protocol"] === "postgres" && isUsable(resource))
      known.push(resource as unknown as ResourceSpec); // checked right here
    else skipped(name);
  }
  return known;
}

/** All that is needed to open it. */
function isUsable({ labels, target, credential, agents = {} }: Readonly<Record<string, unknown>>): boolean {
  if (!isObject(labels) || !isObject(target) || !isObject(credential) || !isObject(agents)) return false;
  const { host, port, database, databases, tls } = target;
  return (
    [host, database].every((text) => typeof text === "string") &&
    typeof port === "number" &&
    Array.isArray(databases) &&
    isObject(tls) &&
    typeof tls["mode"] === "string" &&
    ["disable", "require", "verify-ca", "verify-full"].includes(tls["mode"]) &&
    isObject(credential["username"])
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreadable(cause);
  }
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  if (isObject(value)) return value;
  throw unreadable();
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unreadable(cause?: unknown): GatewayError {
  return new GatewayError("incompatible", "What the control plane signed is no list of resources.", { cause });
}
