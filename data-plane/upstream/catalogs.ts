/**
 * The catalogs of all targets this gateway serves, with the labels that classifiers give their columns. One entry per resource
 * and database, shared by all sessions; read through the agent, refreshed by time, after DDL, and when the wire names a relation
 * that is not in it. While DDL is under way, here or on another gateway, the entry is dirty: what it says may already be wrong.
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
import type { DdlAcrossGateways, DdlScope } from "./ddl.ts";

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
  /** DDL that is under way, by its session here or its mark on another gateway. */
  readonly #marks = new Map<string, DdlScope>();
  readonly #stopWatching: () => void;
  readonly #stopFollowing: (() => void) | undefined;

  constructor(parts: CatalogParts) {
    this.#parts = parts;
    this.#stopWatching = parts.policies.onChange(() => this.#forgetGone());
    this.#stopFollowing = parts.ddl?.follow(this);
  }

  /** The entry of a resource's database; the first call begins to read its catalog. */
  entry(resource: ResourceSpec, database: string): CatalogEntry {
    const key = JSON.stringify([resource.name, database, resource.target.host, resource.target.port]);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = new CatalogEntry(key, resource, database, this.#parts, this);
      this.#entries.set(key, entry);
      for (const [mark, scope] of this.#marks) if (this.#concerns(scope, entry)) entry.mark(mark);
    }
    return entry;
  }

  /** DDL is under way: of a session here, or of another gateway's. The same more than once is the same. */
  begin(mark: string, scope: DdlScope): void {
    this.#marks.set(mark, scope);
    for (const entry of this.#entries.values()) if (this.#concerns(scope, entry)) entry.mark(mark);
  }

  /** It is over, whatever came of it. */
  end(mark: string): void {
    if (!this.#marks.delete(mark)) return;
    for (const entry of this.#entries.values()) entry.unmark(mark);
  }

  close(): void {
    this.#stopWatching();
    this.#stopFollowing?.();
    for (const entry of this.#entries.values()) entry.close();
  }

  /** One database may be declared as several resources. */
  #concerns({ resource, database }: DdlScope, entry: CatalogEntry): boolean {
    if (entry.scope.database !== database) return false;
    if (entry.scope.resource === resource) return true;
    const target = this.#parts.policies.current.resources.get(resource)?.target;
    return target !== undefined && target.host === entry.target.host && target.port === entry.target.port;
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
  /** Absent: this gateway is alone. */
  readonly ddl?: DdlAcrossGateways;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
}

export class CatalogEntry {
  readonly key: string;
  readonly #resource: ResourceSpec;
  readonly #database: string;
  readonly #parts: CatalogParts;
  readonly #all: Pick<Catalogs, "begin" | "end">;
  readonly #abort = new AbortController();
  /** DDL that is under way in this database. */
  readonly #marks = new Set<string>();
  readonly #timer: NodeJS.Timeout;
  #state: CatalogState | undefined;
  #labelledFor: unknown;
  #reading: Promise<void> | undefined;
  #readAgain = false;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #staleSinceDdl = false;
  #changes = 0;

  constructor(key: string, resource: ResourceSpec, database: string, parts: CatalogParts, all: Pick<Catalogs, "begin" | "end">) {
    this.key = key;
    this.#resource = resource;
    this.#database = database;
    this.#parts = parts;
    this.#all = all;
    this.#timer = setInterval(() => this.#refreshQuietly(), parts.limits.catalogRefreshMs);
    this.#timer.unref();
  }

  get scope(): DdlScope {
    return { resource: this.#resource.name, database: this.#database };
  }

  get target(): ResourceSpec["target"] {
    return this.#resource.target;
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
    if (state === undefined || (this.#staleSinceDdl && this.#marks.size === 0)) return undefined;
    const snapshot = this.#parts.policies.current.snapshot;
    if (this.#labelledFor === snapshot) return state;
    this.#labelledFor = snapshot;
    this.#state = stateOf(state.catalog, labelColumns(snapshot.classifiers, state.catalog));
    return this.#state;
  }

  /** DDL of some session is not yet committed and read: static knowledge may be wrong. */
  get dirty(): boolean {
    return this.#marks.size > 0 || this.#staleSinceDdl;
  }

  /** Counts DDL that has begun: what was judged before the last of it may run after it. */
  get changes(): number {
    return this.#changes;
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

  /** Every other gateway knows of this session's DDL. */
  announced(session: SessionId): boolean {
    return this.#parts.ddl?.announced(session) ?? true;
  }

  /** Before DDL is forwarded: tells every other gateway. Throws `ddl_unannounced`. To be followed by `endDdl`. */
  async announce(session: SessionId): Promise<void> {
    await this.#parts.ddl?.announce(session, this.scope);
  }

  /** DDL of this session is about to be forwarded. */
  beginDdl(session: SessionId): void {
    this.mark(session); // a session may have kept an entry that no new one would get
    this.#all.begin(session, this.scope);
  }

  /** The session's transaction is over (or the session is): read the catalog again. */
  endDdl(session: SessionId): void {
    this.#all.end(session);
    this.unmark(session);
    this.#parts.ddl?.end(session);
  }

  /** DDL is under way that concerns this database: until `unmark` and a read that began after it, nothing here is certain. */
  mark(mark: string): void {
    if (this.#marks.has(mark)) return;
    this.#marks.add(mark);
    this.#staleSinceDdl = true;
    this.#changes += 1;
  }

  unmark(mark: string): void {
    if (!this.#marks.delete(mark)) return;
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
      const openDdl = this.#marks.size;
      const resource = this.declared;
      if (resource === undefined) throw new GatewayError("resource_unknown", "The resource is not declared any more.");
      const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(this.#parts.limits.catalogReadTimeoutMs)]);
      const catalog = await this.#parts.agentLink.readCatalog({ resource, database: this.#database, signal });
      this.#parts.analyser.setCatalog(this.key, catalog);
      const snapshot = this.#parts.policies.current.snapshot;
      this.#labelledFor = snapshot;
      this.#state = stateOf(catalog, labelColumns(snapshot.classifiers, catalog));
      this.#readAtMs = this.#parts.clock.monotonicMs();
      if (openDdl === 0 && !this.#readAgain && this.#marks.size === 0) this.#staleSinceDdl = false;
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
