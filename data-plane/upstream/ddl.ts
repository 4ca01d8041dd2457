/**
 * DDL across gateways, as sessions and catalogs see it: other gateways are told before a statement is sent, and say what their own
 * sessions are about. Implemented in `../peers/`; a gateway that is alone has none.
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";

/** What DDL is about: everything in one database of one resource's target. */
export interface DdlScope {
  readonly resource: string;
  readonly database: string;
}

export interface DdlAcrossGateways {
  /** Every other gateway that is known holds this session's mark. */
  announced(session: SessionId): boolean;
  /**
   * Resolves when every other gateway has said that it trusts what it knows of the database no more. Throws `ddl_unannounced` when one
   * does not say so in time. From the first call on the session must be ended by `end`.
   */
  announce(session: SessionId, scope: DdlScope): Promise<void>;
  /** The session's transaction is over, whatever came of it. Nothing happens when it announced nothing. */
  end(session: SessionId): void;
  /** Tells of the DDL of other gateways' sessions, first of what is open now. Returns how to stop. */
  follow(follower: DdlFollower): () => void;
  /** Called when another gateway cannot be kept from forgetting what it was told: that session must not commit. Returns how to stop. */
  onLost(listener: (session: SessionId, error: GatewayError) => void): () => void;
}

export interface DdlFollower {
  begin(mark: string, scope: DdlScope): void;
  end(mark: string): void;
}
