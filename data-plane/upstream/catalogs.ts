/**
 * The catalogs of all targets this gateway serves, with the labels that classifiers give their columns. One entry per resource
 * and database, shared by all sessions; read through the agent, refreshed by time, after DDL, and when the wire names a relation
 * that is not in it. While DDL is under way the entry is dirty: what it says may already be wrong.
 */
import type { Catalog } from "@sluice/core/catalog.ts";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { type ColumnLabels, labelColumns } from "@sluice/inspect/policy/labels.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import type { Logger } from "pino";
import type { Analyser } from "../analysis/analyser.ts";
import type { PolicyStore } from "../policy-watch/policy-store.ts";

export interface CatalogState {
  readonly catalog: Catalog;
  readonly labels: ColumnLabels;
  /** Relations by OID: what the wire's column origins are looked up in. */
  readonly relationKinds: ReadonlyMap<number, RelationKind>;
}

export type RelationKind = "base" | "view" | "system";

/** Two unknown OIDs in quick succession cause one refresh. Milliseconds. */
const REFRESH_PAUSE_MS = 250;

export class Catalogs {
  readonly #entries = new Map<string, CatalogEntry>();
  readonly #parts: CatalogParts;

  readonly #stopWatching: () => void;

  constructor(parts: CatalogParts) {
    this.#parts = parts;
    this.#stopWatching = parts.policies.onChange(() => this.#forgetGone());
  }

  /** The entry of a resource's database; the first call begins to read its catalog. */
  entry(resource: ResourceSpec, database: string): CatalogEntry {
    const key = JSON.stringify([resource.name, database, resource.target.host, resource.target.port]);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = new CatalogEntry(key, resource, database, this.#parts);
      this.#entries.set(key, entry);
    }
    return entry;
  }

  close(): void {
    this.#stopWatching();
    for (const entry of this.#entries.values()) entry.close();
  }

  /** What is not declared any more is not read any more: nobody may use that credential there. */
  #forgetGone(): void {
    for (const [key, entry] of this.#entries) {
      if (entry.declared !== undefined) continue;
      entry.close();
      this.#entries.delete(key);
    }
  }
}

export interface CatalogParts {
  readonly agentLink: AgentLink;
  readonly analyser: Analyser;
  readonly policies: PolicyStore;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
}

export class CatalogEntry {
  readonly key: string;
  readonly #resource: ResourceSpec;
  readonly #database: string;
  readonly #parts: CatalogParts;
  readonly #abort = new AbortController();
  readonly #ddlSessions = new Set<SessionId>();
  readonly #timer: NodeJS.Timeout;
  #state: CatalogState | undefined;
  #labelledFor: unknown;
  #reading: Promise<void> | undefined;
  #readAgain = false;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #staleSinceDdl = false;

  constructor(key: string, resource: ResourceSpec, database: string, parts: CatalogParts) {
    this.key = key;
    this.#resource = resource;
    this.#database = database;
    this.#parts = parts;
    this.#timer = setInterval(() => this.#refreshQuietly(), parts.limits.catalogRefreshMs);
    this.#timer.unref();
  }

  /** The resource as the policy in force declares it, with another credential perhaps; undefined when its name is gone or means another server. */
  get declared(): ResourceSpec | undefined {
    const now = this.#parts.policies.current.resources.get(this.#resource.name);
    const { host, port } = this.#resource.target;
    return now !== undefined && now.target.host === host && now.target.port === port ? now : undefined;
  }

