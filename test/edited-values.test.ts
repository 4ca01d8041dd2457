/**
 * What masks and detectors leave of a value is a value of its type or NULL: made by a server in both formats, edited, and read by
 * the server again. Detectors find no value in what is left. Values are random with planted ones among them.
 */
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { maskDerived, maskExact, type ScanRule, scanCell } from "@sluice/inspect/dlp/cell-edit.ts";
import { builtinDetectorNames, compileDetector } from "@sluice/inspect/dlp/detect.ts";
import { plantedText, plantedValues } from "@sluice/inspect/dlp/planted-text.ts";
import * as fc from "fast-check";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTarget, type Target, targetVersions } from "./support/targets.ts";

/** Type and an expression of it over two texts, $1 and $2. */
const textual: readonly (readonly [type: string, expression: string])[] = [
  ["text", "$1::text"],
  ["varchar", "$1::varchar"],
  ["bpchar", "$1::bpchar"],
  ["name", "$1::name"],
  ["json", "json_build_object($1::text, $2::text, 'list', json_build_array($2::text, 12))"],
  ["jsonb", "jsonb_build_object($1::text, $2::text, 'n', length($2))"],
  ["json", "('{\"n\":' || 4111111111111111 + length($1) || ',\"t\":' || to_json($2::text) || '}')::json"],
  ["xml", "xmlelement(name a, xmlattributes($1::text AS b), $2::text)"],
  ["text[]", "ARRAY[$1, NULL, $2]::text[]"],
  ["text[]", "ARRAY[[$1, $2], [$2, $1]]::text[]"],
  ["varchar[]", "ARRAY[$1, $2]::varchar[]"],
  ["json[]", "ARRAY[to_json($1::text), json_build_object('a', $2::text)]"],
  ["jsonb[]", "ARRAY[to_jsonb($1::text), jsonb_build_object($2::text, 1)]"],
  ["tsvector", "array_to_tsvector(array_remove(ARRAY[$1, $2]::text[], ''))"],
  ["tsquery", "plainto_tsquery('simple', $1 || ' ' || $2)"],
  [
    "jsonpath",
    "('$.\"' || length($1) || '\" ? (@ == \"219-05-1123\" || @ == ' || 4111111111111111 + length($2) || ')')::jsonpath",
  ],
  ["pair", "ROW($1, $2)::pair"],
  ["pair[]", "ARRAY[ROW($1, $2)::pair, NULL]"],
  ["known_text", "$1::known_text"],
  ["known_json", "json_build_object('a', $1::text)::known_json"],
  ["textrange", "textrange(least($1::text, $2), greatest($1::text, $2), '[]')"],
  ["textmultirange", "textmultirange(textrange(least($1::text, $2), greatest($1::text, $2), '[]'))"],
];
/** Types that cannot hold text. */
const others: readonly (readonly [type: string, expression: string])[] = [
  ["int2", "(length($1) + 1)::int2"],
  ["int4", "219051123 + length($1)"],
  ["int8", "4111111111111111 + length($1 || $2)"],
  ["numeric", "4111111111111111.25 + length($1 || $2)"],
  ["float8", "length($1) / 7.0::float8"],
  ["money", "length($1)::money"],
  ["bool", "length($1) > length($2)"],
  ["date", "date '2000-01-01' + length($1)"],
  ["timetz", "timetz '10:00:00+02'"],
  ["timestamptz", "now()"],
  ["interval", "make_interval(secs => length($1))"],
  ["uuid", "md5($1)::uuid"],
  ["bytea", "convert_to($1, 'UTF8')"],
  ["inet", "inet '10.0.0.1' + length($1)"],
  ["macaddr", "macaddr '08:00:2b:01:02:03'"],
  ["varbit", "varbit '1011'"],
  ["point", "point(length($1), 1)"],
  ["int4[]", "ARRAY[length($1), NULL, 219051123]"],
  ["int8range", "int8range(length($1), 4111111111111111)"],
  ["nummultirange", "nummultirange(numrange(0, length($1)))"],
];

