/** Every command of the reference is classified as the table says: class, effects, relations with access. */
import { describe, expect, it } from "vitest";
import { statementClasses } from "../model.ts";
import { commandSamples } from "./command-samples.ts";
import { model } from "./testing.ts";

describe("the commands of the reference", () => {
  it.each(commandSamples.map((sample) => [sample.sql, sample] as const))("%s", (sql, sample) => {
    const { class: statementClass, effects, relations } = model(sql);
    expect({
      class: statementClass,
      effects: effects.map(({ name }) => name),
      relations: relations.map(({ access, name }) => `${access} ${name}`),
    }).toEqual({ class: sample.class, effects: sample.effects, relations: sample.relations });
    expect(statementClasses).toContain(sample.class);
  });

  it("are all there, in order", () => {
    const commands = commandSamples.map(({ command }) => command);
    expect(commands).toEqual([...commands].sort());
    // The 15 to 18 references list the same ones.
    expect(new Set(commands).size).toBe(COMMANDS_OF_THE_REFERENCE);
  });

  it("are never classified by their first words", () => {
    for (const { sql, class: statementClass } of commandSamples) {
      const wrapped = model(`/* SELECT 1; */ -- SELECT 1\n${sql}`);
      expect([sql, wrapped.class]).toEqual([sql, statementClass]);
    }
  });
});

/** Entries of the reference's part "SQL Commands". */
const COMMANDS_OF_THE_REFERENCE = 183;
