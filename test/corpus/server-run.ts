/**
 * The corpus on a real server: each suite in a database of its own, each script in a session of its own, each text analysed with the
 * catalog as it is and the names as the product follows them, then run; what came back is held against the model. Must never run
 * what could harm the machine: that is left out and counted.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogIndex } from "@sluice/inspect/sql/catalog-index.ts";
import type { Analysis, StatementModel } from "@sluice/inspect/sql/model.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { unsureAnalysis } from "@sluice/inspect/sql/unsure.ts";
import { parseSync } from "libpg-query";
import type { Target } from "../support/targets.ts";
import { type ScriptStatement, splitPsqlScript } from "./psql-script.ts";
import { type Columns, compareColumns, type Fault, noColumns } from "./server-compare.ts";
import { ServerCatalog } from "./server-catalog.ts";
import { FollowedSession, type NameCounts, noNameCounts } from "./server-names.ts";
import { type Answer, ServerSession, type SessionAddress } from "./server-session.ts";
import type { Suite } from "./source.ts";
import { count, corpusSettings, kindOfReason, list } from "./tally.ts";

export interface ServerTally {
  /** Texts that were sent. */
  texts: number;
  readonly leftOut: Map<string, number>;
  /** Results with a row description that were compared, and those that could not be, by why. */
  results: number;
  readonly notCompared: Map<string, number>;
  readonly columns: Columns;
  readonly names: NameCounts;
  readonly faults: PlacedFault[];
  /** Why a column is `*` that the wire names. */
  readonly unknownBecause: Map<string, string[]>;
  /** Texts that our grammar refuses: those that the server's refuses too, and those that it accepts, whether or not they run. */
  readonly unparsed: { refused: number; readonly accepted: PlacedFault[] };
  readonly crashes: { readonly place: string; readonly error: string }[];
  /** Scripts whose session ended before their end, with why. */
  readonly ended: { readonly script: string; readonly why: string }[];
  failed: number;
  copied: number;
  catalogReads: number;
  views: number;
}

export interface PlacedFault extends Fault {
  readonly place: string;
  readonly text: string;
}

export interface RunOptions {
  readonly target: Target;
  readonly suites: readonly Suite[];
  /** Milliseconds after which no further script begins. */
  readonly budgetMs: number;
  readonly progress: (line: string) => void;
  readonly nowMs: () => number;
}

const PROGRESS_MS = 5_000;
const SHOWN_TEXT = 300;
const NO_TIME = "no time left";

export async function runOnServer(options: RunOptions): Promise<ServerTally> {
  const tally = noTally();
  const endMs = options.nowMs() + options.budgetMs;
  // The large suite beside the small ones: a session waits for the server most of the time.
  const waiting = [...options.suites];
  const lane = async (): Promise<void> => {
    for (let suite = waiting.shift(); suite !== undefined; suite = waiting.shift())
      await new SuiteRun(options, suite, tally, endMs).run();
  };
  await Promise.all([lane(), lane()]);
  return tally;
}

function noTally(): ServerTally {
  return {
    texts: 0,
    leftOut: new Map(),
    results: 0,
    notCompared: new Map(),
    columns: noColumns(),
    names: noNameCounts(),
    faults: [],
    unknownBecause: new Map(),
    unparsed: { refused: 0, accepted: [] },
    crashes: [],
    ended: [],
    failed: 0,
    copied: 0,
    catalogReads: 0,
    views: 0,
  };
}