  /** What is known now, labels by the policy in force; undefined before the first read, and while a refresh after DDL is under way. */
  get current(): CatalogState | undefined {
    const state = this.#state;
    if (state === undefined || (this.#staleSinceDdl && this.#ddlSessions.size === 0)) return undefined;
    const snapshot = this.#parts.policies.current.snapshot;
    if (this.#labelledFor === snapshot) return state;
    this.#labelledFor = snapshot;
    this.#state = stateOf(state.catalog, labelColumns(snapshot.classifiers, state.catalog));
    return this.#state;
  }

  /** DDL of some session is not yet committed and read: static knowledge may be wrong. */
  get dirty(): boolean {
    return this.#ddlSessions.size > 0 || this.#staleSinceDdl;
  }

  /** Resolves with the catalog, or throws `catalog_unavailable` (or the agent's own error) after `catalogWaitMs`. */
  async wait(): Promise<CatalogState> {
    const deadlineMs = this.#parts.clock.monotonicMs() + this.#parts.limits.catalogWaitMs;
    let failure: unknown;
    while (!this.#abort.signal.aborted) {
      const state = this.current;
      if (state !== undefined) return state;
      const remainingMs = deadlineMs - this.#parts.clock.monotonicMs();
      if (remainingMs <= 0) break;
      const round = this.refresh().catch((error: unknown) => {
        failure = error;
      });
      await Promise.race([round, sleep(remainingMs)]);
      if (this.current === undefined) await sleep(Math.min(REFRESH_PAUSE_MS, Math.max(remainingMs, 0)));
    }
    if (failure !== undefined)
      this.#parts.log.warn({ err: failure, resource: this.#resource.name }, "the catalog could not be read");
    throw new GatewayError(
      "catalog_unavailable",
      "The structure of this database could not be read in time, so the statement cannot be judged.",
      {
        cause: failure,
        hint: `Try again shortly. If it stays, ask the platform team whether the agent reaches the target (last error: ${toGatewayError(failure ?? new Error("none")).code}).`,
      },
    );
  }

  /** A session opens: its first statement should find the catalog on its way. */
  refreshIfAbsent(): void {
    if (this.#state === undefined) this.#refreshQuietly();
  }

  /** DDL of this session is about to be forwarded. */
  beginDdl(session: SessionId): void {
    this.#ddlSessions.add(session);
    this.#staleSinceDdl = true;
  }

  /** The session's transaction is over (or the session is): read the catalog again. */
  endDdl(session: SessionId): void {
    if (!this.#ddlSessions.delete(session)) return;
    this.#readAgain = true;
    this.#refreshQuietly();
  }

  /** The wire named a relation that is not in the catalog. */
  unknownRelation(): void {
    if (this.#parts.clock.monotonicMs() - this.#readAtMs > REFRESH_PAUSE_MS) this.#refreshQuietly();
  }

  /** Reads the catalog; overlapping calls share one read, a change meanwhile causes one more. */
  refresh(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#abort.abort();
  }

  #refreshQuietly(): void {
    this.refresh().catch((error: unknown) => {
      if (!this.#abort.signal.aborted)
        this.#parts.log.warn(
          { err: error, resource: this.#resource.name },
          "the catalog could not be read; the former one stays",
        );
    });
  }

  async #read(): Promise<void> {
    do {
      this.#readAgain = false;
      const openDdl = this.#ddlSessions.size;
      const resource = this.declared;
      if (resource === undefined) throw new GatewayError("resource_unknown", "The resource is not declared any more.");
      const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(this.#parts.limits.catalogReadTimeoutMs)]);
      const catalog = await this.#parts.agentLink.readCatalog({ resource, database: this.#database, signal });
      this.#parts.analyser.setCatalog(this.key, catalog);
      const snapshot = this.#parts.policies.current.snapshot;
      this.#labelledFor = snapshot;
      this.#state = stateOf(catalog, labelColumns(snapshot.classifiers, catalog));
      this.#readAtMs = this.#parts.clock.monotonicMs();
      if (openDdl === 0 && !this.#readAgain && this.#ddlSessions.size === 0) this.#staleSinceDdl = false;
    } while (this.#readAgain);
  }
}

/** A catalog with its labels, and what each OID is to the wire. */
export function stateOf(catalog: Catalog, labels: ColumnLabels): CatalogState {
  const relationKinds = new Map<number, RelationKind>();
  for (const relation of catalog.relations) {
    if (relation.system) relationKinds.set(relation.oid, "system");
    else if (relation.kind === "view" || relation.kind === "matview") relationKinds.set(relation.oid, "view");
    else relationKinds.set(relation.oid, "base");
  }
  return { catalog, labels, relationKinds };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
