/** Loaded before a process of its own (`--import`): its wall clock is off by so many milliseconds. Monotonic time is as ever. */

const offMs = Number(process.env["TEST_CLOCK_OFF_MS"] ?? "0");
const RealDate = Date;

class OffDate extends RealDate {
  constructor(...parts: readonly unknown[]) {
    // Without an argument it is now; everything else means what it always does.
    if (parts.length === 0) super(OffDate.now());
    else super(...(parts as [number]));
  }

  static override now(): number {
    return RealDate.now() + offMs;
  }
}

globalThis.Date = OffDate as DateConstructor; // nobody calls it without `new`
