/** What one check found. The sum of these is the last line of `npm test`. */
export interface CheckResult {
  readonly passed: number;
  readonly failed: number;
  /** What to show: reasons when something failed, one line at most otherwise. */
  readonly lines: readonly string[];
}

export interface Check {
  readonly name: string;
  readonly run: () => Promise<CheckResult>;
}

export function pass(...lines: readonly string[]): CheckResult {
  return { passed: 1, failed: 0, lines };
}

export function fail(...lines: readonly string[]): CheckResult {
  return { passed: 0, failed: 1, lines };
}
