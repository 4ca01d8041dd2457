/** JSON Schema of kind Classifier: an entity and how it is recognised. */
import { builtinDetectors } from "@sluice/core/detectors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { entity, manifestOf, plainText, type Schema, texts } from "./words.ts";

export const classifierSchema: Schema = manifestOf(
  "Classifier",
  {
    type: "object",
    properties: {
      entity,
      columns: {
        type: "array",
        items: {
          type: "string",
          pattern: "^[^.\\u0000-\\u001f]+\\.[^.\\u0000-\\u001f]+\\.[^.\\u0000-\\u001f]+$",
          "x-says": "a column path of three parts, schema.table.column, in which '*' matches within one part",
        },
        minItems: 1,
        maxItems: 10_000,
        uniqueItems: true,
      },
      columnNames: { ...texts, description: "Patterns over names of base columns; '*' matches any run of characters." },
      values: {
        type: "object",
        properties: {
          detector: { enum: builtinDetectors },
          pattern: {
            type: "string",
            minLength: 1,
            maxLength: defaultLimits.detectorPatternCharsMax,
            description: "RE2 syntax.",
          },
          validator: { enum: ["luhn"] },
          context: { type: "array", items: plainText, uniqueItems: true, maxItems: 100 },
        },
        additionalProperties: false,
        "x-check": "valueDetector",
        description: "Either a built-in detector, or a pattern.",
      },
    },
    required: ["entity"],
    "x-check": "classifierMatches",
    additionalProperties: false,
  },
  "What a sensitive value is and where it is found.",
);
