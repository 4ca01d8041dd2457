/** JSON Schema of kind Resource: one registered target. */
import { absolutePath, environmentName, manifestOf, plainText, type Schema } from "./words.ts";

const databaseName: Schema = { ...plainText, maxLength: 63, "x-says": "a database name of 1 to 63 characters" };

/** Sources that are planned are listed too, so that naming one is answered by what works instead. */
const secret: Schema = {
  type: "object",
  properties: {
    value: { ...plainText, description: "The user name itself. Never for passwords." },
    env: environmentName,
    file: absolutePath,
    vault: { description: "Not available yet." },
    kubernetes: { description: "Not available yet." },
    sealed: { description: "Not available yet." },
  },
  minProperties: 1,
  maxProperties: 1,
  additionalProperties: false,
  "x-says": "exactly one of value (user names only), env or file",
  "x-check": "secretSource",
};

export const resourceSchema: Schema = manifestOf(
  "Resource",
  {
    type: "object",
    properties: {
      protocol: { enum: ["postgres"] },
      target: {
        type: "object",
        properties: {
          address: { ...plainText, "x-check": "targetAddress", description: "host:port; an IPv6 address in brackets." },
          database: databaseName,
          databases: {
            type: "array",
            items: databaseName,
            uniqueItems: true,
            maxItems: 1_000,
            description: "Further databases that callers may name as resource/database.",
          },
          tls: {
            type: "object",
            properties: {
              mode: { enum: ["disable", "require", "verify-ca", "verify-full"], default: "verify-full" },
              caFile: absolutePath,
              serverName: plainText,
            },
            additionalProperties: false,
          },
        },
        required: ["address", "database"],
        additionalProperties: false,
      },
      credential: {
        type: "object",
        properties: { username: secret, password: { allOf: [secret], type: "object", "x-check": "passwordSource" } },
        required: ["username"],
        additionalProperties: false,
        description: "Resolved by the agent, never elsewhere.",
      },
      inspection: {
        type: "object",
        properties: {
          bulk: {
            type: "object",
            properties: {
              rows: { type: "integer", minimum: 0, maximum: 1e12, default: 10_000 },
              limit: { type: "integer", minimum: 0, maximum: 1e12, default: 1_000 },
            },
            additionalProperties: false,
          },
          safeFunctions: {
            type: "array",
            items: {
              type: "string",
              pattern: "^[^.\\u0000-\\u001f]+\\.[^.\\u0000-\\u001f]+$",
              "x-says": "a function as schema.name",
            },
            uniqueItems: true,
            maxItems: 10_000,
          },
          recording: { enum: ["auto", "strict", "relaxed"], default: "auto" },
        },
        additionalProperties: false,
      },
    },
    required: ["protocol", "target", "credential"],
    additionalProperties: false,
  },
  "A target that callers reach through the gateway.",
);
