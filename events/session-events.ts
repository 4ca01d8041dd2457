/**
 * What a session leaves behind, in order. `sequence` counts from 0 within a session without gaps, so that a reader can
 * deduplicate and notice what is missing. Payloads never hold more than was cleared for release.
 */
import type { SessionId } from "@sluice/core/ids.ts";

export type SessionRecord = {
  readonly sessionId: SessionId;
  readonly sequence: number;
  /** Wall time, milliseconds since the epoch. */
  readonly atMs: number;
} & SessionRecordBody;

export type SessionRecordBody =
  | { readonly kind: "opened"; readonly opened: SessionOpened }
  | { readonly kind: "statement"; readonly statement: StatementRecorded }
  /**
   * Exactly the bytes released to the caller, in the caller's protocol, from after authentication on. `finished`: statements that
   * ended with these bytes.
   */
  | { readonly kind: "released"; readonly bytes: Buffer; readonly finished?: readonly StatementFinished[] }
  | { readonly kind: "finished"; readonly finished: StatementFinished }
  | { readonly kind: "alert"; readonly alert: SessionAlert }
  | { readonly kind: "closed"; readonly closed: SessionClosed };

export interface SessionOpened {
  readonly resource: string;
  readonly database: string;
  readonly protocol: "postgres";
  readonly principal: {
    readonly subject: string;
    readonly issuer: string;
    readonly groups: readonly string[];
    readonly owner: string;
    readonly task: string;
  };
  readonly clientAddress: string;
  /** What the client says about itself; never used to allow. */
  readonly declared: Readonly<Record<string, string>>;
  readonly policyVersion: string;
  readonly recording: "strict" | "relaxed";
}

export interface StatementRecorded {
  /** Counts statements of the session from 1. */
  readonly number: number;
  readonly phase: "query" | "parse" | "execute";
  /**
   * Number of an earlier statement of the session that had the same text and, but for its id, the same decision. Then `text` is empty and
   * `decision` holds `id` and `effect`; `RepeatedStatements` puts them together.
   */
  readonly sameAs?: number;
  /** Exact text, except that literals which a detector recognises are replaced by their entity's name in brackets. */
  readonly text: string;
  /** Bound values as text, `null`, or a bracketed note where a value is withheld. */
  readonly parameters: readonly (string | null)[];
  /** The decision in its public JSON shape. */
  readonly decision: Readonly<Record<string, unknown>>;
}

export interface StatementFinished {
  /** The statement's `number`. */
  readonly number: number;
  readonly ok: boolean;
  /** Completion tag or error number; never an error text. */
  readonly tag: string;
  readonly rows: number;
}

export interface SessionAlert {
  readonly code: string;
  readonly message: string;
}

export interface SessionClosed {
  readonly code: string;
  readonly statements: number;
  readonly denied: number;
  readonly masked: number;
}
