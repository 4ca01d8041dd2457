/** Merging documents by kind and name: what stays, what is written, what goes. */
import { expect, it } from "vitest";
import { type NamedDocument, type Origin, planApply, type StoredDocument } from "./plan.ts";

const named = (name: string, text: string, line = 1): NamedDocument => ({ kind: "Policy", name, path: "p.yaml", line, text });
const stored = (name: string, text: string, origin: Origin): StoredDocument => ({ ...named(name, text), origin });

it("creates, updates, leaves alone", () => {
  const before = [stored("a", "1\n", "apply"), stored("b", "1\n", "apply"), stored("z", "1\n", "apply")];
  const plan = planApply([named("b", "2\n"), named("a", "1\n"), named("c", "1\n")], before, "apply");
  expect(plan.changes).toEqual([
    { kind: "Policy", name: "b", change: "updated" },
    { kind: "Policy", name: "a", change: "unchanged" },
    { kind: "Policy", name: "c", change: "created" },
  ]);
  expect(plan.written.map(({ name, change }) => [name, change])).toEqual([
    ["b", "updated"],
    ["c", "created"],
  ]);
  expect(plan.kept.map(({ name }) => name)).toEqual(["z"]);
  expect(plan.removed).toEqual([]);
});

it("treats the configuration's documents as a set, and leaves what was applied through the API", () => {
  const before = [stored("gone", "1\n", "config"), stored("held", "1\n", "apply"), stored("mine", "1\n", "apply")];
  const plan = planApply([named("held", "1\n")], before, "config");
  expect(plan.kept.map(({ name }) => name)).toEqual(["mine"]);
  expect(plan.removed.map(({ name }) => name)).toEqual(["gone"]);
  expect(plan.changes).toEqual([
    { kind: "Policy", name: "held", change: "unchanged" },
    { kind: "Policy", name: "gone", change: "removed" },
  ]);
  // The same text, but now the configuration's: it goes when the configuration drops it.
  expect(plan.written.map(({ name }) => name)).toEqual(["held"]);
});

it("notes where a document stands now without a new revision", () => {
  const before = [{ ...stored("a", "1\n", "config"), path: "/host-a/p.yaml" }, stored("b", "1\n", "config")];
  const plan = planApply([named("a", "1\n"), named("b", "1\n", 7)], before, "config");
  expect(plan.written).toEqual([]);
  expect(plan.moved).toEqual([named("a", "1\n"), named("b", "1\n", 7)]);
  expect(plan.changes.map(({ change }) => change)).toEqual(["unchanged", "unchanged"]);
});

it("does not take a name of one kind for that of another", () => {
  const before = [{ ...stored("a", "1\n", "apply"), kind: "Resource" }];
  expect(planApply([named("a", "1\n")], before, "apply").changes).toEqual([{ kind: "Policy", name: "a", change: "created" }]);
});
