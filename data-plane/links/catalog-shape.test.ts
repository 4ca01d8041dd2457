/** What agents send as catalogs: real ones pass, anything that a part of the gateway would stumble over does not. */
import { zstdCompressSync } from "node:zlib";
import { expect, it } from "vitest";
import { isCatalog } from "./catalog-shape.ts";
import { decodeCatalog } from "./catalog-transfer.ts";

const column = { number: 1, name: "id", typeOid: 23 };
const relation = {
  oid: 1,
  schema: "public",
  name: "orders",
  kind: "table",
  system: false,
  columns: [column, { ...column, number: 2, generatedFrom: [1], rowOf: 7 }],
  parents: [2],
  estimatedRows: -1,
  hiddenFunctions: ["public.f"],
};
const routine = { schema: "public", name: "f", language: "sql", volatility: "stable", kind: "function" };
const followed = {
  ...routine,
  signature: {
    oid: 16_400,
    arguments: [{ name: "a", typeOid: 25, mode: "in" }],
    defaults: 1,
    defaultValues: "1",
    returnTypeOid: 25,
    returnsSet: true,
    returnsRowOf: 1,
    strict: false,
    securityDefiner: true,
  },
  body: { text: "SELECT 1", names: "called", searchPath: "public" },
};
const whole = {
  epoch: "e",
  protocol: "postgres",
  serverVersion: 170_000,
  relations: [relation, { ...relation, oid: 2, kind: "view", definition: "SELECT 1" }],
  functions: [routine],
  builtinFunctions: ["now"],
  userOperators: ["=="],
  userTypes: [{ schema: "public", name: "t", kind: "enum" }],
};

it("takes a whole one", () => {
  expect(isCatalog(whole, "postgres", 100)).toBe(true);
});

it("takes functions with what is needed to follow them, and none with half of it", () => {
  const withFunction = (entry: object): unknown => ({ ...whole, functions: [entry] });
  expect(isCatalog(withFunction(followed), "postgres", 100)).toBe(true);
  expect(isCatalog({ ...whole, databaseOid: 5 }, "postgres", 100)).toBe(true);
  for (const value of [
    { ...whole, databaseOid: "5" },
    withFunction({ ...followed, signature: null }),
    withFunction({ ...followed, signature: { ...followed.signature, oid: "1" } }),
    withFunction({ ...followed, signature: { ...followed.signature, strict: 1 } }),
    withFunction({ ...followed, signature: { ...followed.signature, arguments: [{ name: "a", typeOid: 25, mode: "o" }] } }),
    withFunction({ ...followed, body: "SELECT 1" }),
    withFunction({ ...followed, body: { ...followed.body, names: "any" } }),
  ])
    expect(isCatalog(value, "postgres", 100), JSON.stringify(value)).toBe(false);
});

it("takes none with a part of another shape, wherever it stands", () => {
  const withRelation = (changes: object): unknown => ({ ...whole, relations: [{ ...relation, ...changes }] });
  for (const value of [
    null,
    [],
    { ...whole, protocol: "mysql" },
    { ...whole, epoch: 1 },
    { ...whole, relations: [null] },
    { ...whole, relations: {} },
    { ...whole, functions: [{ ...routine, name: null }] },
    { ...whole, builtinFunctions: [1] },
    { ...whole, userTypes: ["t"] },
    { ...whole, userTypes: [{ schema: "public", name: "t", kind: "enum", parts: ["x"] }] },
    { ...whole, userTypes: [{ schema: "public", name: "t", kind: "enum", code: "public.f" }] },
    { ...whole, userTypes: [{ schema: "public", name: "t", kind: "enum", takesText: 1 }] },
    { ...whole, operators: [{ schema: "public", name: "=", operands: [25] }] },
    { ...whole, userCasts: [{ source: 1, target: 2, context: "implicit", function: "public.f" }] },
    { ...whole, eventFunctions: [1] },
    withRelation({ columns: [null] }),
    withRelation({ columns: [{ ...column, name: 1 }] }),
    withRelation({ columns: [{ ...column, generatedFrom: "1" }] }),
    withRelation({ parents: undefined }),
    withRelation({ definition: {} }),
    withRelation({ system: "no" }),
    withRelation({ hiddenFunctions: [{}] }),
    withRelation({ readingFunctions: "public.f" }),
  ])
    expect(isCatalog(value, "postgres", 100), JSON.stringify(value)).toBe(false);
});

it("takes no more rows than an agent reads", () => {
  // Two relations of two columns each, a function, a built-in, an operator, a type.
  expect(isCatalog(whole, "postgres", 10)).toBe(true);
  expect(isCatalog(whole, "postgres", 9)).toBe(false);
});

it("does not parse what is small on the wire and endless in memory, and goes on with the next", () => {
  const bounds = { bytesMax: 128 * 1024 * 1024, rowsMax: 100_000 };
  // Three KiB that would become twenty million lists.
  const bomb = zstdCompressSync(Buffer.concat([Buffer.from('{"epoch":"e","relations":[[]'), Buffer.alloc(60_000_000, ",[]")]));
  expect(bomb.length).toBeLessThan(64 * 1024);
  const before = process.memoryUsage().heapUsed;
  const unavailable = expect.objectContaining({ code: "catalog_unavailable" });
  expect(() => decodeCatalog(bomb, "postgres", bounds)).toThrow(unavailable);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(200 * 1024 * 1024);
  expect(decodeCatalog(zstdCompressSync(JSON.stringify(whole)), "postgres", bounds)).toEqual(whole);
  // A long text is one value, whatever it holds.
  const text = { ...whole, relations: [{ ...relation, definition: '[{,"\\'.repeat(4_000_000) }] };
  expect(decodeCatalog(zstdCompressSync(JSON.stringify(text)), "postgres", bounds)).toEqual(text);
  expect(() => decodeCatalog(zstdCompressSync(JSON.stringify(text)), "postgres", { ...bounds, bytesMax: 10_000 })).toThrow(
    unavailable,
  );
});

it.each([
  ["is not compressed", Buffer.from(JSON.stringify(whole))],
  ["is no JSON", zstdCompressSync("{")],
  ["is of another protocol", zstdCompressSync(JSON.stringify({ ...whole, protocol: "mysql" }))],
  ["lacks a part", zstdCompressSync(JSON.stringify({ ...whole, relations: undefined }))],
  ["is no object", zstdCompressSync("null")],
])("one that %s is not taken", (_, bytes) => {
  expect(() => decodeCatalog(bytes, "postgres", { bytesMax: 1_000_000, rowsMax: 100 })).toThrow(
    expect.objectContaining({ code: "catalog_unavailable" }),
  );
});
