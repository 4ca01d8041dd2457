/**
 * Columns that keep their label whatever they are called: what gateways report is kept, published with the snapshot, and ended in time.
 * A gateway speaks only of resources that it may serve. Must never drop one silently: what finds no room is logged and counted.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { type BindingsReport, type ReportedColumn, reportedColumnsMax } from "@sluice/rpc/bindings.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { BindingsAdmin } from "../api/services.ts";
import * as bindingStore from "../store/binding-store.ts";
import type { Tables } from "../store/tables.ts";
import type { Publisher } from "./publisher.ts";
import { carries } from "./sign.ts";

export interface BindingsOptions {
  readonly db: Kysely<Tables>;
  readonly publisher: Pick<Publisher, "changeBindings" | "snapshots">;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
  /** Columns for which there was no room; for whoever counts. */
  readonly onRefused?: (columns: number) => void;
}

export interface Bindings {
  readonly admin: BindingsAdmin;
  /** What a gateway says; `labels` are those of its certificate, which say what it may serve. Never throws for what it says. */
  take(
    gateway: { readonly name: string; readonly labels: Readonly<Record<string, string>> },
    report: BindingsReport,
  ): Promise<void>;
  /** Resolves when what was taken is published or left to the next start. */
  close(): Promise<void>;
}

/** New ones come in batches: one snapshot for many of them. Milliseconds. */
const PUBLISH_AFTER_MS = 500;
const PRUNE_EVERY_MS = 10 * 60_000;
/** A full resource is said so often and not for each report. Milliseconds. */
const REFUSED_LOGGED_EVERY_MS = 60_000;
/** Three names of 63 characters and their dots, in any script. */
const NAME_CHARS_MAX = 256;
const OID_MAX = 0xff_ff_ff_ff;
const COLUMN_NUMBER_MAX = 1_600;

export function createBindings(options: BindingsOptions): Bindings {
  return new PublishedBindings(options);
}

class PublishedBindings implements Bindings {
  readonly admin: BindingsAdmin;
  readonly #options: BindingsOptions;
  readonly #pruning: NodeJS.Timeout;
  readonly #refusedLoggedMs = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #publishing: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: BindingsOptions) {
    this.#options = options;
    this.#pruning = setInterval(() => void this.#prune(), PRUNE_EVERY_MS);
    this.#pruning.unref();
    const { db, publisher, log } = options;
    this.admin = {
      list: async ({ resource, ...page }) => ({
        bindings: (await bindingStore.listBindings(db, { resource, ...page })).map(({ firstSeenAt, goneSince, ...binding }) => ({
          ...binding,
          since: firstSeenAt.toISOString(),
          goneSince: goneSince?.toISOString() ?? null,
        })),
        total: await bindingStore.countBindings(db, resource),
      }),
      forget: async ({ author, ...which }) => {
        const forgotten = await publisher.changeBindings(
          author,
          async (transaction) => {
            const gone = await bindingStore.forgetBindings(transaction, which);
            if (gone.length === 0) {
              throw new GatewayError("not_found", "No binding matches.", {
                hint: "`sluice bindings list` shows them; give the column as first seen or as it is called now.",
              });
            }
            return { count: gone.length, text: gone.map((one) => `${one.entity} ${one.firstSeenAs} ${one.seenAs}`).join("\n") };
          },
          which.resource,
        );
        log.warn({ author, resource: which.resource, columns: forgotten }, "columns lost the label that was bound to them");
        return forgotten;
      },
    };
  }

  async take(
    gateway: { readonly name: string; readonly labels: Readonly<Record<string, string>> },
    given: BindingsReport,
  ): Promise<void> {
    const { db, publisher, limits, log, onRefused } = this.#options;
    const { resources, classifiers } = publisher.snapshots.current;
    const resource = resources.find(({ name }) => name === given.resource);
    if (resource === undefined) return; // the gateway's snapshot is older or newer: it says it again
    const entities = new Set(classifiers.map(({ entity }) => entity));
    const report = reportOf(given, resource, entities);
    if (report === null || !carries(resource.labels, gateway.labels)) {
      log.warn({ gateway: gateway.name, resource: given.resource }, "a gateway reports columns that it cannot know: ignored");
      return;
    }
    const perResourceMax = limits.bindingsPerResourceMax;
    const { added, refused } = await bindingStore.takeBindings(db, report, { author: gateway.name, perResourceMax });
    if (refused > 0) {
      onRefused?.(refused);
      this.#logRefused(report.resource, refused);
    }
    if (added > 0) this.#publishSoon();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#pruning);
    clearTimeout(this.#timer);
    await this.#publishing;
  }

  #publishSoon(): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#publishing = this.#publishing.then(() => this.#publish());
    }, PUBLISH_AFTER_MS);
  }

  async #publish(): Promise<void> {
    try {
      await this.#options.publisher.changeBindings("gateways", async () => ({ count: 0, text: "" }), "");
    } catch (error) {
      this.#options.log.warn({ err: error }, "columns that gateways have found are not published yet");
      if (!this.#closed) this.#publishSoon();
    }
  }

  async #prune(): Promise<void> {
    const { db, publisher, limits, log } = this.#options;
    try {
      const { current } = publisher.snapshots;
      const ended = await bindingStore.pruneBindings(db, current, limits.bindingsGoneMs);
      if (ended === 0) return;
      log.info({ columns: ended }, "bindings of columns that are gone have ended");
      this.#publishSoon();
    } catch (error) {
      log.warn({ err: error }, "bindings of columns that are gone could not be ended");
    }
  }

  #logRefused(resource: string, refused: number): void {
    const { clock, limits, log } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - (this.#refusedLoggedMs.get(resource) ?? Number.NEGATIVE_INFINITY) < REFUSED_LOGGED_EVERY_MS) return;
    this.#refusedLoggedMs.set(resource, nowMs);
    log.error(
      {
        resource,
        refused,
        perResourceMax: limits.bindingsPerResourceMax,
        hint: "Raise limits.bindingsPerResourceMax, make the classifiers' patterns narrower, or see `sluice bindings list`.",
      },
      "a resource has more labelled columns than are bound: renamed past the gateway, the others lose their label",
    );
  }
}

/** With what can be of a database that this resource lists and nothing else; null for what no gateway of ours says. */
function reportOf(report: BindingsReport, { target }: ResourceSpec, entities: ReadonlySet<string>): BindingsReport | null {
  const isListed = report.database === target.database || target.databases.includes(report.database);
  if (!isListed || !isOid(report.databaseOid) || report.columns.length > reportedColumnsMax) return null;
  if (!report.columns.every(isColumn)) return null;
  return { ...report, columns: report.columns.filter(({ entity }) => entities.has(entity)) };
}

function isColumn({ relationOid, columnNumber, name, gone }: ReportedColumn): boolean {
  if (!isOid(relationOid) || columnNumber < 1 || columnNumber > COLUMN_NUMBER_MAX) return false;
  return gone || (name !== "" && name.length <= NAME_CHARS_MAX && !name.includes("\0") && name.isWellFormed());
}

function isOid(oid: number): boolean {
  return Number.isSafeInteger(oid) && oid > 0 && oid <= OID_MAX;
}
