import { describe, expect, it } from "vitest";
import { findEmailAddresses } from "./email-address.ts";

const found = (text: string): readonly string[] => findEmailAddresses(text).map(({ start, end }) => text.slice(start, end));

describe("e-mail addresses", () => {
  it.each([
    ["write to info@example.org.", ["info@example.org"]],
    ["<a.b+tag@mail.example.co.uk>", ["a.b+tag@mail.example.co.uk"]],
    ["a@x.org,b@y.org;c@z.org", ["a@x.org", "b@y.org", "c@z.org"]],
    ["user@xn--80ak6aa92e.com", ["user@xn--80ak6aa92e.com"]],
    ["a@xn--d1acufc.xn--p1ai", ["a@xn--d1acufc.xn--p1ai"]],
    ["jürgen@müller.example", ["jürgen@müller.example"]],
    ["用户@例子.中国", ["用户@例子.中国"]],
    ['"john doe"@example.com', ['"john doe"@example.com']],
    ["root@[192.168.0.1]", ["root@[192.168.0.1]"]],
    ["{a@example.com,b@example.com}", ["a@example.com", "b@example.com"]],
    ["'o'brien@example.com'", ["o'brien@example.com"]],
    ["https://user@example.com/path", ["user@example.com"]],
    ["john@example.com.2024", ["john@example.com"]],
    ["john@example.com...", ["john@example.com"]],
    ["a@b.com@c.com", ["a@b.com"]],
    ["mail:under_score@my_host.example", ["under_score@my_host.example"]],
    ["'+'@example.com", ["'+'@example.com"]],
  ])("finds %j", (text, expected) => expect(found(text)).toEqual(expected));

  it.each([
    ["no domain", "info@example. @ a@ @b.com user@localhost"],
    ["a package version", "lodash@4.17.21 node@24.21.0"],
    ["a sign alone", "meet @ 10.30, 5@3.20"],
    ["a broken literal", "root@[192.168.0.1 root@[abc]"],
  ])("passes over %s", (_, text) => expect(found(text)).toEqual([]));

  it("cuts a local part of more than 64 characters, and hits all the same", () => {
    const [span] = findEmailAddresses(`${"a".repeat(100)}@example.com`);
    expect(span).toEqual({ start: 36, end: 112 });
  });

  it("never cuts a character in two", () => {
    const text = `${"😀".repeat(50)}@example.com`;
    const [span] = findEmailAddresses(text);
    expect(text.slice(span?.start, span?.end).isWellFormed()).toBe(true);
  });

  it.each([
    ["@".repeat(500_000)],
    ["a@".repeat(300_000)],
    ['"@'.repeat(300_000)],
    [`a@${"b.".repeat(300_000)}`],
    [`a@${"1.".repeat(120)} `.repeat(2_000)],
  ])("reads hostile text in linear time (%#)", (text) => {
    const started = performance.now();
    findEmailAddresses(text);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});
