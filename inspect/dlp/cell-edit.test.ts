import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { maskDerived, maskExact, type ScanRule, scanCell } from "./cell-edit.ts";
import { builtinDetectorNames, compileDetector, type Detector } from "./detect.ts";
import { plantedText, plantedValues } from "./planted-text.ts";

const REDACT: MaskOperator = { kind: "redact" };
const NULL: MaskOperator = { kind: "null" };
const LAST_FOUR: MaskOperator = { kind: "partial", keepFirst: 0, keepLast: 4 };

const oids = { bool: 16, bytea: 17, char: 18, int8: 20, text: 25, json: 114, xml: 142, bpchar: 1042, varchar: 1043, date: 1082 };
const more = {
  numeric: 1700,
  record: 2249,
  uuid: 2950,
  tsvector: 3614,
  jsonb: 3802,
  int4Array: 1007,
  textArray: 1009,
  jsonArray: 199,
};
const CITEXT = 16_500;

const builtins: readonly Detector[] = builtinDetectorNames.map((detector) =>
  compileDetector(detector, { kind: "builtin", detector }),
);
const rulesOf = (operator: MaskOperator): readonly ScanRule[] => builtins.map((detector) => ({ detector, operator }));
/** The same detectors without saying what bytes they need: every cell is read. */
const plainRules = (operator: MaskOperator): readonly ScanRule[] =>
  builtins.map((detector) => ({ detector: { entity: detector.entity, scan: (text) => detector.scan(text) }, operator }));

/** Runs an edit on bytes in the middle of a chunk and checks that the chunk was left alone. */
function run(edit: CellEdit | null, value: string | Buffer): string | null | undefined {
  if (edit === null) throw new Error("this type passes untouched");
  const bytes = Buffer.from(value);
  const chunk = Buffer.concat([Buffer.from("9@"), bytes, Buffer.from("@9")]);
  const before = Buffer.from(chunk);
  const edited = edit(chunk, 2, 2 + bytes.length);
  expect(chunk.equals(before)).toBe(true);
  return edited ? edited.toString() : edited;
}

const scan = (value: string | Buffer, typeOid: number = oids.text, operator: MaskOperator = REDACT): string | null | undefined =>
  run(scanCell(rulesOf(operator), typeOid, "text"), value);

describe("an unmodified protected column", () => {
  it.each([
    ["text", oids.text, "219-05-1123", "***-**-1123"],
    ["varchar", oids.varchar, "jürgen@müller.example", "******@******.***mple"],
    ["padded char", oids.bpchar, "219-05-1123    ", "***-**-1123    "],
    ["an enum of the user's", CITEXT, "happy ever after", null],
    ["a short value", oids.text, "1234567", "****"],
    ["no value", oids.text, "", "****"],
    ["json", oids.json, '{"a":1}', '"****"'],
    ["jsonb", more.jsonb, '{"a":1}', '"****"'],
    ["xml", oids.xml, "<a>219-05-1123</a>", "****"],
    ["one char", oids.char, "x", "*"],
    ["int8", oids.int8, "4111111111111111", null],
    ["numeric", more.numeric, "4111111111111111", null],
    ["an array", more.textArray, "{219-05-1123}", null],
    ["a record", more.record, "(219-05-1123)", null],
    ["a composite of the user's", CITEXT, "(219-05-1123)", null],
    ["an array of the user's", CITEXT, "{219-05-1123}", null],
  ])("partial on %s", (_, typeOid, value, expected) => {
    expect(run(maskExact(LAST_FOUR, typeOid, "text"), value)).toBe(expected);
  });

  it("partial in binary format", () => {
    expect(run(maskExact(LAST_FOUR, oids.text, "binary"), "219-05-1123")).toBe("***-**-1123");
    expect(run(maskExact(LAST_FOUR, more.jsonb, "binary"), '\u0001{"a":1}')).toBe('\u0001"****"');
    expect(run(maskExact(LAST_FOUR, oids.int8, "binary"), Buffer.alloc(8))).toBeNull();
    expect(run(maskExact(LAST_FOUR, CITEXT, "binary"), "219-05-1123")).toBeNull();
  });

  it("partial masks whole what is not UTF-8", () => {
    expect(run(maskExact(LAST_FOUR, oids.text, "text"), Buffer.from("J\xfcrgen Habermas", "latin1"))).toBe("****");
  });

  it.each([
    [oids.text, "text", "****"],
    [oids.text, "binary", "****"],
    [CITEXT, "text", null],
    [CITEXT, "binary", null],
    [more.jsonb, "binary", '\u0001"****"'],
    [oids.date, "text", null],
    [more.tsvector, "text", null],
  ] as const)("redact gives %i in %s a constant the type admits", (typeOid, format, expected) => {
    const edit = maskExact(REDACT, typeOid, format);
    expect(run(edit, "219-05-1123")).toBe(expected);
    expect(run(edit, "(x")).toBe(expected);
  });

  it("null is NULL everywhere", () => {
    for (const typeOid of [oids.text, oids.json, oids.int8, CITEXT])
      expect(run(maskExact(NULL, typeOid, "text"), "x")).toBeNull();
  });
});

