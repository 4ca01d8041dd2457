/** Seeded violation: protocols must not import each other. */
import { quote } from "../mysql/quote.ts";

export const quoted: string = quote("a");
