/**
 * Code that runs though the statement does not name it: behind casts, operators and types, behind reading and writing a relation, and
 * event triggers. What may do more than compute makes the statement undecided. Must never take a type for absent that a value of the
 * statement can have: types come from columns that are named, from type names and from signatures, and with them all they are made of.
 * Follows find_coercion_pathway (parse_coerce.c), oper (parse_oper.c) and lookup_type_cache (typcache.c) of PostgreSQL.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { CastSide, CatalogCast, CatalogRelation, CatalogType } from "@sluice/core/catalog.ts";
import type { CatalogIndex, UserOperator } from "../catalog-index.ts";
import type { AnalysisSettings } from "../model.ts";
import type { Mentions, NamedType } from "./mentions.ts";
import { qualifiedName } from "./relation-rows.ts";
import type { ReachedRelations } from "./relations.ts";

/** The first OID that is not the server's own (FirstNormalObjectId). */
const FIRST_USER_OID = 16_384;

export interface UnnamedCode {
  /** Behind operators and casts, and what runs on writing or on a change of structure. */
  readonly undecided: readonly string[];
  /** What whoever made the schema lets run whenever it is read. */
  readonly onReading: readonly string[];
}

interface Around {
  readonly index: CatalogIndex;
  readonly settings: AnalysisSettings;
}

/** `kind`: of the statement that everything is reached from. `namesOnly`: it only names things. */
export function unnamedCode(
  mentions: Mentions,
  reached: ReachedRelations,
  around: Around,
  { kind, namesOnly }: { readonly kind: string; readonly namesOnly: boolean },
): UnnamedCode {
  const judgement = new Judgement(mentions, reached, around);
  if (!namesOnly) judgement.values(kind);
  return judgement.result(kind);
}

class Judgement {
  readonly #mentions: Mentions;
  readonly #reached: ReachedRelations;
  readonly #index: CatalogIndex;
  readonly #safe: ReadonlySet<string>;
  readonly #undecided = new Set<string>();
  readonly #onReading = new Set<string>();
  /** Types that values can have, and relations whose rows they can be. */
  readonly #types = new Set<number>();
  readonly #rows = new Set<number>();
  readonly #visited = new Set<string>();
  /** Names of types that the texts say. */
  readonly #named = new Set<string>();
  /** A type that is made of others is among them: what becomes a value of it is converted part by part. */
  #namesStructure = false;

  constructor(mentions: Mentions, reached: ReachedRelations, { index, settings }: Around) {
    this.#mentions = mentions;
    this.#reached = reached;
    this.#index = index;
    this.#safe = new Set(settings.safeFunctions);
  }

