/**
 * Labels by what survives a rename: every column that is labelled here is remembered, told to the control plane until a snapshot has it,
 * and labelled by its number from then on. What is not published yet counts here all the same. Must never let a column that was
 * labelled lose its label because nobody listened; what a restart without a control plane forgets is said in docs/guides/operations.md.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ColumnBindings, Snapshot } from "@sluice/core/snapshot.ts";
import { columnKey } from "@sluice/inspect/policy/label-rules.ts";
import type { ColumnLabels } from "@sluice/inspect/policy/labels.ts";
import { type BindingsSink, type ReportedColumn, reportedColumnsMax } from "@sluice/rpc/bindings.ts";
import type { PolicyStore } from "../policy-watch/policy-store.ts";
import type { DdlScope } from "./ddl.ts";

export interface LabelledCatalog {
  /** Absent: an older agent did not read it; then nothing is bound. */
  readonly databaseOid?: number;
  readonly labels: ColumnLabels;
}

export interface ColumnBindingsOptions {
  readonly policies: Pick<PolicyStore, "current" | "onChange">;
  readonly sink: BindingsSink;
  readonly limits: Pick<Limits, "bindingsReportMs">;
  readonly clock: Clock;
}

/** Columns looked at before others get their turn: below a millisecond. */
const SLICE_COLUMNS = 1_000;
/** Reports in one go: a control plane takes twice as many of one node at a time. */
const REPORTS_AT_ONCE = 16;
/** What was just found, together. Milliseconds. */
const FIRST_AFTER_MS = 100;
/** Between goes, doubled while nothing of it is published. Milliseconds. */
const AGAIN_MS_MIN = 2_000;
const AGAIN_MS_MAX = 5 * 60_000;

export class BoundColumns {
  readonly #options: ColumnBindingsOptions;
  readonly #databases = new Map<string, Database>();
  readonly #stopWatching: () => void;
  readonly #reporting: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #againMs = AGAIN_MS_MIN;
  #closed = false;

  constructor(options: ColumnBindingsOptions) {
    this.#options = options;
    this.#stopWatching = options.policies.onChange(() => this.#published());
    this.#reporting = setInterval(() => this.#sayNames(), options.limits.bindingsReportMs);
    this.#reporting.unref();
  }

