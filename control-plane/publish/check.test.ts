/** Faults of manifests: all of them at once, in the order of a reader, also where one document has faults of several kinds. */
import { expect, it } from "vitest";
import { checkManifests } from "./check.ts";

const text = `apiVersion: sluice/v1
kind: Policy
metadata: { name: Bad_Name }
spec:
  principals: { groups: [ ci ] }
  resources: { labels: { env: prod } }
  rules:
    - { name: misspelt, effect: alow, when: "statement.clas == 'read'" }
    - { name: torn, effect: deny, when: "statement.class ==" }
    - { name: declared, effect: allow, when: "session.declared.task == 'x'" }
    - { name: sound, effect: deny, when: "session.declared.task == 'x'" }
    - { name: number, effect: deny, when: 3 }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: badge }
spec: { entity: BADGE, columns: [ "a.b" ], values: { pattern: "(?=x)" } }
`;

it("finds what does not compile although other things are wrong too", () => {
  const { snapshot, faults } = checkManifests([{ path: "p.yaml", text }], []);
  expect(snapshot).toBe(undefined);
  expect(faults.map(({ file, line, message }) => [file, line, message])).toEqual([
    ["p.yaml", 3, expect.stringContaining("metadata.name")],
    ["p.yaml", 8, expect.stringContaining("Did you mean 'allow'?")],
    ["p.yaml", 8, expect.stringContaining("rule 'misspelt': ")],
    ["p.yaml", 9, expect.stringContaining("rule 'torn': ")],
    ["p.yaml", 10, expect.stringContaining("rule 'declared': ")],
    ["p.yaml", 12, expect.stringContaining("spec.rules[4].when")],
    ["p.yaml", 17, expect.stringContaining("spec.columns[0]")],
    ["p.yaml", 17, expect.stringContaining("pattern")],
  ]);
});

it("says once what is wrong at one place", () => {
  const long = text.replace("statement.class ==", "(".repeat(5_000));
  const { faults } = checkManifests([{ path: "p.yaml", text: long }], []);
  expect(faults.filter(({ line }) => line === 9).length).toBe(1);
});

it("keeps the order of files and of their lines", () => {
  const second = text.replaceAll("Bad_Name", "fine").replaceAll("badge", "card").replaceAll("BADGE", "CARD");
  const { faults } = checkManifests(
    [
      { path: "z.yaml", text },
      { path: "a.yaml", text: second },
    ],
    [],
  );
  const places = faults.map(({ file, line }) => `${file}:${String(line).padStart(2, "0")}`);
  expect(places).toEqual([
    ...places.filter((place) => place.startsWith("z")),
    ...places.filter((place) => place.startsWith("a")),
  ]);
  expect(places.filter((place) => place.startsWith("z"))).toEqual(places.filter((place) => place.startsWith("z")).toSorted());
});
