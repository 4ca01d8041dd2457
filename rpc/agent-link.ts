/**
 * Between gateway and agent: open a target connection, cancel on it, read the catalog. The agent alone knows the secret;
 * nothing that crosses this interface holds one. A co-located agent is the same interface without a socket between.
 */
import type { Duplex } from "node:stream";
import type { SessionId } from "@sluice/core/ids.ts";
import type { ResourceSpec, TargetAccount } from "@sluice/core/snapshot.ts";
import type { WatchCatalogRequest } from "./catalog-watch.ts";
import type { EncodedCatalog } from "./encoded-catalog.ts";

export interface OpenTargetRequest {
  readonly resource: ResourceSpec;
  readonly database: string;
  readonly sessionId: SessionId;
  /** Which of the resource's credentials; `readOnly` uses the only one where there is no other. */
  readonly account: TargetAccount;
  /** Start-up parameters for the target (application_name, TimeZone …); never user or database. */
  readonly startup: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface ReadCatalogRequest {
  readonly resource: ResourceSpec;
  readonly database: string;
  readonly signal: AbortSignal;
}

/** What names mean to a session before its first statement, as the target itself says it. */
export interface SessionStart {
  /** The setting as the target prints it, e.g. `"$user", public`. */
  readonly searchPath: string;
  readonly currentUser: string;
  readonly sessionUser: string;
}

/** A target connection that is authenticated and ready for its first query. The holder owns `stream` and must destroy it. */
export interface TargetConnection {
  readonly stream: Duplex;
  /** What the target reported while starting up, in order (server_version, TimeZone …). */
  readonly parameters: readonly (readonly [name: string, value: string])[];
  /**
   * From now on `take` gets what comes instead of listeners for `data`, in memory that is written to again once it has returned; null:
   * listeners get it again. What the stream still holds goes to listeners first. Absent: there is no such way.
   */
  readonly lendTo?: (take: ((bytes: Buffer) => void) | null) => void;
  /** Absent: an older agent did not ask. Then nothing is known of what names mean. */
  readonly session?: SessionStart;
  /** Asks the target to cancel what runs on this connection; resolves when the request was delivered, never says whether it hit. */
  cancel(): Promise<void>;
  /**
   * Instead of destroying `stream`: the session ended in good order, outside a transaction, with every answer received, so the
   * connection may be used again after a reset. The stream must not be touched afterwards. Absent: it cannot be used again.
   */
  release?(): void;
}

/** Errors: GatewayError with target_unreachable, target_auth_failed, target_protocol, secret_unavailable, agent_unavailable or catalog_unavailable. */
export interface AgentLink {
  openTarget(request: OpenTargetRequest): Promise<TargetConnection>;
  /** The catalog as it travels, from a co-located agent too: who keeps catalogs unpacks it. */
  readCatalog(request: ReadCatalogRequest): Promise<EncodedCatalog>;
  /**
   * Says each time the database was looked at whether its structure has changed. Until the request's signal aborts, then it resolves;
   * rejects when it cannot be looked at any more. Absent: nobody looks.
   */
  watchCatalog?(request: WatchCatalogRequest): Promise<void>;
  close(): Promise<void>;
}
