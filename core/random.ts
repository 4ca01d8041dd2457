/** Randomness as an argument, so that the pure parts stay pure and tests can seed it. */
export interface Random {
  /** Returns `count` cryptographically strong bytes. */
  bytes(count: number): Uint8Array;
}
