/** Seeded violation: core must know nobody. */
export { reach } from "../agent/reach.ts";
