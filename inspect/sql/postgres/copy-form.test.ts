/** What the options of COPY TO STDOUT say about its rows, in every syntax that the grammar still takes. */
import type { CopyForm } from "@sluice/core/copy-form.ts";
import { describe, expect, it } from "vitest";
import { model } from "./testing.ts";

const text: CopyForm = { format: "text", header: false, delimiter: "\t", nullText: "\\N", quote: '"', escape: '"' };
const csv: CopyForm = { ...text, format: "csv", delimiter: ",", nullText: "" };

describe("the form of COPY", () => {
  it.each<[string, Partial<CopyForm>]>([
    ["COPY countries TO STDOUT", text],
    ["COPY countries (code) TO STDOUT (FORMAT text, HEADER)", { ...text, header: true }],
    ["COPY (SELECT 1) TO STDOUT (FORMAT csv)", csv],
    [
      "COPY (SELECT 1) TO STDOUT WITH (FORMAT 'csv', HEADER on, DELIMITER ';', NULL 'none')",
      { ...csv, header: true, delimiter: ";", nullText: "none" },
    ],
    ["COPY (SELECT 1) TO STDOUT (FORMAT csv, QUOTE '''', ESCAPE E'\\\\', FORCE_QUOTE *)", { ...csv, quote: "'", escape: "\\" }],
    ["COPY (SELECT 1) TO STDOUT (FORMAT csv, QUOTE '''', FORCE_QUOTE (a, b))", { ...csv, quote: "'", escape: "'" }],
    ["COPY (SELECT 1) TO STDOUT (FORMAT csv, HEADER false)", csv],
    ["COPY (SELECT 1) TO STDOUT (FORMAT csv, HEADER 1, ENCODING 'UTF-8')", { ...csv, header: true }],
    ["COPY (SELECT 1) TO STDOUT (FORMAT csv, HEADER 0, ENCODING utf8)", csv],
    ["COPY (SELECT 1) TO STDOUT (DELIMITER '|', NULL '')", { ...text, delimiter: "|", nullText: "" }],
    ["COPY (SELECT 1) TO STDOUT (FORMAT binary)", { format: "binary", header: false }],
    ["COPY BINARY countries TO STDOUT", { format: "binary" }],
    ["COPY countries TO STDOUT BINARY", { format: "binary" }],
    [
      "COPY countries TO STDOUT WITH CSV HEADER QUOTE AS '''' FORCE QUOTE code",
      { ...csv, header: true, quote: "'", escape: "'" },
    ],
    ["COPY countries TO STDOUT WITH DELIMITER AS '|' NULL AS 'x'", { ...text, delimiter: "|", nullText: "x" }],
    ["COPY countries TO STDOUT USING DELIMITERS '|'", { ...text, delimiter: "|" }],
  ])("%s", (sql, expected) => {
    expect(model(sql).copy).toBe("out");
    expect(model(sql).copyForm).toMatchObject(expected);
  });

  it.each([
    "COPY (SELECT 1) TO STDOUT (ENCODING 'LATIN1')",
    "COPY (SELECT 1) TO STDOUT (ENCODING 'SJIS')",
    "COPY (SELECT 1) TO STDOUT (FORMAT 'json')",
    "COPY (SELECT 1) TO STDOUT (FORMAT 'CSV')",
    "COPY (SELECT 1) TO STDOUT (OIDS)",
    "COPY (SELECT 1) TO STDOUT (HEADER match)",
    "COPY (SELECT 1) TO STDOUT (HEADER 2)",
    "COPY (SELECT 1) TO STDOUT (DELIMITER 'ab')",
    "COPY (SELECT 1) TO STDOUT (DELIMITER 'é')",
    "COPY (SELECT 1) TO STDOUT (DELIMITER 'n')",
    "COPY (SELECT 1) TO STDOUT (NULL E'\\\\')",
    "COPY (SELECT 1) TO STDOUT (NULL E'\\\\x')",
    "COPY (SELECT 1) TO STDOUT (DELIMITER '|', NULL 'a|b')",
    "COPY (SELECT 1) TO STDOUT (FORMAT csv, DELIMITER ',', ESCAPE ',')",
    "COPY (SELECT 1) TO STDOUT (FORMAT csv, NULL '\"')",
    "COPY (SELECT 1) TO STDOUT (SOMETHING)",
    "COPY countries FROM STDIN",
    "COPY countries TO '/tmp/x'",
    "COPY countries TO PROGRAM 'x'",
    "SELECT 1",
  ])("cannot be known, or is none: %s", (sql) => {
    expect(model(sql).copyForm).toBeUndefined();
  });

  it("lists the columns as they are sent", () => {
    expect(model("COPY customers TO STDOUT").columns!.map(({ name }) => name)).toEqual(
      model("SELECT * FROM customers").columns!.map(({ name }) => name),
    );
    expect(model("COPY customers (ssn, id) TO STDOUT").columns!.map(({ name, exact }) => [name, exact])).toEqual([
      ["ssn", true],
      ["id", true],
    ]);
  });
});
