import { describe, expect, it } from "vitest";
import { sortStartupParameters } from "./startup-parameters.ts";

function sort(parameters: Readonly<Record<string, string>>): ReturnType<typeof sortStartupParameters> {
  return sortStartupParameters(Object.entries({ user: "me", ...parameters }));
}

describe("sortStartupParameters", () => {
  it("takes the database's name from the user's when there is none", () => {
    expect(sort({})).toEqual({ user: "me", database: "me", target: {}, declared: {} });
    expect(sort({ database: "orders/other" }).database).toBe("orders/other");
  });

  it("forwards what changes formats and limits, whatever the case of its name", () => {
    const { target } = sort({ DateStyle: "ISO", TimeZone: "UTC", application_name: "app", Search_Path: "a, b" });
    expect(target).toEqual({ datestyle: "ISO", timezone: "UTC", application_name: "app", search_path: "a, b" });
  });

  it.each(["UTF8", "utf-8", "unicode", "SQL_ASCII", "'UTF8'"])("accepts client_encoding %s and does not forward it", (value) => {
    expect(sort({ client_encoding: value }).target).toEqual({});
  });

  it("reads options as the server does", () => {
    const options = String.raw`-c sluice.task=T-1 -cstatement_timeout=5s --lock-timeout=1s  -c search_path=a,\ b\\c`;
    expect(sort({ options })).toMatchObject({
      target: { statement_timeout: "5s", lock_timeout: "1s", search_path: String.raw`a, b\c` },
      declared: { task: "T-1" },
    });
  });

  it("lets a parameter win over the same one in options", () => {
    expect(sort({ options: "-c timezone=UTC", TimeZone: "CET" }).target).toEqual({ timezone: "CET" });
  });

  it("keeps odd names as plain properties", () => {
    const { declared } = sort({ "sluice.__proto__": "x" });
    expect(Object.entries(declared)).toEqual([["__proto__", "x"]]);
  });

  it.each([
    [{ client_encoding: "LATIN1" }, /UTF-8 only/],
    [{ options: "-c client_encoding=sjis" }, /UTF-8 only/],
    [{ replication: "database" }, /Replication connections/],
    [{ replication: "off" }, /replication is not accepted/],
    [{ options: "-c role=postgres" }, /the token says who you are/],
    [{ options: "--session-authorization=postgres" }, /the token says who you are/],
    [{ options: "-c standard_conforming_strings=off" }, /"standard_conforming_strings" cannot be chosen/],
    [{ options: "-c backslash_quote=on" }, /"backslash_quote" cannot be chosen/],
    [{ row_security: "off" }, /"row_security" cannot be chosen/],
    [{ "sluice.": "x" }, /"sluice\." cannot be chosen/],
    [{ options: "-d 5" }, /something else than settings/],
    [{ options: "-c" }, /something else than settings/],
    [{ options: "-c =x" }, /something else than settings/],
  ])("refuses %j with a sentence", (parameters, sentence) => {
    expect(() => sort(parameters)).toThrow(
      expect.objectContaining({ code: "unsupported", message: expect.stringMatching(sentence) }),
    );
  });

  it("refuses to go on without a user", () => {
    expect(() => sortStartupParameters([["database", "orders"]])).toThrow(expect.objectContaining({ code: "login_failed" }));
  });
});
