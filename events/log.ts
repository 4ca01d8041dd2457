/**
 * The log as events/ and recorder/ see it: a line is a sentence and a few plain fields, never data, texts of statements, tokens or
 * secrets. A pino logger fits as it is.
 */
export interface Log {
  info(fields: Readonly<Record<string, unknown>>, sentence: string): void;
  warn(fields: Readonly<Record<string, unknown>>, sentence: string): void;
  error(fields: Readonly<Record<string, unknown>>, sentence: string): void;
}
