/**
 * A campaign: sessions of generated statements on several pairs of databases at a time, until as many statements were compared as
 * were asked for. A session depends on its seed alone. What it finds is confirmed, made small and handed back.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { closePair, comparePair, type Difference, openPair, type Place, replay } from "./compare.ts";
import type { CorpusCase } from "./corpus.ts";
import { Coverage } from "./coverage.ts";
import { databasesOf, type FuzzGateway, type FuzzTarget, type Kind } from "./installation.ts";
import { fromDifference } from "./normalise.ts";
import { outcomeOf, type SentStatement } from "./sessions.ts";
import { shrink } from "./shrinker.ts";
import type { Statement } from "./statements.ts";
import { Steps, textOf } from "./steps.ts";
import { Chance } from "./words.ts";

/** Statements of a session, after which both begin anew. */
const SESSION_STATEMENTS = 160;
/** Statements on their way at a time. */
const BATCH_STATEMENTS = 24;
/** Times that a difference must come again. One that hangs on when the catalog was read last does not. */
const ROUNDS = 3;
/** A catalog is read again within seconds of DDL, on a busy machine too. Milliseconds. */
const SETTLED_MS = 5_000;
/** Of a hundred places where policy refuses what is protected, those where it is written all the same. */
const DARING_PERCENT = 7;

export interface CampaignOptions {
  readonly fuzz: FuzzTarget;
  readonly gateway: FuzzGateway;
  readonly lanes: Readonly<Record<Kind, number>>;
  readonly seed: number;
  readonly statements: number;
  /** Differences after which it ends. */
  readonly findingsMax: number;
  /** Sessions that making one difference small may cost; 0: it is not made small. */
  readonly shrinkTriesMax: number;
  readonly onFinding?: (finding: Finding) => void;
}

export interface Finding extends CorpusCase {
  readonly left: string;
  readonly right: string;
  readonly marker?: string;
  /** Statements compared until it was found. */
  readonly after: number;
}

export interface CampaignResult {
  readonly compared: number;
  readonly seconds: number;
  readonly findings: readonly Finding[];
  /** Differences that did not come again, or came where the values are equal: for a person to look at. */
  readonly unsteady: readonly string[];
  readonly coverage: Coverage;
}

export class Campaign {
  readonly #options: CampaignOptions;
  readonly coverage: Coverage = new Coverage();
  readonly findings: Finding[] = [];
  readonly unsteady: string[] = [];
  compared = 0;
  #sessions = 0;
  #stopped = false;

  constructor(options: CampaignOptions) {
    this.#options = options;
  }

  async run(): Promise<CampaignResult> {
    const startedAt = performance.now();
    const { lanes } = this.#options;
    const work: Promise<void>[] = [];
    for (const kind of ["redacted", "partial"] as const) {
      for (let lane = 0; lane < lanes[kind]; lane++) work.push(this.#lane(kind, lane));
    }
    await Promise.all(work);
    const seconds = (performance.now() - startedAt) / 1000;
    return { compared: this.compared, seconds, findings: this.findings, unsteady: this.unsteady, coverage: this.coverage };
  }

  /** No further sessions; what runs is finished. */
  stop(): void {
    this.#stopped = true;
  }

  get #ended(): boolean {
    if (this.#stopped) return true;
    return this.compared >= this.#options.statements || this.findings.length >= this.#options.findingsMax;
  }

  async #lane(kind: Kind, lane: number): Promise<void> {
    const { gateway, fuzz, seed } = this.#options;
    const place: Place = { gateway, kind, databases: databasesOf(kind, lane), lastOid: fuzz.lastOid };
    while (!this.#ended) {
      this.#sessions += 1;
      await this.#session(place, seed * 1_000_003 + this.#sessions);
    }
  }

  async #session(place: Place, seed: number): Promise<void> {
    const steps = new Steps(new Chance(seed, { plain: false, daring: DARING_PERCENT }));
    const pair = await openPair(place, place.databases.left, place.databases.right);
    const sent: Statement[] = [];
    try {
      while (sent.length < SESSION_STATEMENTS && !this.#ended) {
        const batch: Statement[] = [];
        while (batch.length < BATCH_STATEMENTS) batch.push(...steps.next());
        const texts = batch.map((statement) => ({ sql: textOf(statement), form: statement.form }));
        const { answers, difference, cutShort } = await comparePair(pair, place, texts);
        const compared = difference === undefined ? answers.length : difference.at;
        for (const [at, answer] of answers.slice(0, compared).entries()) this.coverage.add(batch[at]!, outcomeOf(answer));
        this.compared += compared;
        sent.push(...batch.slice(0, (difference?.at ?? answers.length) + 1));
        if (difference !== undefined) {
          await this.#found(place, seed, sent, difference);
          return;
        }
        if (cutShort) {
          this.coverage.cutShort += 1;
          return;
        }
        if (pair.left.isClosed) {
          this.coverage.ended += 1;
          return;
        }
      }
    } finally {
      await closePair(pair);
    }
  }

  /** The difference, if it comes again each time. */
  async #steadily(place: Place, texts: readonly SentStatement[]): Promise<Difference | undefined> {
    let seen: Difference | undefined;
    for (let round = 0; round < ROUNDS; round++) {
      const now = await replay(place, texts);
      if (now === undefined || (seen !== undefined && now.at !== seen.at)) return undefined;
      seen = now;
    }
    return seen;
  }

  async #found(place: Place, seed: number, statements: readonly Statement[], first: Difference): Promise<void> {
    const texts = statements.map((statement) => ({ sql: textOf(statement), form: statement.form }));
    const again = await this.#steadily(place, texts);
    const last = texts.at(-1)!.sql;
    if (again === undefined) {
      this.unsteady.push(
        `does not always come: seed ${seed}: ${last}\n    ${fromDifference(first.left, first.right).join("\n    ")}`,
      );
      return;
    }
    const control = again.marker === undefined ? await replay(place, texts.slice(0, again.at + 1), true) : undefined;
    if (control !== undefined) {
      this.unsteady.push(
        `comes with equal values: seed ${seed}: ${texts[control.at]!.sql}\n    ${fromDifference(control.left, control.right).join("\n    ")}`,
      );
      return;
    }
    const small = await shrink(place, statements.slice(0, again.at + 1), again, this.#options.shrinkTriesMax);
    const [left, right] = fromDifference(small.difference.left, small.difference.right);
    // DDL of other sessions makes one database's catalog doubtful for a while, and then more is masked there: no leak, and over by now.
    await sleep(SETTLED_MS);
    if ((await this.#steadily(place, small.statements)) === undefined) {
      this.unsteady.push(`does not come any more: seed ${seed}: ${small.statements.at(-1)!.sql}\n    ${left}\n    ${right}`);
      return;
    }
    const finding: Finding = {
      about: "found by a campaign",
      kind: place.kind,
      seed,
      statements: small.statements,
      left,
      right,
      after: this.compared,
      ...(small.difference.marker === undefined ? {} : { marker: small.difference.marker }),
    };
    // Concurrent sessions find the same.
    if (this.findings.some((known) => known.left === finding.left && known.right === finding.right)) return;
    this.findings.push(finding);
    this.#options.onFinding?.(finding);
  }
}
