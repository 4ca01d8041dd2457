/** Names made by PREPARE and DECLARE: what replaces what, and when two scopes are the same. */
import { describe, expect, it } from "vitest";
import { model } from "./postgres/testing.ts";
import { applyScopeChange, emptyScope, lookUp } from "./scope.ts";

const ssn = model("SELECT ssn FROM customers WHERE id = 1");
const name = model("SELECT name FROM customers LIMIT 5");
const wide = model("SELECT * FROM countries");

describe("scope", () => {
  it("keeps what was made and forgets what was closed", () => {
    let scope = applyScopeChange(emptyScope, { kind: "prepare", name: "a", model: ssn });
    scope = applyScopeChange(scope, { kind: "prepare", name: "b", model: name });
    scope = applyScopeChange(scope, { kind: "declare", name: "a", model: wide });
    expect([lookUp(scope.prepared, "a"), lookUp(scope.prepared, "b"), lookUp(scope.cursors, "a")]).toEqual([ssn, name, wide]);
    scope = applyScopeChange(scope, { kind: "deallocate", name: "a" });
    expect(Object.keys(scope.prepared)).toEqual(["b"]);
    scope = applyScopeChange(scope, { kind: "close", name: null });
    expect(scope.cursors).toEqual({});
    expect(applyScopeChange(scope, { kind: "deallocate", name: null })).toEqual(emptyScope);
    expect(applyScopeChange(scope, { kind: "discard", what: "all" })).toBe(emptyScope);
  });

  it("has the same digest for the same content, however it came about", () => {
    const one = applyScopeChange(applyScopeChange(emptyScope, { kind: "prepare", name: "a", model: ssn }), {
      kind: "prepare",
      name: "b",
      model: name,
    });
    const two = applyScopeChange(applyScopeChange(emptyScope, { kind: "prepare", name: "b", model: name }), {
      kind: "prepare",
      name: "a",
      model: structuredClone(ssn),
    });
    expect(one.digest).toBe(two.digest);
    expect(applyScopeChange(one, { kind: "deallocate", name: "b" }).digest).not.toBe(one.digest);
    expect(applyScopeChange(emptyScope, { kind: "declare", name: "a", model: ssn }).digest).not.toBe(
      applyScopeChange(emptyScope, { kind: "prepare", name: "a", model: ssn }).digest,
    );
    expect(emptyScope.digest).toBe("");
  });

  it("lets a name made twice stand for both", () => {
    const once = applyScopeChange(emptyScope, { kind: "prepare", name: "a", model: ssn });
    expect(applyScopeChange(once, { kind: "prepare", name: "a", model: ssn })).toEqual(once);
    const twice = lookUp(applyScopeChange(once, { kind: "prepare", name: "a", model: name }).prepared, "a");
    expect(twice).toMatchObject({
      undecided: ["prepared statement a (made twice)"],
      columns: [{ origins: ["public.customers.name", "public.customers.ssn"], exact: false }],
      hasWhere: false,
      limit: null,
      influences: [{ column: "public.customers.id", form: "equality" }],
    });
  });

  it("lets a cursor opened again show either query's columns", () => {
    const once = applyScopeChange(emptyScope, { kind: "declare", name: "c", model: ssn });
    const twice = lookUp(applyScopeChange(once, { kind: "declare", name: "c", model: wide }).cursors, "c");
    expect(twice).toMatchObject({
      undecided: [],
      columnsKnown: false,
      columns: [
        { name: "*", origins: ["public.countries.code", "public.countries.label", "public.customers.ssn"], exact: false },
      ],
      bulkShape: true,
    });
  });

  it("is not confused by names that objects have by nature", () => {
    expect(lookUp(emptyScope.prepared, "toString")).toBeUndefined();
    const scope = applyScopeChange(emptyScope, { kind: "prepare", name: "__proto__", model: ssn });
    expect(lookUp(scope.prepared, "__proto__")).toEqual(ssn);
    expect(applyScopeChange(scope, { kind: "deallocate", name: "__proto__" })).toEqual(emptyScope);
  });
});
