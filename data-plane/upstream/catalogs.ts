/**
 * What this gateway knows of its targets' catalogs: which one is in force and the labels that classifiers give its columns; the
 * catalogs themselves are the analysis worker's. One entry per resource and database, shared by all sessions; read through the agent, refreshed by time, after DDL, and when the wire names a relation
 * that is not in it. While DDL is under way, here or on another gateway, the entry is dirty: what it says may already be wrong.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { type ColumnLabels, columnLabels } from "@sluice/inspect/policy/labels.ts";
import type { LabelRules } from "@sluice/inspect/policy/label-rules.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import type { BindingsSink } from "@sluice/rpc/bindings.ts";
import type { EncodedCatalog } from "@sluice/rpc/encoded-catalog.ts";
import type { Logger } from "pino";
import type { Analyser } from "../analysis/analyser.ts";
import type { CatalogFacts, CatalogHead } from "../analysis/catalog-facts.ts";
import type { PolicyStore } from "../policy-watch/policy-store.ts";
import { CatalogWatch } from "./catalog-watch.ts";
import { BoundColumns } from "./column-bindings.ts";
import type { DdlAcrossGateways, DdlScope } from "./ddl.ts";

export interface CatalogState {
  readonly catalog: CatalogHead;
  readonly labels: ColumnLabels;
  /** Relations by OID: what the wire's column origins are looked up in. */
  readonly relationKinds: { get(oid: number): RelationKind | undefined };
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
  readonly #bindings: BoundColumns;
  #made = 0;

  constructor(parts: CatalogParts) {
    this.#parts = parts;
    this.#bindings = new BoundColumns({ ...parts, sink: parts.bindings ?? { report: () => undefined } });
    this.#stopWatching = parts.policies.onChange(() => this.#forgetGone());
    this.#stopFollowing = parts.ddl?.follow(this);
  }

  /** The entry of a resource's database; the first call begins to read its catalog. */
  entry(resource: ResourceSpec, database: string): CatalogEntry {
    const key = JSON.stringify([resource.name, database, resource.target.host, resource.target.port]);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      // A key of its own: what a former entry of the same name still has under way is not this one's.
      entry = new CatalogEntry(`${key}${(this.#made += 1)}`, resource, database, { ...this.#parts, bound: this.#bindings }, this);
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

  /** Columns that are labelled here and that the control plane has not published yet. */
  get bindingsPending(): number {
    return this.#bindings.pending;
  }

  /** How long ago each database's structure was last known to be what is in force here. Seconds. */
  ages(): Iterable<readonly [resource: string, seconds: number]> {
    const ages = new Map<string, number>();
    for (const { scope, ageMs } of this.#entries.values())
      ages.set(scope.resource, Math.max(ages.get(scope.resource) ?? 0, ageMs / 1_000));
    return ages;
  }

  close(): void {
    this.#bindings.close();
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
  /** Who is told of columns that keep their label. Absent: nobody; they are remembered here alone. */
  readonly bindings?: BindingsSink;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
}

type EntryParts = CatalogParts & { readonly bound: BoundColumns };

export class CatalogEntry {
  readonly key: string;
  readonly #resource: ResourceSpec;
  readonly #database: string;
  readonly #parts: EntryParts;
  readonly #watch: CatalogWatch;
  readonly #all: Pick<Catalogs, "begin" | "end">;
  readonly #abort = new AbortController();
  /** DDL that is under way in this database. */
  readonly #marks = new Set<string>();
  readonly #timer: NodeJS.Timeout;
  #state: CatalogState | undefined;
  /** Digest of what was read last, and the rules that `#state` was labelled by. */
  #digest: string | undefined;
  #labelledBy: string | undefined;
  /** The published bindings that `#state` was labelled by. */
  #boundBy: string | undefined;
  #labelling: Promise<void> | undefined;
  #reading: Promise<void> | undefined;
  #readAgain = false;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #staleSinceDdl = false;
  #changes = 0;

  constructor(key: string, resource: ResourceSpec, database: string, parts: EntryParts, all: Pick<Catalogs, "begin" | "end">) {
    this.key = key;
    this.#resource = resource;
    this.#database = database;
    this.#parts = parts;
    this.#all = all;
    this.#timer = setInterval(() => this.#refreshInTime(), parts.limits.catalogRefreshMs);
    this.#timer.unref();
    const { agentLink } = parts;
    this.#watch = new CatalogWatch({
      ...parts,
      watch: "watchCatalog" in agentLink ? async (request) => await agentLink.watchCatalog?.(request) : undefined,
      resource: () => this.declared,
      database,
      began: () => this.#refreshQuietly(),
      changed: () => this.changedElsewhere(),
    });
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

  /** What is known now, labels by the policy in force; undefined before the first read, while a refresh after DDL or new labels are under way. */
  get current(): CatalogState | undefined {
    const state = this.#state;
    if (state === undefined || (this.#staleSinceDdl && this.#marks.size === 0)) return undefined;
    if (this.#labelledBy === labelRulesOf(this.#parts.policies.current.snapshot).key) {
      // What is bound elsewhere is labelled here by its name already, or was never seen here: nobody needs to wait.
      if (this.#boundBy !== this.#parts.bound.version(this.scope)) this.#labelQuietly();
      return state;
    }
    this.#labelQuietly();
    return undefined;
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
      const round = (this.#labelling ?? this.refresh()).catch((error: unknown) => {
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

  /** The structure was changed past every gateway: nothing here is certain until it is read. */
  changedElsewhere(): void {
    const mark = "changed elsewhere";
    this.mark(mark);
    this.unmark(mark);
  }

  /** How long ago what is in force here was known to be so; Infinity before the first read. */
  get ageMs(): number {
    const knownMs = this.dirty
      ? this.#readAtMs
      : Math.max(this.#readAtMs, this.#watch.standing?.atMs ?? Number.NEGATIVE_INFINITY);
    return this.#parts.clock.monotonicMs() - knownMs;
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
    this.#watch.close();
    this.#abort.abort();
    this.#parts.analyser.forgetCatalog(this.key);
  }

  /** A database that is watched needs no reading while nothing changes, but for what no look shows. */
  #refreshInTime(): void {
    const { clock, limits } = this.#parts;
    const isRecent = clock.monotonicMs() - this.#readAtMs < limits.catalogWatchedRefreshMs;
    if (isRecent && !this.dirty && this.#watch.standing !== undefined) return;
    this.#refreshQuietly();
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
      await this.#take(await this.#parts.agentLink.readCatalog({ resource, database: this.#database, signal }));
      this.#readAtMs = this.#parts.clock.monotonicMs();
      if (openDdl === 0 && !this.#readAgain && this.#marks.size === 0) this.#staleSinceDdl = false;
    } while (this.#readAgain);
  }

  /** Has the worker keep what was read; nothing is done for what it has already. */
  async #take(encoded: EncodedCatalog): Promise<void> {
    const { analyser } = this.#parts;
    const { key, boundBy, rules } = await this.#rules();
    const isLabelled = this.#labelledBy === key && this.#boundBy === boundBy;
    if (this.#digest === encoded.digest && isLabelled && analyser.hasCatalog(this.key)) return;
    const facts = await analyser.loadCatalog(this.key, { encoded, protocol: this.#resource.protocol, rules });
    if (this.#abort.signal.aborted) {
      analyser.forgetCatalog(this.key);
      this.#abort.signal.throwIfAborted();
    }
    this.#digest = encoded.digest;
    this.#put(facts, key, boundBy);
  }

  /** What columns are labelled by now: what the classifiers say, and every column that was labelled before. */
  async #rules(): Promise<{ readonly key: string; readonly boundBy: string; readonly rules: LabelRules }> {
    const { bound, policies } = this.#parts;
    await bound.settled(this.scope);
    const { key, rules } = labelRulesOf(policies.current.snapshot);
    return { key, boundBy: bound.version(this.scope), rules: { ...rules, bindings: bound.of(this.scope) } };
  }

  #put({ head, labels: flat }: CatalogFacts, labelledBy: string, boundBy: string): void {
    const labels = columnLabels(flat);
    this.#labelledBy = labelledBy;
    this.#boundBy = boundBy;
    this.#state = stateOf(head, labels);
    this.#parts.bound.saw(this.scope, { labels, ...(head.databaseOid === undefined ? {} : { databaseOid: head.databaseOid }) });
  }

  /** The classifiers changed: until the worker has labelled again, nothing is judged. */
  #labelQuietly(): void {
    this.#labelling ??= this.#label()
      .catch((error: unknown) => {
        this.#digest = undefined; // the next read starts from nothing
        this.#refreshQuietly();
        this.#parts.log.warn(
          { err: error, resource: this.#resource.name },
          "the catalog could not be labelled; it is read again",
        );
      })
      .finally(() => {
        this.#labelling = undefined;
      });
  }

  async #label(): Promise<void> {
    const state = this.#state;
    if (state === undefined) return;
    const { key, boundBy, rules } = await this.#rules();
    const facts = await this.#parts.analyser.labelCatalog(this.key, state.catalog.epoch, rules);
    // A read may have brought another catalog, with labels of its own, meanwhile.
    if (this.#state === state) this.#put(facts, key, boundBy);
  }
}

/** What the gateway's thread knows of a catalog: nothing of it is looked through here. */
export function stateOf(catalog: CatalogHead, labels: ColumnLabels): CatalogState {
  return { catalog, labels, relationKinds: { get: (oid) => wireKind(labels.relationKind(oid)) } };
}

function wireKind(relation: ReturnType<ColumnLabels["relationKind"]>): RelationKind | undefined {
  if (relation === undefined) return undefined;
  if (relation.system) return "system";
  return relation.kind === "view" || relation.kind === "matview" ? "view" : "base";
}

/** What a policy says about labels, and a text that is the same for the same rules. */
function labelRulesOf(snapshot: Snapshot): { readonly key: string; readonly rules: LabelRules } {
  const known = labelRules.get(snapshot);
  if (known !== undefined) return known;
  const classifiers = snapshot.classifiers.map(({ name, entity, columns, columnNames }) => ({
    name,
    entity,
    columns,
    columnNames,
  }));
  const made = { key: JSON.stringify(classifiers), rules: { classifiers } };
  labelRules.set(snapshot, made);
  return made;
}

const labelRules = new WeakMap<Snapshot, ReturnType<typeof labelRulesOf>>();

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
