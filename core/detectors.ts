/** Names of the value detectors that come with Sluice. The patterns live in `inspect/dlp`; manifests refer to the names. */
export const builtinDetectors = ["CREDIT_CARD", "EMAIL_ADDRESS", "US_SSN"] as const;
export type BuiltinDetector = (typeof builtinDetectors)[number];

/** True when `name` is one of the detectors above; the case counts. */
export function isBuiltinDetector(name: string): name is BuiltinDetector {
  return builtinDetectors.some((known) => known === name);
}