describe("what is derived from a protected column", () => {
  it.each([
    [oids.text, "****"],
    [oids.json, '"****"'],
    [oids.int8, null],
    [oids.bool, null],
    [more.textArray, null],
    [more.record, null],
    [CITEXT, null],
  ])("type %i never depends on the value", (typeOid, expected) => {
    for (const operator of [REDACT, LAST_FOUR]) {
      const edit = maskDerived(operator, typeOid, "text");
      for (const value of ["", "219-05-1123", "a much longer value that ends in 1123", "{", "\xff"])
        expect(run(edit, value)).toBe(expected);
      expect(edit.editsNull).toBe(true);
    }
    expect(run(maskDerived(NULL, typeOid, "text"), "x")).toBeNull();
  });
});

describe("columns that are only searched", () => {
  it("pass untouched where the type cannot hold text, or nobody asks", () => {
    for (const typeOid of [oids.bool, oids.bytea, oids.int8, oids.date, more.uuid, more.numeric, more.int4Array]) {
      expect(scanCell(rulesOf(REDACT), typeOid, "text")).toBeNull();
      expect(scanCell(rulesOf(REDACT), typeOid, "binary")).toBeNull();
    }
    expect(scanCell([], oids.text, "text")).toBeNull();
  });

  it.each([
    ["nothing", "Springfield, order 12 of 31", undefined],
    ["nothing short", "a@b", undefined],
    ["no value", "", undefined],
    ["one", "ssn 219-05-1123 on file", "ssn **** on file"],
    ["several", "a@example.org, b@example.org", "****, ****"],
    ["among letters of more bytes", "Zoë 😀 219-05-1123 né", "Zoë 😀 **** né"],
    ["with typographic hyphens", "號219\u201105\u20111123号", "號****号"],
  ])("finds %s", (_, value, expected) => expect(scan(value)).toBe(expected));

  it("applies each rule's own operator, and the constant where rules overlap", () => {
    const [ssn, email] = builtins as [Detector, Detector];
    const digits = compileDetector("DIGITS", { kind: "pattern", pattern: "[0-9]{3}-[0-9]{2}", context: [] });
    const edit = scanCell(
      [
        { detector: ssn, operator: LAST_FOUR },
        { detector: email, operator: REDACT },
      ],
      oids.text,
      "text",
    );
    expect(run(edit, "219-05-1123 a@example.org")).toBe("***-**-1123 ****");
    const overlapping = scanCell(
      [
        { detector: digits, operator: LAST_FOUR },
        { detector: ssn, operator: LAST_FOUR },
      ],
      oids.text,
      "text",
    );
    expect(run(overlapping, "no digits")).toBeUndefined();
    expect(run(overlapping, "x 219-05-1123 y")).toBe("x **** y");
    expect(run(overlapping, "x 219-05 y")).toBe("x **** y");
    expect(run(overlapping, "no digits")).toBeUndefined();
  });

  it("makes the cell NULL where the operator is null", () => expect(scan("ssn 219-05-1123", oids.text, NULL)).toBeNull());

  it("reads what is not UTF-8 byte by byte and keeps the bytes", () => {
    const value = Buffer.concat([Buffer.from([0xff, 0xfe, 0x20]), Buffer.from("219-05-1123"), Buffer.from([0x20, 0xc3])]);
    const edit = scanCell(rulesOf(REDACT), oids.text, "text");
    expect(edit?.(value, 0, value.length)).toEqual(
      Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(" **** "), Buffer.from([0xc3])]),
    );
    // The second byte of à is a no-break space in latin1: only read as UTF-8 this is an address.
    expect(scan(Buffer.concat([Buffer.from([0xff, 0x20]), Buffer.from("info@à.example"), Buffer.from([0x20, 0xff])]))).toBeNull();
  });

  it("equals reading every cell, for any text and any type of text", () => {
    const types = fc.constantFrom(oids.text, oids.json, oids.xml, more.textArray, more.jsonArray, more.record, CITEXT);
    const operators = fc.constantFrom(REDACT, LAST_FOUR, NULL);
    fc.assert(
      fc.property(plantedText, types, operators, fc.constantFrom("text", "binary"), (text, typeOid, operator, format) => {
        const value = typeOid === oids.json ? JSON.stringify({ note: text }) : text;
        const quick = scanCell(rulesOf(operator), typeOid, format);
        expect(run(quick, value)).toEqual(run(scanCell(plainRules(operator), typeOid, format), value));
      }),
      { numRuns: 1_000 },
    );
  });

  it("changes the hits and nothing else", () => {
    fc.assert(
      fc.property(plantedText, (text) => {
        const spans = builtins.flatMap((detector) => detector.scan(text)).sort((a, b) => a.start - b.start);
        const edited = scan(text);
        if (spans.length === 0) expect(edited).toBeUndefined();
        else {
          expect(edited?.startsWith(text.slice(0, spans[0]?.start))).toBe(true);
          expect(edited?.endsWith(text.slice(Math.max(...spans.map(({ end }) => end))))).toBe(true);
        }
      }),
    );
  });
});

