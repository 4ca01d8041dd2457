/** JSON Schema of kind Policy: principals x resources -> rules. */
import { defaultLimits } from "@sluice/core/limits.ts";
import { dnsLabel, duration, entity, labels, manifestOf, plainText, reason, type Schema, texts } from "./words.ts";

const when: Schema = {
  type: "string",
  minLength: 1,
  maxLength: defaultLimits.conditionCharsMax,
  description: "A CEL condition over principal, resource, statement, session and request; absent means always.",
};

const kept: Schema = { type: "integer", minimum: 0, maximum: 64 };

/** Either a word (null as YAML writes it, or as text), or the partial form: told apart by type, so that faults stay precise. */
const operator: Schema = {
  if: { type: "object" },
  // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema; nobody awaits this object
  then: {
    type: "object",
    properties: {
      partial: {
        type: "object",
        properties: { keepFirst: kept, keepLast: kept },
        minProperties: 1,
        additionalProperties: false,
        "x-says": "keepFirst, keepLast or both",
        "x-check": "partialKeeps",
      },
    },
    required: ["partial"],
    additionalProperties: false,
  },
  else: { enum: ["redact", "null", null], "x-says": "redact, null, or partial with keepFirst or keepLast" },
};

function rule(effect: string, properties: Schema, required: readonly string[]): Schema {
  return {
    type: "object",
    properties: { name: dnsLabel, effect: { const: effect }, when, reason, ...properties },
    required: ["name", "effect", ...required],
    additionalProperties: false,
  };
}

export const policySchema: Schema = manifestOf(
  "Policy",
  {
    type: "object",
    properties: {
      principals: {
        type: "object",
        properties: {
          groups: texts,
          subjects: texts,
          kinds: texts,
          owners: texts,
          issuers: texts,
          claims: { type: "object", additionalProperties: plainText, minProperties: 1, maxProperties: 64 },
        },
        additionalProperties: false,
        description: "All given parts must match, any one of a list is enough; {} is every authenticated principal.",
      },
      resources: {
        type: "object",
        properties: {
          names: { type: "array", items: dnsLabel, minItems: 1, maxItems: 1_000, uniqueItems: true },
          labels: { ...labels, minProperties: 1 },
        },
        additionalProperties: false,
        description: "All given parts must match; {} is every resource.",
      },
      rules: {
        type: "array",
        minItems: 1,
        maxItems: 1_000,
        "x-check": "uniqueRuleNames",
        items: {
          type: "object",
          discriminator: { propertyName: "effect" },
          required: ["effect"],
          oneOf: [
            rule("allow", {}, []),
            rule("deny", {}, []),
            rule(
              "mask",
              {
                entities: { type: "array", items: entity, minItems: 1, maxItems: 1_000, uniqueItems: true },
                operator,
                influences: { enum: ["equality", "allow", "deny"], default: "equality" },
              },
              ["entities", "operator"],
            ),
            rule("limit", { rows: { type: "integer", minimum: 1, maximum: 1e12 } }, ["rows"]),
            rule(
              "approve",
              {
                reviewers: {
                  type: "object",
                  properties: { groups: texts, count: { type: "integer", minimum: 1, maximum: 10, default: 1 } },
                  required: ["groups"],
                  additionalProperties: false,
                },
                timeout: { ...duration, "x-check": "approvalTimeout", default: "5m" },
              },
              ["reviewers"],
            ),
          ],
        },
      },
    },
    required: ["principals", "resources", "rules"],
    additionalProperties: false,
  },
  "Who may do what on which resources.",
);
