/** Cutting files into documents keeps every line where it was. */
import { expect, it } from "vitest";
import { asFile, splitDocuments } from "./split-documents.ts";

const split = (text: string) => splitDocuments({ path: "a.yaml", text }).map(({ line, text: part }) => [line, part]);

it("cuts at markers and drops documents of comments alone", () => {
  expect(split("# head\n---\nkind: A\nx: 1\n---\n# nothing\n\n---\nkind: B\n...\n")).toEqual([
    [2, "\nkind: A\nx: 1\n"],
    [8, "\nkind: B\n"],
  ]);
  expect(split("kind: A")).toEqual([[1, "kind: A\n"]]);
  expect(split("")).toEqual([]);
  expect(split("---\r\nkind: A\r\n")).toEqual([[1, "\nkind: A\n"]]);
});

it("keeps what stands beside the marker, and is not fooled by look-alikes", () => {
  expect(split("--- {kind: A}\n")).toEqual([[1, "    {kind: A}\n"]]);
  expect(split("kind: A\ntext: |\n  ---\n  no marker\n----\n")).toEqual([[1, "kind: A\ntext: |\n  ---\n  no marker\n----\n"]]);
  expect(split("%YAML 1.2\n---\nkind: A\n")).toEqual([[2, "\nkind: A\n"]]);
});

it("puts each document back on its own lines", () => {
  const text = "kind: A\n---\nkind: B\nname: b\n";
  const [, second] = splitDocuments({ path: "a.yaml", text });
  if (second === undefined) throw new Error("two documents expected");
  expect(asFile(second).text.split("\n")[2]).toBe("kind: B");
  expect(asFile(second).text.split("\n")[3]).toBe("name: b");
});
