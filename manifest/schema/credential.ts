/** JSON Schema of where a resource's credentials come from. A secret itself has no place in it, but for what only agents can open. */
import { absolutePath, dnsLabel, environmentName, plainText, type Schema } from "./words.ts";

/** What a path inside Vault is: segments that are not empty and do not go up. */
const vaultPath: Schema = {
  type: "string",
  maxLength: 1_024,
  pattern: "^[A-Za-z0-9_][A-Za-z0-9_.-]*(/(?!\\.{1,2}(/|$))[^/\\\\\\s\\u0000-\\u001f\\u007f]+)+$",
};

const vault: Schema = {
  type: "object",
  properties: {
    kv: {
      ...vaultPath,
      "x-says": "MOUNT/PATH of a secret, such as secret/orders, without '/' at its ends",
      description: "A secret of a KV engine, version 2.",
    },
    database: {
      ...vaultPath,
      "x-says": "MOUNT/ROLE of a database engine, such as database/orders-app",
      description: "An account that Vault makes and withdraws.",
    },
    mount: {
      ...vaultPath,
      pattern: "^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$",
      "x-says": "the beginning of the path where the engine is mounted, such as team/kv",
      description: "How much of the path is the mount, where that is more than its first part.",
    },
    field: { ...plainText, description: "Of a database account: username or password." },
    server: { ...dnsLabel, description: "A server of the agent's configuration; the one without a name when absent." },
  },
  required: ["field"],
  additionalProperties: false,
  "x-check": "vaultSecret",
};

const kubernetes: Schema = {
  type: "object",
  properties: {
    secret: {
      type: "string",
      maxLength: 320,
      pattern: "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
      "x-says": "a secret as NAME or NAMESPACE/NAME",
      description: "Without a namespace: the one of the agent's configuration.",
    },
    key: {
      type: "string",
      maxLength: 253,
      pattern: "^(?!\\.{1,2}$)[A-Za-z0-9._-]+$",
      "x-says": "a key of the secret's data: letters, digits, '.', '_' and '-'",
    },
  },
  required: ["secret", "key"],
  additionalProperties: false,
};

/** Twice what the longest secret needs, and a hundred agents. Characters. */
const SEALED_CHARS_MAX = 131_072;

const secret: Schema = {
  type: "object",
  properties: {
    value: { ...plainText, description: "The user name itself. Never for passwords." },
    env: environmentName,
    file: absolutePath,
    vault,
    kubernetes,
    sealed: {
      type: "string",
      minLength: 1,
      maxLength: SEALED_CHARS_MAX,
      "x-says": "a text as `sluice seal` prints it",
      "x-check": "sealedText",
      description: "Encrypted by `sluice seal` to the agents that may open it.",
    },
  },
  minProperties: 1,
  maxProperties: 1,
  additionalProperties: false,
  "x-says": "exactly one of value (user names only), env, file, vault, kubernetes or sealed",
};

export const credential: Schema = {
  type: "object",
  properties: { username: secret, password: { allOf: [secret], type: "object", "x-check": "passwordSource" } },
  required: ["username"],
  additionalProperties: false,
  "x-check": "accountOfOneLease",
  description: "Resolved by the agent, never elsewhere.",
};

export const credentials: Schema = {
  type: "object",
  properties: { readOnly: credential, readWrite: credential },
  required: ["readOnly", "readWrite"],
  additionalProperties: false,
  description: "Two accounts: `readOnly` where policy permits nothing but reading, `readWrite` for all other sessions.",
};
