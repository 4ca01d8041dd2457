/** Imported by a seeded violation. */
export function keep(): string {
  return "kept";
}