const rulesOf = (operator: MaskOperator): readonly ScanRule[] =>
  builtinDetectorNames.map((name) => ({ detector: compileDetector(name, { kind: "builtin", detector: name }), operator }));
const operators: readonly MaskOperator[] = [{ kind: "redact" }, { kind: "null" }, { kind: "partial", keepFirst: 0, keepLast: 4 }];
const formats = ["text", "binary"] as const;

describe.each(targetVersions)("edited values, read again by PostgreSQL %s", (version) => {
  let target: Target;
  let client: pg.Client;
  beforeAll(async () => {
    target = await startTarget(version);
    await target.createDatabase("edited", [
      "CREATE TYPE pair AS (a text, b text)",
      "CREATE DOMAIN known_text AS text",
      "CREATE DOMAIN known_json AS json",
      "CREATE TYPE textrange AS RANGE (subtype = text)",
    ]);
    const { host, superuser: user, password } = target.cluster;
    client = new pg.Client({ host, port: target.port, user, password, database: "edited" });
    await client.connect();
  });
  afterAll(async () => {
    await client?.end();
    await target?.stop();
  });

  /** The value as the wire has it, and its type there; null when the server cannot make it. */
  const made = async (expression: string, texts: readonly [string, string], format: "text" | "binary") => {
    const wanted = {
      text: `SELECT ${expression} AS v, $1::text, $2::text`,
      values: [...texts],
      rowMode: "array",
      binary: format === "binary",
    };
    const raw = { getTypeParser: () => (value: unknown) => value };
    const result = await client.query({ ...wanted, types: raw } as unknown as pg.QueryArrayConfig).catch(() => null); // as pg reads it
    const value: unknown = result?.rows[0]?.[0];
    if (typeof value !== "string" && !Buffer.isBuffer(value)) return null;
    return { bytes: Buffer.isBuffer(value) ? value : Buffer.from(value), typeOid: result!.fields[0]!.dataTypeID };
  };
  const isRead = async (type: string, bytes: Buffer, format: "text" | "binary"): Promise<boolean> => {
    const value = format === "binary" ? bytes : bytes.toString();
    return (await client.query(`SELECT $1::${type} IS NOT NULL AS ok`, [value])).rows.length === 1;
  };
  const cases = [...textual, ...others];

  it.each(cases)("a masked %s from %s", async (type, expression) => {
    for (const format of formats) {
      const value = (await made(expression, [plantedValues[0], "b c"], format))!;
      for (const operator of operators) {
        for (const edit of [maskExact(operator, value.typeOid, format), maskDerived(operator, value.typeOid, format)]) {
          const edited = edit(value.bytes, 0, value.bytes.length);
          expect(edited, `${format} ${operator.kind}`).not.toBeUndefined();
          if (edited) expect(await isRead(type, edited, format), `${format} ${edited.toString()}`).toBe(true);
        }
      }
    }
  });

  it.each(textual)("a searched %s from %s", async (type, expression) => {
    let hits = 0;
    const word = fc.oneof(plantedText, fc.constantFrom(...plantedValues)).map((text) => text.replaceAll("\0", ""));
    await fc.assert(
      fc.asyncProperty(word, word, fc.constantFrom(...operators), fc.constantFrom(...formats), async (a, b, operator, format) => {
        const value = await made(expression, [a, b], format);
        if (value === null) return;
        const edit = scanCell(rulesOf(operator), value.typeOid, format)!;
        const edited = edit(value.bytes, 0, value.bytes.length);
        if (edited === undefined) return;
        hits += 1;
        if (edited === null) return;
        expect(await isRead(type, edited, format), edited.toString()).toBe(true);
        // What touched an address that was masked may look like one itself: `****@example.org`.
        const again = operator.kind === "redact" ? edit(edited, 0, edited.length) : undefined;
        if (again !== undefined) expect(edited.toString()).toContain("*@");
      }),
      // The same values in every run: what other seeds find is worked off one by one, not met by whoever runs the tests next.
      { numRuns: 60, seed: 7 },
    );
    expect(hits).toBeGreaterThan(0);
  });
});
