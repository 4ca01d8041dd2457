/** The authenticated caller. Everything here comes from the verified token alone, never from what a client says. */
export interface Principal {
  readonly subject: string;
  readonly issuer: string;
  readonly groups: readonly string[];
  /** From the token's `sluice_kind` claim; "user" when absent. */
  readonly kind: string;
  /** From the token's `sluice_owner` claim; empty when absent. */
  readonly owner: string;
  /** From the token's `sluice_task` claim; empty when absent. */
  readonly task: string;
  /** All claims of the token as JSON values (never the token itself). */
  readonly claims: Readonly<Record<string, unknown>>;
}
