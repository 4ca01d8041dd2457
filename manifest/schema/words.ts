/**
 * Pieces that several kinds share, as JSON Schema data (draft 2020-12). `x-says` is what a person is told
 * when a piece does not fit, `x-check` names a check of `checks.ts`. Editors know neither and need neither.
 */

/** Plain data: the same objects validate manifests and are printed for editors. */
export type Schema = { readonly [keyword: string]: unknown };

export const dnsLabel: Schema = {
  type: "string",
  pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
  "x-says": "a name of lower-case letters, digits and '-', at most 63 characters, such as orders-eu",
};

/** Control characters would break messages, logs and wire formats. */
export const plainText: Schema = {
  type: "string",
  minLength: 1,
  maxLength: 1_024,
  pattern: "^[^\\u0000-\\u001f\\u007f]+$",
  "x-says": "a text of 1 to 1,024 characters on one line",
};

export const reason: Schema = { ...plainText, description: "What a refused caller reads." };

export const texts: Schema = { type: "array", items: plainText, minItems: 1, maxItems: 1_000, uniqueItems: true };

export const labels: Schema = { type: "object", additionalProperties: plainText, maxProperties: 64 };

export const entity: Schema = {
  type: "string",
  pattern: "^[A-Z][A-Z0-9_]{0,63}$",
  "x-says": "an entity in capital letters, digits and '_', such as US_SSN",
};

export const duration: Schema = {
  type: "string",
  pattern: "^[0-9]{1,9}(ms|s|m|h)$",
  "x-says": "a duration such as 500ms, 60s, 5m or 1h",
};

export const absolutePath: Schema = {
  type: "string",
  maxLength: 1_024,
  pattern: "^/[^\\u0000-\\u001f\\u007f]+$",
  "x-says": "an absolute path such as /run/secrets/orders",
};

export const environmentName: Schema = {
  type: "string",
  pattern: "^[A-Za-z_][A-Za-z0-9_]{0,255}$",
  "x-says": "the name of an environment variable, such as ORDERS_PASSWORD",
};

/** One document: the envelope that all kinds share around the `spec` (and for Config around its own sections). */
export function manifestOf(kind: string, spec: Schema, description: string): Schema {
  return {
    type: "object",
    description,
    properties: {
      apiVersion: { const: "sluice/v1" },
      kind: { const: kind },
      metadata: {
        type: "object",
        properties: { name: dnsLabel, labels },
        required: ["name"],
        additionalProperties: false,
      },
      spec,
    },
    required: ["apiVersion", "kind", "metadata", "spec"],
    additionalProperties: false,
  };
}
