/** JSON Schema of the agent's section of a configuration: which secrets it may use, and where they are. */
import { file, vaultMount } from "./config-words.ts";
import { dnsLabel, environmentName, plainText, type Schema } from "./words.ts";

const address: Schema = { ...plainText, "x-check": "secretServerUrl" };

const binding: Schema = {
  type: "object",
  properties: {
    env: environmentName,
    file,
    vault: {
      ...plainText,
      "x-check": "vaultPattern",
      description:
        "MOUNT/PATH of a key or MOUNT/ROLE of a database account, after SERVER: for a server with a name; '*' is any run of characters.",
    },
    kubernetes: {
      type: "string",
      maxLength: 512,
      pattern: "^([a-z0-9*][a-z0-9*-]*/)?[a-z0-9*][a-z0-9.*-]*$",
      "x-says": "a secret as NAME or NAMESPACE/NAME, in which '*' matches any run of characters",
    },
    sealed: { enum: [true], "x-says": "true: whatever was sealed to this agent's key" },
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
};

const vault: Schema = {
  type: "object",
  properties: {
    name: { ...dnsLabel, default: "default", description: "What credentials call it; the one without a name is `default`." },
    address,
    caFile: file,
    namespace: plainText,
    auth: {
      type: "object",
      properties: {
        tokenFile: file,
        tokenEnv: environmentName,
        appRole: {
          type: "object",
          properties: { mount: { ...vaultMount, default: "approle" }, roleId: plainText, secretIdFile: file },
          required: ["roleId", "secretIdFile"],
          additionalProperties: false,
        },
        kubernetes: {
          type: "object",
          properties: { mount: { ...vaultMount, default: "kubernetes" }, role: plainText, tokenFile: file },
          required: ["role"],
          additionalProperties: false,
        },
      },
      additionalProperties: false,
      "x-check": "oneVaultLogin",
    },
  },
  required: ["address", "auth"],
  additionalProperties: false,
};

export const agentSection: Schema = {
  type: "object",
  properties: {
    secrets: { type: "array", maxItems: 10_000, items: binding },
    nearest: { type: "integer", minimum: 1, maximum: 64, default: 2, description: "How many gateways it keeps links to." },
    vaults: { type: "array", maxItems: 100, items: vault, "x-check": "uniqueVaultNames" },
    kubernetes: {
      type: "object",
      properties: {
        address,
        caFile: file,
        tokenFile: file,
        namespace: { ...dnsLabel, description: "Of secrets that name none; the agent's own when absent." },
      },
      additionalProperties: false,
      description: "The Kubernetes API; what is left out is as a pod finds it.",
    },
  },
  additionalProperties: false,
};