/** Texts that reach beyond the server's own files, or end it; the first pattern that matches names why. */
const harmful: readonly (readonly [RegExp, string])[] = [
  [/\bcopy\b[\s\S]*\bprogram\b/i, "COPY … PROGRAM"],
  [/\balter\s+system\b/i, "ALTER SYSTEM"],
  [/\b(plpython\w*|plperlu?|pltclu?)\b/i, "languages that need an interpreter"],
  [/\b(lo_export|lo_import|pg_file_write|pg_file_unlink|pg_file_rename)\b/i, "functions that write files"],
  [/\bcopy\b[\s\S]*\bto\s+'/i, "COPY to a file of the server"],
  [
    /\b(pg_terminate_backend|pg_cancel_backend|pg_reload_conf|pg_promote|pg_rotate_logfile|pg_switch_wal)\b/i,
    "functions that steer the server",
  ],
  [/\b(create|alter|drop)\s+(database|tablespace|subscription)\b/i, "databases, tablespaces, subscriptions"],
  [/\bdblink\w*\s*\(|\bfile_fdw\b|\bpostgres_fdw\b/i, "connections and files of foreign servers"],
  [/^\s*load\b/i, "LOAD"],
];

class SuiteRun {
  readonly #options: RunOptions;
  readonly #suite: Suite;
  readonly #tally: ServerTally;
  readonly #endMs: number;
  readonly #address: SessionAddress;
  #catalog!: ServerCatalog;
  #session!: ServerSession;
  #names!: FollowedSession;
  #index: CatalogIndex | undefined;
  /** The open transaction has changed the catalog; nobody else sees how. */
  #uncommitted = false;
  #stale = true;
  #toldMs = 0;

  constructor(options: RunOptions, suite: Suite, tally: ServerTally, endMs: number) {
    const { cluster } = options.target;
    this.#options = options;
    this.#suite = suite;
    this.#tally = tally;
    this.#endMs = endMs;
    this.#address = {
      target: { host: cluster.host, port: cluster.port, tls: { mode: "disable" } },
      database: suite.name.replaceAll("-", "_"),
      user: cluster.superuser,
      password: cluster.password,
    };
  }

  async run(): Promise<void> {
    const { target, nowMs } = this.#options;
    if (nowMs() > this.#endMs) {
      for (const script of this.#suite.scripts)
        this.#tally.ended.push({ script: `${this.#suite.name}/${script.name}`, why: NO_TIME });
      return;
    }
    const database = this.#address.database;
    await target.admin("postgres", (client) => client.query(`CREATE DATABASE "${database}" TEMPLATE template0`));
    await target.admin(database, (client) => client.query("GRANT ALL ON SCHEMA public TO PUBLIC"));
    this.#catalog = await ServerCatalog.open(this.#address);
    try {
      for (const { name, text } of this.#suite.scripts) {
        if (nowMs() > this.#endMs) this.#tally.ended.push({ script: `${this.#suite.name}/${name}`, why: NO_TIME });
        else await this.#script(`${this.#suite.name}/${name}`, text);
      }
      await this.#views();
    } finally {
      this.#tally.catalogReads += this.#catalog.reads;
      this.#catalog.close();
    }
  }

  async #script(name: string, text: string): Promise<void> {
    const statements = splitPsqlScript(text, { PG_ABS_SRCDIR: this.#suite.directory, PG_ABS_BUILDDIR: this.#suite.directory });
    await this.#connect(null);
    try {
      for (const statement of statements) {
        if (statement.connected !== undefined) {
          this.#session.close();
          await this.#connect(statement.connected.user);
        }
        await this.#text(`${name}:${statement.line}`, statement);
      }
    } catch (error) {
      this.#tally.ended.push({ script: name, why: error instanceof Error ? error.message : String(error) });
    } finally {
      this.#session.close();
    }
  }

  /**
   * On the wire a view's columns are the view's own. So what lineage says of each view that is left is held against what the server says
   * of its definition.
   */
  async #views(): Promise<void> {
    await this.#connect(null);
    this.#stale = true;
    await this.#catalogFor("SELECT 1");
    for (const { schema, name, definition } of this.#catalog.views) {
      if (definition === undefined) continue;
      const shown = { place: `${this.#suite.name}: view ${schema}.${name}`, text: definition.slice(0, SHOWN_TEXT) };
      const analysis = await this.#analyse(shown.place, `SELECT * FROM "${schema}"."${name}"`);
      const answer = await this.#session.run(`SELECT * FROM (${definition.replace(/;\s*$/, "")}) definition LIMIT 0`);
      if (answer.error !== undefined) count(this.#tally.notCompared, "the definition of a view does not run");
      else if (analysis?.kind === "ok") this.#compare(analysis.statements, answer, shown);
      this.#tally.views += 1;
    }
    this.#session.close();
  }

  async #connect(user: string | null): Promise<void> {
    this.#session = await ServerSession.open(this.#address);
    this.#names = new FollowedSession(this.#session, this.#tally.names);
    this.#uncommitted = false;
    if (user !== null) await this.#text("connect:1", { text: `SET SESSION AUTHORIZATION "${user}"`, line: 1 });
  }

  async #text(place: string, statement: ScriptStatement): Promise<void> {
    const tally = this.#tally;
    this.#tell(place);
    const { text } = statement;
    const harm = harmful.find(([pattern]) => pattern.test(text));
    if (harm !== undefined) return count(tally.leftOut, harm[1]);
    if (statement.sentBy === "gexec") count(tally.leftOut, "what \\gexec makes of a result");
    tally.texts += 1;
    const fromFile = await this.#dataOf(statement);
    const state = this.#session.state;
    const analysis = await this.#analyse(place, fromFile.text);
    const models = analysis?.kind === "ok" ? analysis.statements : undefined;
    this.#names.sent(models);
    const answer = await this.#session.run(fromFile.text, fromFile.data);
    if (answer.error !== undefined) tally.failed += 1;
    if (statement.data !== undefined || fromFile.data !== undefined) tally.copied += 1;
    const shown = { place, text: text.slice(0, SHOWN_TEXT) };
    if (analysis?.kind === "unparsed") this.#unparsed(answer, analysis.message, shown);
    if (state !== "E" && models !== undefined) this.#compare(models, answer, shown);
    for (const fault of await this.#names.answered(models, answer)) this.#fault({ ...fault, ...shown });
    this.#follow(models, answer);
  }

  /** The suite's own data files are sent from here: what the server may read is none of our business. */
  async #dataOf({ text, data }: ScriptStatement): Promise<{ readonly text: string; readonly data: string | undefined }> {
    const file = /^([\s\S]*\bfrom\s+)'([^']*\/data\/[\w.]+)'([\s\S]*)$/i.exec(text);
    if (file === null || !/^\s*copy\b/i.test(text)) return { text, data };
    const { readFile } = await import("node:fs/promises");
    const content = await readFile(file[2]!, "utf8").catch(() => undefined);
    return content === undefined ? { text, data } : { text: `${file[1]}stdin${file[3]}`, data: content };
  }

  async #analyse(place: string, text: string): Promise<Analysis | undefined> {
    try {
      const index = await this.#catalogFor(text);
      const analysis = analyse(parseSync, text, index, this.#names.scope, corpusSettings);
      return analysis.kind === "ok" && this.#uncommitted ? unsureAnalysis(analysis) : analysis;
    } catch (error) {
      if (error instanceof GatewayError && error.code === "statement_too_long") count(this.#tally.notCompared, error.code);
      else this.#tally.crashes.push({ place, error: error instanceof Error ? String(error.stack) : String(error) });
      return undefined;
    }
  }

  /** The newest one where it could matter to the text. */
  async #catalogFor(text: string): Promise<CatalogIndex> {
    if (
      this.#index !== undefined &&
      (!this.#stale || this.#uncommitted || !looksUp(text, Object.keys(this.#names.scope.temporary).length > 0))
    )
      return this.#index;
    const index = await this.#catalog.current();
    if (this.#index !== undefined && index !== this.#index && index.epoch !== this.#index.epoch) this.#names.age();
    this.#index = index;
    this.#stale = false;
    return index;
  }

  #compare(models: readonly StatementModel[], answer: Answer, shown: Pick<PlacedFault, "place" | "text">): void {
    const tally = this.#tally;
    const reason = this.#incomparable();
    answer.outcomes.forEach(({ fields }, at) => {
      const model = models[at];
      if (fields === null) return;
      if (reason !== undefined) return count(tally.notCompared, reason);
      if (model === undefined) return count(tally.notCompared, "more results than statements");
      tally.results += 1;
      const onUnknown = (): void => list(tally.unknownBecause, this.#whyUnknown(model), shown.place);
      for (const fault of compareColumns(model, fields, this.#index!, tally.columns, onUnknown))
        this.#fault({ ...fault, ...shown });
    });
  }

  /** The gateway refuses to let a session have these settings, which change how texts are read. */
  #incomparable(): string | undefined {
    if (this.#session.parameter("standard_conforming_strings") === "off") return "standard_conforming_strings is off";
    const encoding = this.#session.parameter("client_encoding");
    return encoding === "UTF8" ? undefined : "another client_encoding";
  }

  #whyUnknown(model: StatementModel): string {
    if (this.#uncommitted) return "structure changed in the open transaction";
    if (model.lost !== undefined) return "session lost";
    const reasons = [...new Set(model.undecided.map(kindOfReason))].sort();
    if (reasons.length > 0) return reasons.join(", ");
    return model.columnsKnown ? "no reason given" : "number of columns not known";
  }

  #unparsed(answer: Answer, message: string, shown: Pick<PlacedFault, "place" | "text">): void {
    const { unparsed } = this.#tally;
    if (answer.error !== undefined && syntaxErrors.has(answer.error.sqlState)) {
      unparsed.refused += 1;
      return;
    }
    const off = this.#session.parameter("standard_conforming_strings") === "off" ? ", with standard_conforming_strings off" : "";
    const server = answer.error === undefined ? "runs it" : `says ${answer.error.sqlState}`;
    unparsed.accepted.push({ kind: "grammar", what: `${message}; the server ${server}${off}`, ...shown });
  }

  #fault(fault: PlacedFault): void {
    this.#tally.faults.push(fault);
    this.#options.progress(`FAULT ${fault.kind} ${fault.place}: ${fault.what}: ${fault.text}`);
  }

  #follow(models: readonly StatementModel[] | undefined, answer: Answer): void {
    if (models?.some(({ changesCatalog }) => changesCatalog) !== false) {
      this.#stale = true;
      if (answer.state === "T") this.#uncommitted = true;
    }
    if (answer.state === "I") this.#uncommitted = false;
  }

  #tell(place: string): void {
    const { nowMs, progress } = this.#options;
    if (nowMs() - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = nowMs();
    const { texts, results, faults } = this.#tally;
    progress(
      `${place}: ${texts} texts, ${results} results compared, ${faults.length} faults, ${this.#catalog.reads} catalogs read`,
    );
  }
}

/**
 * Whether the newest catalog could matter to what is compared: rows that come back, and what becomes of temporary relations. Comments
 * before a statement do not keep it from being seen as it begins.
 */
function looksUp(text: string, hasTemporary: boolean): boolean {
  const start = /^(?:\s|--.*\n|\/\*[\s\S]*?\*\/)*(\w*)/.exec(text)?.[1]?.toLowerCase() ?? "";
  if (/\\;|;\s*\S/.test(text) || /\b(returning|temp|temporary|pg_temp)\b/i.test(text)) return true;
  if (["insert", "update", "delete", "merge", "create", "copy", "truncate"].includes(start)) return hasTemporary;
  return !steering.has(start);
}

const steering: ReadonlySet<string> = new Set(
  (
    "alter drop comment grant revoke set reset begin start commit rollback abort end savepoint release analyze vacuum reindex cluster " +
    "checkpoint listen notify unlisten lock discard deallocate close move show do refresh security reassign"
  ).split(" "),
);

/** syntax_error, invalid_escape_sequence, nonstandard_use_of_escape_character, character_not_in_repertoire, invalid_name, name_too_long; what the grammar knows and the server lacks */
const syntaxErrors: ReadonlySet<string> = new Set(["42601", "22025", "22P06", "22021", "42602", "42622", "0A000"]);