  /** Labelled here, and in no snapshot yet. */
  get pending(): number {
    let count = 0;
    for (const { found } of this.#databases.values()) count += found.size;
    return count;
  }

  /** What is bound in this database. The same list for the same published bindings while nothing else was found. */
  of(scope: DdlScope): readonly ColumnBindings[] {
    const published = publishedFor(this.#options.policies.current.snapshot, scope).list;
    const found = this.#databases.get(keyOf(scope))?.found;
    return found === undefined || found.size === 0 ? published : [...published, ...listOf(scope, found.values())];
  }

  /** Changes when other bindings are published for this database. */
  version(scope: DdlScope): string {
    return publishedFor(this.#options.policies.current.snapshot, scope).version;
  }

  /** Resolves when everything that was labelled before is remembered: to be awaited before labels are made anew. */
  async settled(scope: DdlScope): Promise<void> {
    await this.#databases.get(keyOf(scope))?.work;
  }

  /** The database was labelled: remembers what is new, notices what is called something else or is gone. */
  saw(scope: DdlScope, catalog: LabelledCatalog): void {
    const { databaseOid, labels } = catalog;
    if (databaseOid === undefined) return;
    const key = keyOf(scope);
    const database: Database = this.#databases.get(key) ?? {
      scope,
      found: new Map(),
      told: new Map(),
      news: new Map(),
      work: Promise.resolve(),
    };
    this.#databases.set(key, database);
    database.seen = { databaseOid, labels };
    database.work = database.work.then(() => this.#remember(database, { databaseOid, labels }));
  }

  close(): void {
    this.#closed = true;
    this.#stopWatching();
    clearInterval(this.#reporting);
    clearTimeout(this.#timer);
  }

  async #remember(database: Database, { databaseOid, labels }: Required<LabelledCatalog>): Promise<void> {
    const { has } = publishedFor(this.#options.policies.current.snapshot, database.scope);
    let looked = 0;
    for (const { relationOid, columnNumber, qualified, entities, relationKind } of labels.labelledColumns()) {
      looked += 1;
      if (looked % SLICE_COLUMNS === 0) await othersTurn();
      if (relationKind.system || !holdsRows.has(relationKind.kind)) continue;
      for (const entity of entities) {
        if (has(databaseOid, entity, relationOid, columnNumber)) continue;
        const column = { relationOid, columnNumber, entity, name: qualified, gone: false };
        database.found.set(foundKey(databaseOid, column), { databaseOid, column });
      }
    }
    for (const [key, { databaseOid: of, column }] of database.found)
      if (of === databaseOid && labels.qualifiedByOid(column.relationOid, column.columnNumber) === undefined)
        database.found.delete(key);
    await this.#noticeNames(database, { databaseOid, labels });
    if (database.found.size > 0 || database.news.size > 0) this.#sendIn(FIRST_AFTER_MS);
  }

  /** What is published and is not called what the control plane was last told, or is not there any more. */
  async #noticeNames(database: Database, { databaseOid, labels }: Required<LabelledCatalog>): Promise<void> {
    let looked = 0;
    for (const binding of publishedFor(this.#options.policies.current.snapshot, database.scope).list) {
      for (let at = 0; at + 1 < binding.columns.length; at += 2) {
        looked += 1;
        if (looked % SLICE_COLUMNS === 0) await othersTurn();
        const [relationOid, columnNumber] = [binding.columns[at]!, binding.columns[at + 1]!]; // in turns
        const name = binding.databaseOid === databaseOid ? (labels.qualifiedByOid(relationOid, columnNumber) ?? "") : "";
        const column = { relationOid, columnNumber, entity: binding.entity, name, gone: name === "" };
        const key = foundKey(binding.databaseOid, column);
        if (database.told.get(key) === name) continue;
        database.told.set(key, name);
        database.news.set(key, { databaseOid: binding.databaseOid, column });
      }
    }
  }

  /** A snapshot came: what it has needs not be said any more. */
  #published(): void {
    const { snapshot } = this.#options.policies.current;
    const named = new Set(snapshot.classifiers.map(({ entity }) => entity));
    let fewer = false;
    for (const database of this.#databases.values()) {
      const { has } = publishedFor(snapshot, database.scope);
      for (const [key, { databaseOid, column }] of database.found) {
        if (!named.has(column.entity)) database.found.delete(key);
        if (!has(databaseOid, column.entity, column.relationOid, column.columnNumber)) continue;
        database.found.delete(key);
        database.told.set(key, column.name);
        fewer = true;
      }
    }
    if (!fewer) return;
    this.#againMs = AGAIN_MS_MIN;
    if (this.pending > 0) this.#sendIn(FIRST_AFTER_MS);
  }

  /** All names again: what the control plane missed, it learns now. */
  #sayNames(): void {
    for (const database of this.#databases.values()) {
      const { seen } = database;
      if (seen === undefined) continue;
      database.told.clear();
      database.work = database.work.then(async () => {
        await this.#noticeNames(database, seen);
        this.#sendIn(FIRST_AFTER_MS);
      });
    }
  }

  #sendIn(ms: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#send(), ms);
    this.#timer.unref();
  }

  #send(): void {
    let reports = 0;
    let left = false;
    for (const { scope, found, news } of this.#databases.values()) {
      const all = [...news]
        .map(([key, one]) => ({ ...one, key }))
        .concat([...found].map(([key, one]) => ({ ...one, key: `${key}?` })));
      for (const [databaseOid, columns] of Map.groupBy(all, (one) => one.databaseOid)) {
        for (let at = 0; at < columns.length; at += reportedColumnsMax) {
          if (reports === REPORTS_AT_ONCE) {
            left = true;
            break;
          }
          reports += 1;
          const batch = columns.slice(at, at + reportedColumnsMax);
          this.#options.sink.report({ ...scope, databaseOid, columns: batch.map(({ column }) => column) });
          for (const { key } of batch) news.delete(key);
        }
      }
    }
    if (!left && this.pending === 0) return;
    this.#sendIn(this.#againMs);
    this.#againMs = Math.min(this.#againMs * 2, AGAIN_MS_MAX);
  }
}

interface Database {
  readonly scope: DdlScope;
  /** Labelled here and not published yet. */
  readonly found: Map<string, Found>;
  /** What the control plane was last told that a published one is called. */
  readonly told: Map<string, string>;
  /** To be told once. */
  readonly news: Map<string, Found>;
  work: Promise<void>;
  seen?: Required<LabelledCatalog>;
}

interface Found {
  readonly databaseOid: number;
  readonly column: ReportedColumn;
}

/** Where data is stored: what a view shows of it is told by lineage. */
const holdsRows: ReadonlySet<string> = new Set(["table", "partitioned", "foreign"]);

interface Published {
  readonly list: readonly ColumnBindings[];
  readonly version: string;
  readonly has: (databaseOid: number, entity: string, relationOid: number, columnNumber: number) => boolean;
}

const published = new WeakMap<Snapshot, Map<string, Published>>();
const nothing: Published = { list: [], version: "", has: () => false };

function publishedFor(snapshot: Snapshot, scope: DdlScope): Published {
  let databases = published.get(snapshot);
  if (databases === undefined) {
    const groups = Map.groupBy(snapshot.bindings ?? [], (binding) => keyOf(binding));
    databases = new Map([...groups].map(([key, list]) => [key, indexOf(list)]));
    published.set(snapshot, databases);
  }
  return databases.get(keyOf(scope)) ?? nothing;
}

function indexOf(list: readonly ColumnBindings[]): Published {
  const sets = new Map<string, Set<number>>();
  for (const { databaseOid, entity, columns } of list) {
    const set = sets.get(`${databaseOid} ${entity}`) ?? new Set();
    for (let at = 0; at + 1 < columns.length; at += 2) set.add(columnKey(columns[at]!, columns[at + 1]!));
    sets.set(`${databaseOid} ${entity}`, set);
  }
  return {
    list,
    version: JSON.stringify(list.map(({ databaseOid, entity, columns }) => [databaseOid, entity, columns])),
    has: (databaseOid, entity, relationOid, columnNumber) =>
      sets.get(`${databaseOid} ${entity}`)?.has(columnKey(relationOid, columnNumber)) === true,
  };
}

function listOf({ resource, database }: DdlScope, found: Iterable<Found>): readonly ColumnBindings[] {
  const groups = Map.groupBy(found, ({ databaseOid, column }) => `${databaseOid} ${column.entity}`);
  return [...groups.values()].map((of) => ({
    resource,
    database,
    databaseOid: of[0]!.databaseOid, // a group has members
    entity: of[0]!.column.entity,
    columns: of.flatMap(({ column }) => [column.relationOid, column.columnNumber]),
  }));
}

function keyOf({ resource, database }: DdlScope): string {
  return JSON.stringify([resource, database]);
}

function foundKey(databaseOid: number, { relationOid, columnNumber, entity }: ReportedColumn): string {
  return `${databaseOid}.${relationOid}.${columnNumber}.${entity}`;
}

function othersTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
