/** JSON Schema of kind Resource: one registered target. */
import { credential, credentials } from "./credential.ts";
import { absolutePath, duration, labels, manifestOf, plainText, type Schema } from "./words.ts";

const databaseName: Schema = { ...plainText, maxLength: 63, "x-says": "a database name of 1 to 63 characters" };

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
          failover: {
            type: "array",
            items: { ...plainText, "x-check": "targetAddress" },
            minItems: 1,
            maxItems: 16,
            uniqueItems: true,
            description: "Further addresses of the same database, tried in this order when the ones before do not answer.",
          },
          role: {
            enum: ["primary", "any"],
            default: "any",
            description: "primary: a host that is in recovery or read-only is passed over.",
          },
          pool: {
            type: "object",
            properties: {
              connections: { type: "integer", minimum: 1, maximum: 10_000 },
              idle: { ...duration, "x-check": "poolIdle", default: "60s" },
            },
            required: ["connections"],
            additionalProperties: false,
            description: "Connections that later sessions use again, after a reset; without it each session has its own.",
          },
        },
        required: ["address", "database"],
        additionalProperties: false,
        "x-check": "failover",
      },
      credential,
      credentials,
      agents: {
        type: "object",
        properties: { labels: { ...labels, minProperties: 1 } },
        required: ["labels"],
        additionalProperties: false,
        description: "Labels that an agent must carry to reach it; without it any agent may.",
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
    required: ["protocol", "target"],
    additionalProperties: false,
    "x-check": "oneCredential",
  },
  "A target that callers reach through the gateway.",
);
