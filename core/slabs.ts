/**
 * Memory that bytes are copied into one behind the other, and that is used again once everybody has let go of it: a fresh buffer for
 * each piece makes V8 collect the whole heap several times a second under bulk reads. Whoever forgets to let go costs a slab, which is
 * then the collector's. It must never be used again while somebody may still read it, since the next bytes are somebody else's.
 */
export interface SlabsOptions {
  readonly slabBytes: number;
  /** Free slabs are kept up to this. */
  readonly keptBytesMax: number;
}

/** One piece of memory, counted by those who read it. */
export class Slab {
  readonly memory: Buffer;
  readonly #free: (slab: Slab) => void;
  /** Whoever fills it is the first. */
  #users = 1;

  constructor(memory: Buffer, free: (slab: Slab) => void) {
    this.memory = memory;
    this.#free = free;
  }

  /** Another one reads it. Only while it is held already. */
  hold(): void {
    this.#users += 1;
  }

  /** Once for each `hold`, by whoever will not look at it any more. */
  letGo(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#free(this);
  }

  /** Begins anew with a free one. */
  take(): void {
    this.#users = 1;
  }
}

export class Slabs {
  readonly #options: SlabsOptions;
  readonly #kept: Slab[] = [];
  #current: Slab | null = null;
  #used = 0;

  constructor(options: SlabsOptions) {
    this.#options = options;
  }

  /**
   * Makes room for `bytes`, which the caller writes before it calls again, at `start` of the slab's memory. The slab is held for whoever
   * asked. More than fits into a slab gets memory of its own.
   */
  room(bytes: number): { readonly slab: Slab; readonly start: number } {
    const { slabBytes } = this.#options;
    if (bytes > slabBytes) return { slab: new Slab(Buffer.allocUnsafeSlow(bytes), drop), start: 0 };
    let current = this.#current;
    if (current === null || slabBytes - this.#used < bytes) {
      current?.letGo();
      current = this.#next();
      this.#current = current;
      this.#used = 0;
    }
    const start = this.#used;
    this.#used += bytes;
    current.hold();
    return { slab: current, start };
  }

  #next(): Slab {
    const kept = this.#kept.pop();
    if (kept === undefined) return new Slab(Buffer.allocUnsafeSlow(this.#options.slabBytes), this.#free);
    kept.take();
    return kept;
  }

  readonly #free = (slab: Slab): void => {
    if ((this.#kept.length + 1) * this.#options.slabBytes <= this.#options.keptBytesMax) this.#kept.push(slab);
  };
}

function drop(): void {}
