/**
 * A session's names as the product's machine follows them, held against what the server says. Code that nobody knows makes the
 * product's session lost; here the server is asked instead whether anything has changed, and only then it is, so that more of a
 * script is compared. Where it is lost for good reason and holds no temporary relation, it is taken up again as the server has it.
 */
import type { ScopeChange, SessionScope, StatementModel } from "@sluice/inspect/sql/model.ts";
import { SessionNames } from "@sluice/inspect/sql/session-names.ts";
import type { Fault } from "./server-compare.ts";
import type { Answer, ServerSession } from "./server-session.ts";

export interface NameCounts {
  /** Times that path, role and temporary relations were held against the server's. */
  compared: number;
  /** … after code that nobody knows had run. */
  afterUnknownCode: number;
  /** Truly lost: the server's names had changed unseen, or could not be followed. */
  lost: number;
  /** The path was not known, though the session was not lost. */
  pathUnknown: number;
}

export const noNameCounts = (): NameCounts => ({ compared: 0, afterUnknownCode: 0, lost: 0, pathUnknown: 0 });

interface ServerNames {
  readonly setting: string;
  readonly user: string;
  readonly role: string;
  readonly schemas: readonly string[];
  readonly temporary: readonly string[];
  /** They hold nothing of anybody's rows: a serial column's own need not be known. */
  readonly sequences: readonly string[];
}

const namesQuery = `SELECT pg_catalog.current_setting('search_path'), session_user, pg_catalog.current_setting('role'), current_user,
  pg_catalog.array_to_json(pg_catalog.current_schemas(true)), (SELECT pg_catalog.json_agg(c.relname) FROM pg_catalog.pg_class c
    WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,p,f,m}')),
  (SELECT pg_catalog.json_agg(c.relname) FROM pg_catalog.pg_class c
    WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND c.relkind OPERATOR(pg_catalog.=) 'S')`;

export class FollowedSession {
  readonly #counts: NameCounts;
  readonly #start: ServerSession["start"];
  readonly #session: ServerSession;
  #machine: SessionNames;
  /** Code that nobody knows has run since the server was last asked. */
  #unknownCode = false;
  #changed = false;

  constructor(session: ServerSession, counts: NameCounts) {
    this.#session = session;
    this.#counts = counts;
    this.#start = session.start;
    this.#machine = new SessionNames(session.start);
  }

  get scope(): SessionScope {
    return this.#machine.scope;
  }

  /** The catalog is another one. */
  age(): void {
    this.#machine.age();
  }

  /** Before the text is sent; `models` undefined: it was not understood. */
  sent(models: readonly StatementModel[] | undefined): void {
    if (models === undefined || models.some(({ scopeChanges }) => scopeChanges.some(isUnknownCode))) this.#unknownCode = true;
  }

  /** What came back, and what the server's names are then. */
  async answered(models: readonly StatementModel[] | undefined, answer: Answer): Promise<readonly Fault[]> {
    const before = this.#machine.scope;
    answer.outcomes.forEach(({ tag }, at) => {
      const changes = (models?.[at]?.scopeChanges ?? []).filter((change) => !isUnknownCode(change));
      if (tag !== null) this.#machine.succeeded(changes, tag);
    });
    if (answer.error !== undefined) this.#machine.failed();
    // What PostgreSQL 18 reports of search_path is left out: the machine must follow 15 as well.
    this.#machine.ready(answer.state);
    this.#changed ||= this.#machine.scope !== before || answer.error !== undefined;
    const lost = this.scope.lost.length > 0 && answer.state === "I";
    if (answer.state === "E" || !(this.#changed || this.#unknownCode || lost)) return [];
    const asked = await this.#session.run(namesQuery, undefined, true);
    const names = toNames(asked.rows[0]);
    // Right behind an error that aborted nothing, or out of reach of the session's role.
    if (names === undefined) return [];
    return this.#compare(names);
  }

  #compare(names: ServerNames): readonly Fault[] {
    const faults = this.#differences(names);
    this.#changed = false;
    this.#counts.compared += 1;
    if (this.#unknownCode) this.#counts.afterUnknownCode += 1;
    const blamed = this.#unknownCode && faults.length > 0;
    this.#unknownCode = false;
    if (faults.length === 0 && this.scope.lost.length === 0) return [];
    if (this.scope.lost.length === 0) this.#counts.lost += 1;
    // Within a transaction its end would bring back what is not known here.
    if (names.temporary.length === 0 && this.#session.state === "I") this.#takeUp(names);
    else this.#machine.lose("what the server says");
    return blamed ? [] : faults;
  }

  #differences(names: ServerNames): readonly Fault[] {
    const { path, role, lost, temporary } = this.scope;
    if (lost.length > 0) return [];
    const faults: Fault[] = [];
    if (path === null) this.#counts.pathUnknown += 1;
    else {
      const exists = new Set(names.schemas);
      const followed = path.filter((schema) => exists.has(schema)).join();
      if (followed !== names.schemas.join())
        faults.push({ kind: "path", what: `${followed} instead of ${names.schemas.join()}` });
    }
    if (role !== null && role !== names.role) faults.push({ kind: "role", what: `${role} instead of ${names.role}` });
    const there = new Set([...names.temporary, ...names.sequences]);
    const unseen = names.temporary.filter((name) => !Object.hasOwn(temporary, name));
    const gone = Object.keys(temporary).filter((name) => temporary[name]!.unsure !== true && !there.has(name));
    if (unseen.length > 0) faults.push({ kind: "temporary", what: `${unseen.join()} not known` });
    if (gone.length > 0) faults.push({ kind: "temporary", what: `${gone.join()} thought to be there` });
    return faults;
  }

  #takeUp({ setting, user, role }: ServerNames): void {
    this.#machine = new SessionNames(this.#start);
    const set = (name: string, value: string): ScopeChange => ({ kind: "setting", name, value, local: false });
    this.#machine.succeeded([set("session_authorization", user), set("role", role), set("search_path", setting)], "");
    this.#machine.ready("I");
  }
}

/** The session is lost because of code; not for what it does to its own relations and settings. */
function isUnknownCode(change: ScopeChange): boolean {
  return (
    change.kind === "lost" &&
    /^(DO$|(function|operator|type|trigger or default function|cursor|prepared statement|view) )/.test(change.why)
  );
}

function toNames(row: readonly (string | null)[] | undefined): ServerNames | undefined {
  if (row === undefined) return undefined;
  const [setting, user, set, role, schemas, temporary, sequences] = row;
  const list = (json: string | null | undefined): readonly string[] =>
    (JSON.parse(json ?? "[]") as string[]).map((name) => name.replace(/^pg_temp_\d+$/, "pg_temp")); // what json_agg of names gives
  if (setting == null || user == null || set == null || role == null) return undefined;
  return {
    setting,
    user,
    role: set === "none" ? user : role,
    schemas: list(schemas),
    temporary: list(temporary),
    sequences: list(sequences),
  };
}
