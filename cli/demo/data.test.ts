import { describe, expect, it } from "vitest";
import { demoFiles } from "./declarations.ts";
import { type DemoTable, generateDemoData, luhnDigit } from "./data.ts";
import { walkThroughText } from "./walk-through.ts";
import { compileSnapshot } from "@sluice/inspect/policy/compile.ts";
import { parseConfig } from "@sluice/manifest/config.ts";
import { parseManifests } from "@sluice/manifest/manifests.ts";

const size = { customers: 300, orders: 500, notes: 200 };

function column(tables: readonly DemoTable[], table: string, name: string): readonly string[] {
  const found = tables.find((one) => one.name === table)?.columns.find((one) => one.name === name);
  return (found?.values ?? []).map(String);
}

describe("demo data", () => {
  const tables = generateDemoData(size);

  it("is the same every time and whole", () => {
    expect(generateDemoData(size)).toEqual(tables);
    for (const table of tables) expect(new Set(table.columns.map((one) => one.values.length)).size, table.name).toBe(1);
    expect(new Set(column(tables, "customers", "email")).size).toBe(size.customers);
  });

  it("holds card numbers that pass Luhn and begin like test numbers", () => {
    // Published test numbers, to check the check.
    for (const known of ["4111111111111111", "378282246310005"]) expect(luhnDigit(known.slice(0, -1))).toBe(Number(known.at(-1)));
    for (const number of column(tables, "cards", "card_number")) {
      expect(number).toMatch(/^(411111|424242|555555|601111|378282)\d{9,10}$/);
      expect(luhnDigit(number.slice(0, -1))).toBe(Number(number.at(-1)));
    }
  });

  it("holds nobody's numbers and addresses", () => {
    for (const ssn of column(tables, "customers", "ssn")) expect(ssn).toMatch(/^8\d\d-(?!00)\d\d-(?!0000)\d{4}$/);
    for (const email of column(tables, "customers", "email")) expect(email).toMatch(/@example\.(com|org|net)$/);
    for (const phone of column(tables, "customers", "phone")) expect(phone).toMatch(/-555-01\d\d$/);
  });

  it("has values inside free text", () => {
    const bodies = column(tables, "support_notes", "body").join("\n");
    expect(bodies).toMatch(/SSN 8\d\d-/);
    expect(bodies).toMatch(/card \d{15}/);
    expect(bodies).toContain("@example.");
  });
});

describe("demo declarations", () => {
  it("are valid: configuration, manifests, conditions", () => {
    const files = demoFiles({ listener: 6543, target: 5432 }, "demo", "demo_app");
    const config = parseConfig(
      { path: "config.yaml", text: files["config.yaml"] ?? "" },
      { configDirectory: "/c", dataDirectory: "/d" },
    );
    expect(config.faults).toEqual([]);
    const manifests = Object.entries(files).filter(([name]) => name.startsWith("manifests/"));
    const set = parseManifests(manifests.map(([path, text]) => ({ path, text })));
    expect(set.faults).toEqual([]);
    expect(compileSnapshot(set.snapshot).faults).toEqual([]);
  });
});

describe("walk-through", () => {
  it("verifies the server in every connection it shows, and quotes what needs it", () => {
    const text = walkThroughText({ host: "127.0.0.1", port: 6543, caFile: "/a b/ca.pem", readyFile: "/a b/ready.json" });
    expect(text).toContain("sslmode=verify-full sslrootcert='/a b/ca.pem'");
    expect(text.match(/sslmode=\S+/g)).toEqual(["sslmode=verify-full"]);
    expect(text).toContain("--ready-file '/a b/ready.json'");
    expect(walkThroughText({ host: "127.0.0.1", port: 1, caFile: "/ca.pem", readyFile: undefined })).not.toContain(
      "--ready-file",
    );
  });
});
