/** Clients that are no libraries: psql, pg_dump, pgbench, tools that read catalogs, a pooler on either side of the gateway. */
import { catalogQueries } from "./catalog-queries.ts";
import type { ClientGround, Role } from "./installation.ts";
import { dumps, measures } from "./debian-tools.ts";
import { poolerBefore, poolerBehind } from "./poolers.ts";
import { psqlSession } from "./psql-session.ts";
import type { Outcome } from "./run-program.ts";

export interface ClientTool {
  readonly name: string;
  readonly from: string;
  readonly run: (ground: ClientGround, role: Role) => Promise<Outcome>;
}

export const clientTools: readonly ClientTool[] = [
  { name: "psql", from: "Debian", run: psqlSession },
  { name: "catalog tools", from: "own queries", run: catalogQueries },
  { name: "pg_dump", from: "Debian", run: dumps },
  { name: "pgbench", from: "Debian", run: measures },
  { name: "PgBouncer before the gateway", from: "Debian", run: poolerBefore },
  { name: "PgBouncer behind the gateway", from: "Debian", run: poolerBehind },
];
