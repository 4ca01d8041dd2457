/** Seeded violation: planes must not import each other. */
import { keep } from "../recorder/keep.ts";

export function reach(): string {
  return keep();
}
