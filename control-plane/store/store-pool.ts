/**
 * The store's connections as Kysely takes them. One that did not answer in time is never used again, nor is any that is as old: when a
 * firewall or a server that lost its power has forgotten one connection, it has forgotten all, and none of them says so by itself.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { PostgresPool, PostgresPoolClient, PostgresQueryResult } from "kysely";
import { DatabaseError, type Pool, type PoolClient } from "pg";

export function guardedPool(pool: Pool): PostgresPool {
  /** Monotonic; connections that began before are not trusted. */
  let trustedSinceMs = Number.NEGATIVE_INFINITY;
  const begunMs = new WeakMap<PoolClient, number>();
  pool.on("connect", (client) => void begunMs.set(client, performance.now()));

  const guard = (client: PoolClient): PostgresPoolClient => {
    let stuck = false;
    const query = async (text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<unknown>> => {
      // The end of a transaction behind a statement that hangs would only hang as well.
      if (stuck) throw away();
      const askedMs = performance.now();
      try {
        // Commands are the server's own words, of which Kysely knows those it asks for.
        return (await client.query(text, [...parameters])) as PostgresQueryResult<unknown>;
      } catch (error) {
        if (isUnanswered(error)) {
          stuck = true;
          trustedSinceMs = Math.max(trustedSinceMs, askedMs);
        }
        throw said(error);
      }
    };
    // Nothing reads by cursors here, which is the other thing that it may be asked.
    return { query: query as PostgresPoolClient["query"], release: (destroy) => client.release(stuck || destroy === true) };
  };

  return {
    options: pool.options,
    end: () => pool.end(),
    connect: async () => {
      for (;;) {
        const client = await pool.connect().catch((error: unknown) => {
          throw said(error);
        });
        if ((begunMs.get(client) ?? 0) > trustedSinceMs) return guard(client);
        client.release(true);
      }
    },
  };
}

/** pg says it by this sentence alone. A statement that the server itself ended has a code. */
function isUnanswered(error: unknown): boolean {
  return error instanceof Error && error.message === "Query read timeout";
}

/** What the server says of a statement stays as it is; that there is no server is said to whoever asked for something. */
function said(error: unknown): unknown {
  const goingAway = error instanceof DatabaseError && /^(57P|08)/.test(error.code ?? "");
  return error instanceof DatabaseError && !goingAway ? error : away(error);
}

function away(cause?: unknown): GatewayError {
  return new GatewayError("node_unreachable", "The control plane's store does not answer.", {
    cause,
    hint: "The control plane's log tells when it is back. Look before you repeat a change: it may have been made.",
  });
}
