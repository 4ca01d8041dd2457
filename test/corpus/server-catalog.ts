/**
 * The catalog of a database while scripts change it, read with the agent's own code whenever its own probe says that something is
 * different. Must never give a catalog older than what was committed before the question.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import { readPostgresCatalog } from "@sluice/agent/catalog/postgres.ts";
import { probeQuery } from "@sluice/agent/catalog/watch-queries.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { type CatalogIndex, indexCatalog } from "@sluice/inspect/sql/catalog-index.ts";
import { parseSync } from "libpg-query";
import { openConnection, ServerSession, type SessionAddress } from "./server-session.ts";

const READ_TIMEOUT_MS = 30_000;

export class ServerCatalog {
  readonly #address: SessionAddress;
  readonly #probe: ServerSession;
  #fingerprint = "";
  #index: CatalogIndex | undefined;
  #views: readonly CatalogRelation[] = [];
  reads = 0;
  probes = 0;

  private constructor(address: SessionAddress, probe: ServerSession) {
    this.#address = address;
    this.#probe = probe;
  }

  static async open(address: SessionAddress): Promise<ServerCatalog> {
    const probe = await ServerSession.open(address);
    await probe.run("SET search_path = ''; SET jit = off");
    return new ServerCatalog(address, probe);
  }

  /** As it is now; the same object as before where nothing has changed. */
  async current(): Promise<CatalogIndex> {
    this.probes += 1;
    const { rows } = await this.#probe.run(probeQuery, undefined, true);
    const fingerprint = rows[0]?.[0] ?? "";
    if (this.#index !== undefined && fingerprint === this.#fingerprint) return this.#index;
    const signal = AbortSignal.timeout(READ_TIMEOUT_MS);
    const catalog = await readPostgresCatalog(await openConnection(this.#address, signal), defaultLimits, signal);
    this.reads += 1;
    this.#fingerprint = fingerprint;
    this.#index = indexCatalog(catalog, parseSync);
    this.#views = catalog.relations.filter(({ kind, system, schema }) => views.has(kind) && !system && schema !== "pg_temp");
    return this.#index;
  }

  /** Views of the catalog that was read last. */
  get views(): readonly CatalogRelation[] {
    return this.#views;
  }

  close(): void {
    this.#probe.close();
  }
}

const views: ReadonlySet<string> = new Set(["view", "matview"]);
