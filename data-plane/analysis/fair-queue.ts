/**
 * What waits for the worker, by who asks: askers take turns, each has its own order and its own bound. Whoever sends a thousand texts
 * waits behind his own.
 */
export class FairQueue<Item> {
  readonly #byAsker = new Map<string, Item[]>();
  readonly #max: number;
  readonly #perAskerMax: number;
  readonly #free: string;
  #length = 0;

  /** `free`: an asker who takes turns as all do, but does not count. */
  constructor(max: number, perAskerMax: number, free: string) {
    this.#free = free;
    this.#max = max;
    this.#perAskerMax = perAskerMax;
  }

  /** Without what does not count. */
  get length(): number {
    return this.#length - (this.#byAsker.get(this.#free)?.length ?? 0);
  }

  /** Why one more of this asker may not wait; null: it may. */
  refusal(asker: string): "full" | "asker-full" | null {
    if (this.length >= this.#max) return "full";
    return (this.#byAsker.get(asker)?.length ?? 0) >= this.#perAskerMax ? "asker-full" : null;
  }

  push(asker: string, item: Item): void {
    const waiting = this.#byAsker.get(asker);
    if (waiting === undefined) this.#byAsker.set(asker, [item]);
    else waiting.push(item);
    this.#length += 1;
  }

  /** The one whose turn it is. It stays. */
  first(): Item | undefined {
    for (const [, [item]] of this.#byAsker) return item;
    return undefined;
  }

  /** Takes the one whose turn it is; its asker's next turn comes after everybody else's. */
  shift(): Item | undefined {
    for (const [asker, waiting] of this.#byAsker) {
      this.#byAsker.delete(asker);
      const item = waiting.shift();
      if (waiting.length > 0) this.#byAsker.set(asker, waiting);
      if (item !== undefined) this.#length -= 1;
      return item;
    }
    return undefined;
  }

  /** False: it does not wait here. */
  remove(asker: string, item: Item): boolean {
    const waiting = this.#byAsker.get(asker);
    const at = waiting?.indexOf(item) ?? -1;
    if (waiting === undefined || at < 0) return false;
    waiting.splice(at, 1);
    this.#length -= 1;
    if (waiting.length === 0) this.#byAsker.delete(asker);
    return true;
  }

  /** Takes all of them. */
  drain(): readonly Item[] {
    const all = [...this.#byAsker.values()].flat();
    this.#byAsker.clear();
    this.#length = 0;
    return all;
  }
}
