/** Time as an argument. Wall time is for records and token lifetimes, monotonic time for waits and leases. */
export interface Clock {
  /** Milliseconds since the Unix epoch. May jump. */
  nowMs(): number;
  /** Milliseconds from an arbitrary start. Never goes back. */
  monotonicMs(): number;
}
