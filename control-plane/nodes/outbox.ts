/**
 * What is on its way to one node. Bounded: of what only the latest counts (snapshot, directory, trust, heartbeat) only the latest
 * waits; commands wait in order up to a bound. A node that does not take anything for long is stuck, and its stream is ended.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Clock } from "@sluice/core/clock.ts";
import type { GatewayError } from "@sluice/core/errors.ts";
import type { WatchResponseSchema } from "@sluice/proto/sluice/control/v1/control_pb.ts";

export type Instruction = NonNullable<MessageInitShape<typeof WatchResponseSchema>["instruction"]>;
type LatestKind = "trust" | "snapshot" | "directory" | "heartbeat";

/** Trust goes before what is verified with it; what renews a lease goes after what it is for. */
const latestOrder: readonly LatestKind[] = ["trust", "snapshot", "directory", "heartbeat"];
/** Commands are rare: this many waiting ones are a node that takes nothing. */
const COMMANDS_MAX = 1_000;

export class Outbox {
  readonly #clock: Clock;
  readonly #latest = new Map<string, Instruction>();
  readonly #commands: Instruction[] = [];
  #wake: (() => void) | undefined;
  #waitingSinceMs: number | undefined;
  #ended: { readonly error: GatewayError | null } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** In order, none left out. False: there is no room, so the node is stuck. */
  command(instruction: Instruction): boolean {
    if (this.#commands.length >= COMMANDS_MAX) return false;
    this.#commands.push(instruction);
    this.#changed();
    return true;
  }

  /** Replaces what of this kind still waits. */
  latest(instruction: Instruction & { readonly case: LatestKind }): void {
    this.#latest.set(instruction.case, instruction);
    this.#changed();
  }

  /** For how long something has waited without the node taking anything; 0 when nothing waits. */
  stuckForMs(): number {
    return this.#waitingSinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#waitingSinceMs;
  }

  /** What waits is not sent any more. The first call counts. */
  end(error: GatewayError | null): void {
    this.#ended ??= { error };
    this.#wake?.();
  }

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** Everything in its order until `end`; throws what `end` was given. To be read once. */
  async *instructions(): AsyncGenerator<Instruction, void, undefined> {
    for (;;) {
      if (this.#ended !== undefined) {
        if (this.#ended.error !== null) throw this.#ended.error;
        return;
      }
      const next = this.#take();
      if (next !== undefined) {
        yield next;
        continue;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #take(): Instruction | undefined {
    const next = this.#commands.shift() ?? this.#takeLatest();
    const waits = this.#commands.length > 0 || this.#latest.size > 0;
    this.#waitingSinceMs = waits ? this.#clock.monotonicMs() : undefined;
    return next;
  }

  #takeLatest(): Instruction | undefined {
    for (const kind of latestOrder) {
      const instruction = this.#latest.get(kind);
      if (instruction !== undefined && this.#latest.delete(kind)) return instruction;
    }
    return undefined;
  }

  #changed(): void {
    this.#waitingSinceMs ??= this.#clock.monotonicMs();
    this.#wake?.();
  }
}