describe("JSON", () => {
  it.each([
    ["in a value", '{"note": "mail info@example.org"}', '{"note": "mail ****"}'],
    ["in a member's name", '{"info@example.org": 1}', '{"****": 1}'],
    ["beside escapes", '{"note": "a\\n219-05-1123\\""}', '{"note": "a\\n****\\""}'],
    ["spelled with escapes", '{"note": "2\\u00319-05-1123", "b": [1, 2]}', '{"note": "****", "b": [1, 2]}'],
    ["named by its member", '{"ssn": "219051123"}', '{"ssn": "****"}'],
    ["named by its member, beside an escape", '{"ssn": "219051123\\t"}', '{"ssn": "****"}'],
    ["in a number", '{"pan": 4111111111111111}', null],
    ["in a number that is all there is", "4111111111111111", null],
    ["named by its member, a number", '{"ssn": 219051123}', null],
    ["not at all", '{"note": "\\u00e9 219-05", "n": [1.5, true, null]}', undefined],
  ])("finds a hit %s", (_, value, expected) => {
    expect(scan(value, oids.json)).toBe(expected);
    expect(scan(value, more.jsonb)).toBe(expected);
  });

  it("in binary keeps jsonb's version, and knows no other", () => {
    const edit = scanCell(rulesOf(REDACT), more.jsonb, "binary");
    expect(run(edit, '\u0001["219-05-1123"]')).toBe('\u0001["****"]');
    expect(run(edit, '\u0001["clean"]')).toBeUndefined();
    expect(run(edit, '\u0001{"pan": 4111111111111111}')).toBeNull();
    expect(run(edit, '\u0002["clean"]')).toBeNull();
  });

  it("takes the whole cell when what says it is JSON is not", () => expect(scan('{"a": 219-05-1123', oids.json)).toBeNull());

  it("stays JSON and holds no planted value, however it is spelled", () => {
    const value = fc.oneof(fc.constantFrom(...plantedValues), fc.string({ unit: "grapheme" }), fc.integer(), fc.boolean());
    const document = fc.array(fc.oneof(value, fc.dictionary(fc.string({ unit: "grapheme" }), value, { maxKeys: 4 })));
    fc.assert(
      fc.property(document, fc.boolean(), (json, escape) => {
        const text = escape ? escaped(JSON.stringify(json)) : JSON.stringify(json);
        const edited = scan(text, oids.json);
        const after = edited === undefined ? text : edited;
        if (after === null) return;
        const shown = JSON.stringify(JSON.parse(after));
        for (const planted of plantedValues) if (!planted.startsWith("ssn")) expect(shown).not.toContain(planted);
      }),
    );
  });
});