  values(statement: string): void {
    const { uses, known } = this.#reached;
    const written = new Set(uses.filter(({ access }) => access === "write").map(({ name }) => name));
    // VACUUM and ANALYZE compute what indexes and statistics are made of.
    const targets = known.filter((relation) => written.has(qualifiedName(relation)) || statement === "VacuumStmt");
    const families = new Set(targets.flatMap((relation) => this.#index.family(relation)));
    for (const relation of known) this.#relation(relation, families.has(relation));
    for (const relation of families) this.#writes(relation);
    this.#typesNamed();
    for (const type of this.#mentions.argumentTypes) this.#type(type, true, true);
    for (const { typeOid, rowOf } of this.#mentions.resultTypes) {
      if (rowOf !== undefined) this.#row(rowOf);
      this.#type(typeOid, true, rowOf !== undefined);
    }
    this.#arrays();
    this.#casts();
    for (const used of this.#mentions.operators) this.#operator(used);
  }

  result(statement: string): UnnamedCode {
    if (changesStructure.test(statement) || this.#mentions.makesRelation)
      for (const name of this.#index.eventFunctions)
        if (!this.#safe.has(name)) this.#undecided.add(`event trigger function ${name}`);
    return { undecided: [...this.#undecided], onReading: [...this.#onReading] };
  }

  #relation(relation: CatalogRelation, written: boolean): void {
    for (const name of relation.readingFunctions ?? [])
      if (!this.#safe.has(name))
        this.#onReading.add(`row-security or generated-column function ${name} on ${qualifiedName(relation)}`);
    const { everyColumn, columns } = this.#mentions;
    const all = written || everyColumn;
    for (const column of relation.columns) {
      if (!all && !columns.has(column.name)) continue;
      if (column.rowOf !== undefined) this.#row(column.rowOf);
      this.#type(column.typeOid, written, column.rowOf !== undefined);
    }
    if (all) this.#rows.add(relation.oid);
  }

  #writes(relation: CatalogRelation): void {
    for (const name of relation.hiddenFunctions) {
      if (this.#safe.has(name) || (name.startsWith("pg_catalog.") && this.#index.isBuiltin(name.slice("pg_catalog.".length))))
        continue;
      const what = name.startsWith("rule ") || name === "foreign keys" ? name : `trigger or default function ${name}`;
      this.#undecided.add(`${what} on ${qualifiedName(relation)}`);
    }
  }

  /** A row as a value: all its columns. */
  #row(oid: number): void {
    if (this.#rows.has(oid)) return;
    this.#rows.add(oid);
    for (const column of this.#index.byOid(oid)?.columns ?? []) {
      if (column.rowOf !== undefined) this.#row(column.rowOf);
      this.#type(column.typeOid, true, column.rowOf !== undefined);
    }
  }

  /**
   * The type and all it is made of. `made`: something may become a value of it, so that the checks of a domain run; else they do for
   * what is inside of other values alone. `isRow`: if it is in no list, it is that of rows that are looked at as such.
   */
  #type(oid: number, made: boolean, isRow: boolean): void {
    const key = `${oid} ${made}`;
    if (oid === 0 || this.#visited.has(key)) return;
    this.#visited.add(key);
    this.#types.add(oid);
    const type = this.#index.typeByOid(oid);
    if (type === undefined) {
      if (oid >= FIRST_USER_OID && !isRow) this.#onReading.add(`type with OID ${oid}`);
      return;
    }
    if (made) this.#code(type, type.checks ?? []);
    this.#code(type, type.code ?? null);
    const row = type.kind === "composite" ? this.#index.find(type.schema, type.name) : [];
    for (const relation of row) this.#row(relation.oid);
    if (row.length > 0) return;
    for (const part of type.parts ?? []) this.#type(part, made || type.kind !== "domain", isRow);
  }

  /** Null: it cannot be known what runs. */
  #code(type: CatalogType, functions: readonly string[] | null): void {
    const name = `type ${type.schema}.${type.name}`;
    if (this.#safe.has(name) || functions?.every((fn) => this.#safe.has(fn)) === true) return;
    this.#onReading.add(name);
  }

  #typesNamed(): void {
    for (const { names, lookup } of this.#mentions.types) {
      const name = names.at(-1) ?? "";
      const schema = names.length > 1 ? names.at(-2) : undefined;
      this.#named.add(name);
      this.#named.add(name.replace(/^_/, ""));
      for (const type of [...this.#index.typesNamed(name), ...this.#index.typesNamed(name.replace(/^_/, ""))]) {
        if (schema !== undefined && type.schema !== schema) continue;
        if (schema === undefined && lookup.path !== null && !["pg_catalog", "pg_temp", ...lookup.path].includes(type.schema))
          continue;
        if (type.kind !== "enum" && type.kind !== "base") this.#namesStructure = true;
        if (type.oid !== undefined) this.#type(type.oid, true, false);
      }
      for (const relation of this.#index.find(schema, name, lookup)) {
        if (relation.system) continue;
        this.#namesStructure = true;
        this.#row(relation.oid);
      }
    }
  }

  /** Values can be collected into arrays. */
  #arrays(): void {
    for (const oid of this.#types) {
      const array = this.#index.arrayOf(oid);
      if (array !== undefined) this.#types.add(array);
    }
  }

  #casts(): void {
    const { casts } = this.#index;
    const { converts, assigns } = this.#mentions;
    if (casts === undefined) {
      if (converts || assigns) this.#undecided.add("casts of this database, which its agent does not read");
      return;
    }
    for (const cast of casts) {
      if (this.#safe.has(cast.function) || !this.#occurs(cast.source) || !this.#occurs(cast.target)) continue;
      if (!this.#mayApply(cast)) continue;
      const [source, target] = [cast.source, cast.target].map(({ schema, name }) => `${schema}.${name}`);
      this.#undecided.add(`cast from ${source} to ${target} (function ${cast.function})`);
    }
  }

  #mayApply({ target, context }: CatalogCast): boolean {
    const { converts, assigns } = this.#mentions;
    // Also through a domain, an array or a composite that is named.
    const asked = this.#named.has(target.name.replace(/^_/, "")) || (this.#namesStructure && this.#types.has(target.typeOid));
    switch (context) {
      case "explicit":
        return asked;
      case "assignment":
        return asked || assigns;
      case "implicit":
        return converts || assigns;
      default:
        return assertNever(context);
    }
  }

  /** Values of the server's own types are everywhere. */
  #occurs(side: CastSide): boolean {
    if (!isUsers(side)) return true;
    return this.#types.has(side.typeOid) || (side.rowOf !== undefined && this.#rows.has(side.rowOf));
  }

  #operator({ names, lookup }: NamedType): void {
    const name = names.at(-1) ?? "";
    const schema = names.length > 1 ? names.at(-2) : undefined;
    for (const operator of this.#index.operatorsNamed(name)) {
      if (!isVisible(operator, schema, lookup.path) || !this.#mayMean(operator)) continue;
      const qualified = `${operator.schema}.${name}`;
      if (this.#safe.has(`operator ${name}`) || this.#safe.has(`operator ${qualified}`)) continue;
      if (operator.functions.length > 0 && operator.functions.every((fn) => this.#safe.has(fn))) continue;
      this.#undecided.add(operator.schema === null ? `operator ${name}` : `operator ${qualified}`);
    }
  }

  /**
   * False where the server has operators of the name, and an operand's type does not occur: constants of no type are taken for the
   * server's own then (oper_select_candidate prefers strings).
   */
  #mayMean({ name, operands }: UserOperator): boolean {
    if (!commonOperators.has(name)) return true;
    return operands.every((oid) => oid < FIRST_USER_OID || this.#types.has(oid) || this.#index.typeByOid(oid) === undefined);
  }
}

function isUsers({ typeOid }: CastSide): boolean {
  return typeOid >= FIRST_USER_OID;
}

function isVisible({ schema }: UserOperator, written: string | undefined, path: readonly string[] | null): boolean {
  if (schema === null) return written !== "pg_catalog";
  if (written !== undefined) return schema === written;
  return path === null || schema === "pg_catalog" || path.includes(schema);
}

/** Operators that the server has for texts. */
const commonOperators: ReadonlySet<string> = new Set(
  "= <> < > <= >= || ~~ !~~ ~~* !~~* ~ !~ ~* !~* ^@ ~<~ ~<=~ ~>~ ~>=~".split(" "),
);

/** Statements that event triggers may follow. */
const changesStructure =
  /^(Create|Alter|Drop|Rename|Comment|Grant|Index|View|Define|Refresh|Reindex|SecLabel|Import|Rule|Composite|Reassign)/;
