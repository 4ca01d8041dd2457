/** Seeded violation: the pure engine must not touch files. */
import { existsSync } from "node:fs";

export function quote(name: string): string {
  return existsSync(name) ? "" : `\`${name}\``;
}