/** Spells every digit and at sign as an escape where that keeps the JSON what it is: inside string literals. */
function escaped(json: string): string {
  return json.replaceAll(/"(?:[^"\\]|\\.)*"/gsu, (literal) =>
    literal.includes("\\")
      ? literal
      : literal.replaceAll(/[0-9@]/gu, (character) => `\\u00${character.charCodeAt(0).toString(16)}`),
  );
}

describe("XML, array and composite literals", () => {
  it.each([
    ["XML text", oids.xml, "<a b='x'>info@example.org</a>", "<a b='x'>****</a>"],
    ["XML references", oids.xml, "<a>info&#64;example.org &#x40;</a>", null],
    ["clean XML references", oids.xml, "<a>&#233; &#xFFFFFFFF; &#65;</a>", undefined],
    ["an array", more.textArray, '{info@example.org,"a, b",NULL}', '{****,"a, b",NULL}'],
    ["a quoted element", more.textArray, '{"ssn, 219-05-1123","x\\"y"}', '{"ssn, ****","x\\"y"}'],
    ["an array of JSON", more.jsonArray, '{"{\\"a\\": 4111111111111111}"}', null],
    ["an array of JSON with escapes", more.jsonArray, '{"{\\"a\\": \\"info\\\\u0040example.org\\"}"}', null],
    ["a clean array of JSON", more.jsonArray, '{"{\\"a\\": \\"\\\\u00e9\\"}"}', undefined],
    ["an array of XML with references", 143, "{<a>info&#64;example.org</a>}", null],
    ["an array of XML", 143, "{<a>info@example.org</a>}", "{<a>****</a>}"],
    ["a record", more.record, "(1,info@example.org,)", "(1,****,)"],
    ["a record with a quoted local part", more.record, '(1,"""john doe""@example.org")', null],
    ["citext", CITEXT, "info@example.org", "****"],
    ["a range that reads like JSON", CITEXT, '[123,"4111 1111 1111 1111"]', null],
    ["a clean range that reads like JSON", CITEXT, '[123,"x y"]', undefined],
    ["hstore", CITEXT, '"mail"=>"info@example.org"', '"mail"=>"****"'],
    ["tsvector", more.tsvector, "'info@example.org':1 'x':2", "'****':1 'x':2"],
  ])("%s", (_, typeOid, value, expected) => expect(scan(value, typeOid)).toBe(expected));

  it("hold elements that an anchored pattern can hit", () => {
    const pin = compileDetector("PIN", { kind: "pattern", pattern: "^[0-9]{4}$", context: [] });
    const pinScan = (typeOid: number, value: string): string | null | undefined =>
      run(scanCell([{ detector: pin, operator: REDACT }], typeOid, "text"), value);
    expect(pinScan(more.textArray, "{1234,12345}")).toBe("{****,12345}");
    expect(pinScan(oids.json, '["1234", 12345]')).toBe('["****", 12345]');
    expect(pinScan(oids.json, "[1234]")).toBeNull();
    expect(pinScan(oids.xml, "<a>1234</a>")).toBeNull();
    expect(pinScan(oids.text, "1234 ")).toBeUndefined();
  });
});
