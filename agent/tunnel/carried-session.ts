/**
 * One session that an agent carries for a gateway, from its bound connection to its end: opens the target, answers, lets the bytes
 * flow, and at the end keeps the target's connection for another session or closes it. The gateway is told codes and sentences,
 * never what the target or a secret's source said.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { parseSessionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec, TargetAccount } from "@sluice/core/snapshot.ts";
import { SessionAnswerSchema } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import type { AgentLink, TargetConnection } from "@sluice/rpc/agent-link.ts";
import { toFault } from "@sluice/rpc/fault.ts";
import { encodeSessionFrame } from "@sluice/rpc/session-frames.ts";
import { pump, type PumpEnd } from "./pump.ts";
import type { DialedGateway } from "./session-dialer.ts";
import type { AnnouncedOpen } from "./tickets.ts";

export interface CarriedSessionOptions {
  readonly dialed: DialedGateway;
  readonly open: AnnouncedOpen;
  /** The agent's own declaration. */
  readonly resource: ResourceSpec;
  readonly agentLink: AgentLink;
  readonly limits: Limits;
  /** Whether the gateway sends Release at all. */
  readonly releases: boolean;
}

/** The announcement that a session ended in good order travels on another connection than the end itself. */
const RELEASE_WAIT_MS = 1_000;
/** Last words to a gateway that does not read. */
const GOODBYE_MS = 10_000;
const STARTUP_PARAMETERS_MAX = 128;

export class CarriedSession {
  readonly #options: CarriedSessionOptions;
  readonly #released = Promise.withResolvers<void>();
  #target: TargetConnection | undefined;

  constructor(options: CarriedSessionOptions) {
    this.#options = options;
  }

  /** Its name. */
  get resource(): string {
    return this.#options.resource.name;
  }

  /** Answers the gateway. Throws GatewayError when the target was not opened; the gateway has been told then. `signal`: it has gone. */
  async open(signal: AbortSignal): Promise<void> {
    const { dialed, open, resource, agentLink } = this.#options;
    const { socket } = dialed;
    try {
      const { sessionId, account, startup } = checkedOpen(open, this.#options.limits);
      const target = await agentLink.openTarget({ resource, database: open.database, sessionId, account, startup, signal });
      this.#target = target;
      if (signal.aborted || socket.destroyed) {
        target.stream.destroy();
        throw new GatewayError("agent_unavailable", "The gateway gave the session up while it was being opened.");
      }
      const parameters = target.parameters.map(([name, value]) => ({ name, value }));
      const session = target.session === undefined ? {} : { session: target.session };
      answer(dialed, { outcome: { case: "opened", value: { parameters, ...session } } });
    } catch (error) {
      if (!socket.destroyed) refuse(dialed, error);
      throw error;
    }
  }

  /** Resolves when the session is over and both connections are closed or handed back. */
  async carry(): Promise<PumpEnd | "released"> {
    const { socket } = this.#options.dialed;
    const target = this.#target;
    if (target === undefined) throw new Error("the target was not opened");
    const end = await pump(socket, target.stream);
    if (end === "gatewayEnded" && (await this.#mayRelease(target))) {
      target.release?.();
      say(this.#options.dialed);
      return "released";
    }
    target.stream.on("error", ignore).destroy();
    say(this.#options.dialed);
    return end;
  }

  /** Asks the target to cancel; a session that has ended in the meantime is not a fault. */
  async cancel(): Promise<void> {
    await this.#target?.cancel();
  }

  release(): void {
    this.#released.resolve();
  }

  destroy(): void {
    this.#options.dialed.socket.destroy();
    this.#target?.stream.destroy();
  }

  async #mayRelease(target: TargetConnection): Promise<boolean> {
    if (target.release === undefined || !this.#options.releases) return false;
    const { promise: late, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), RELEASE_WAIT_MS);
    const broken = (): void => resolve(false);
    target.stream.on("error", broken).on("close", broken);
    try {
      return await Promise.race([this.#released.promise.then(() => !target.stream.destroyed), late]);
    } finally {
      clearTimeout(timer);
      target.stream.off("error", broken).off("close", broken);
    }
  }
}

/** Tells the gateway why there is no session, and closes. */
export function refuse(dialed: DialedGateway, thrown: unknown): void {
  answer(dialed, { outcome: { case: "fault", value: toFault(toGatewayError(thrown)) } });
  say(dialed);
}

function answer({ socket }: DialedGateway, value: MessageInitShape<typeof SessionAnswerSchema>): void {
  socket.write(encodeSessionFrame(SessionAnswerSchema, create(SessionAnswerSchema, value)));
}

/** What was written goes out, within a bound; then the connection is gone. */
function say({ socket }: DialedGateway): void {
  if (socket.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), GOODBYE_MS);
  socket.once("close", () => clearTimeout(timer));
  socket.resume();
  socket.destroySoon();
}

/** The gateway is another process: what it says of a session is looked at. Throws `protocol_violation`. */
function checkedOpen(
  { sessionId: sessionText, account, startup }: AnnouncedOpen,
  limits: Limits,
): Pick<Parameters<AgentLink["openTarget"]>[0], "sessionId" | "account" | "startup"> {
  const sessionId = parseSessionId(sessionText);
  const parameters = Object.entries(startup);
  const bytes = parameters.reduce((sum, pair) => sum + Buffer.byteLength(pair.join("  ")), 0);
  if (
    sessionId === undefined ||
    !isAccount(account) ||
    parameters.length > STARTUP_PARAMETERS_MAX ||
    bytes > limits.startupBytesMax
  ) {
    throw new GatewayError("protocol_violation", "The gateway asked for a session in a way that is not understood.");
  }
  return { sessionId, account, startup };
}

function isAccount(text: string): text is TargetAccount {
  return text === "readOnly" || text === "readWrite";
}

function ignore(): void {}
