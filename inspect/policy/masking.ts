/** The masking of one statement's results, for who edits rows. It is the masking that the decision on the same input was made with. */
import type { PrincipalMasking } from "./column-masks.ts";
import type { DecideInput } from "./input.ts";
import { matchStatement } from "./matching.ts";

export type { ColumnMask, PrincipalMasking, ValueMask } from "./column-masks.ts";

/** How results of this statement are masked for this principal. Never throws. */
export function maskingFor(input: DecideInput): PrincipalMasking {
  return matchStatement(input).masking;
}
