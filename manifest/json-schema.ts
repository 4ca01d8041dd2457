/**
 * The JSON Schemas of all kinds: what `parseManifests` and `parseConfig` check, and one schema over them for editors. Printed
 * to `docs/reference/manifest.schema.json` by `print-schema.ts`; a test says when that file is behind.
 */
import { classifierSchema } from "./schema/classifier.ts";
import { configSchema } from "./schema/config.ts";
import { identityProviderSchema } from "./schema/identity-provider.ts";
import { policySchema } from "./schema/policy.ts";
import { resourceSchema } from "./schema/resource.ts";
import type { Schema } from "./schema/words.ts";

export type { Schema } from "./schema/words.ts";
export { configSchema } from "./schema/config.ts";

/** By kind. */
export const manifestSchemas: {
  readonly Resource: Schema;
  readonly Classifier: Schema;
  readonly Policy: Schema;
  readonly IdentityProvider: Schema;
} = {
  Resource: resourceSchema,
  Classifier: classifierSchema,
  Policy: policySchema,
  IdentityProvider: identityProviderSchema,
};

/** One schema for files of any kind. Our own words (`x-says`, `x-check`) are left out: editors do not know them. */
export function editorSchema(): Schema {
  const kinds: Readonly<Record<string, Schema>> = { ...manifestSchemas, Config: configSchema };
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Sluice manifests and configuration",
    type: "object",
    required: ["apiVersion", "kind"],
    properties: { apiVersion: { const: "sluice/v1" }, kind: { enum: Object.keys(kinds) } },
    allOf: Object.keys(kinds).map((kind) => ({
      if: { properties: { kind: { const: kind } }, required: ["kind"] },
      // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema; nobody awaits this object
      then: { $ref: `#/$defs/${kind}` },
    })),
    $defs: Object.fromEntries(Object.entries(kinds).map(([kind, schema]) => [kind, withoutOwnWords(schema)])),
  };
}

function withoutOwnWords(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutOwnWords);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([key]) => key !== "x-says" && key !== "x-check" && key !== "discriminator");
  return Object.fromEntries(kept.map(([key, item]) => [key, withoutOwnWords(item)]));
}
