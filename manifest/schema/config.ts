/** JSON Schema of kind Config: one installation. It has no metadata and no spec: a file is one installation. */
import { environmentName, plainText, type Schema } from "./words.ts";

/** Relative to the configuration file. */
const file: Schema = { ...plainText, description: "Relative to this file." };

export const configSchema: Schema = {
  type: "object",
  description: "One installation: which parts run, where they listen, which secrets the agent may use.",
  properties: {
    apiVersion: { const: "sluice/v1" },
    kind: { const: "Config" },
    controlPlane: {
      type: "object",
      properties: {
        store: {
          ...plainText,
          "x-check": "store",
          default: "embedded",
          description: "embedded, or postgres://user@host/database.",
        },
        listen: {
          ...plainText,
          "x-check": "listenAddress",
          default: "127.0.0.1:0",
          description: "host:port; port 0 is any free one.",
        },
        developmentIssuer: { type: "boolean", default: true },
      },
      additionalProperties: false,
    },
    dataPlane: {
      type: "object",
      "x-check": "listeners",
      properties: {
        listeners: {
          type: "array",
          maxItems: 64,
          items: {
            type: "object",
            properties: {
              protocol: { enum: ["postgres"] },
              listen: { ...plainText, "x-check": "listenAddress" },
              proxyProtocolFrom: {
                type: "array",
                items: { ...plainText, "x-check": "ipAddress" },
                uniqueItems: true,
                description: "Addresses that put a PROXY protocol v2 header before each connection.",
              },
            },
            required: ["protocol", "listen"],
            additionalProperties: false,
          },
        },
        tls: {
          if: { type: "object", required: ["mode"] },
          // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema; nobody awaits this object
          then: {
            type: "object",
            properties: { mode: { enum: ["self-signed", "plaintext-loopback"] } },
            additionalProperties: false,
          },
          else: {
            type: "object",
            properties: { certFile: file, keyFile: file },
            required: ["certFile", "keyFile"],
            additionalProperties: false,
          },
        },
      },
      additionalProperties: false,
    },
    agent: {
      type: "object",
      properties: {
        secrets: {
          type: "array",
          maxItems: 10_000,
          items: {
            type: "object",
            properties: {
              env: environmentName,
              file,
              targets: {
                type: "array",
                items: {
                  type: "string",
                  pattern: "^[^\\s:]*[^\\s]*:[0-9*]+$",
                  "x-says": "host:port, in which '*' matches any run of characters",
                },
                minItems: 1,
                maxItems: 1_000,
                uniqueItems: true,
              },
            },
            required: ["targets"],
            additionalProperties: false,
            "x-check": "oneSecretSource",
          },
        },
      },
      additionalProperties: false,
    },
    events: {
      type: "object",
      "x-check": "eventBus",
      properties: { bus: { enum: ["embedded", "nats"], default: "embedded" }, servers: { type: "array", items: plainText } },
      additionalProperties: false,
    },
    recorder: {
      type: "object",
      properties: {
        store: {
          ...plainText,
          "x-check": "recordingStore",
          default: "file:recordings",
          description: "file:DIRECTORY, relative to the data directory.",
        },
      },
      additionalProperties: false,
    },
    limits: {
      type: "object",
      "x-check": "limitNames",
      additionalProperties: { type: "integer", minimum: 1, maximum: Number.MAX_SAFE_INTEGER },
      description: "Bounds that differ from the defaults, by name.",
    },
    manifests: { type: "array", items: file, uniqueItems: true, maxItems: 1_000 },
  },
  required: ["apiVersion", "kind"],
  additionalProperties: false,
};
