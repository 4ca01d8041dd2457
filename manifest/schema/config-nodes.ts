/** JSON Schema of the sections of a configuration that tell who a process is, and of the control plane's. */
import { advertisedAddress, file, hosts, listenAddress } from "./config-words.ts";
import { dnsLabel, duration, environmentName, labels, plainText, type Schema } from "./words.ts";

export const nodeSection: Schema = {
  type: "object",
  description: "Who this process is among several. Not needed where everything is one process.",
  properties: {
    name: { ...dnsLabel, description: "Unique among the nodes of its role." },
    region: { ...plainText, maxLength: 128 },
    controlPlanes: {
      type: "array",
      items: advertisedAddress,
      minItems: 1,
      maxItems: 16,
      uniqueItems: true,
      description: "Where each control plane listens for nodes.",
    },
    join: {
      type: "object",
      properties: { tokenFile: file, tokenEnv: environmentName, workloadTokenFile: file, caFile: file },
      additionalProperties: false,
      "x-check": "joinSource",
      description: "What the first start enrols with: a join token, or the platform's own token with the CA to trust meanwhile.",
    },
  },
  required: ["name"],
  additionalProperties: false,
};

const workload: Schema = {
  type: "object",
  properties: {
    name: dnsLabel,
    issuer: { ...plainText, pattern: "^https?://[^\\s\\u0000-\\u001f]+$", "x-says": "a URL, exactly as the `iss` claim has it" },
    audience: plainText,
    jwksUri: { ...plainText, "x-check": "keyUrl", description: "Discovered from the issuer when absent." },
    caFile: file,
    tokenFile: { ...file, description: "A token that is sent to `jwksUri`, where the platform asks for one." },
    role: { enum: ["gateway", "agent", "recorder"] },
    claims: {
      type: "object",
      additionalProperties: plainText,
      minProperties: 1,
      maxProperties: 64,
      "x-says": "at least one claim that tells this workload from all others of the issuer, such as sub",
      description: "Claims that a token must have, exactly.",
    },
    namePrefix: {
      type: "string",
      pattern: "^[a-z0-9][a-z0-9-]{0,61}$",
      "x-says": "the beginning of a node's name: lower-case letters, digits and '-'",
    },
    labels,
    hosts,
  },
  required: ["name", "issuer", "audience", "role", "claims"],
  "x-check": "workloadKeys",
  additionalProperties: false,
};

export const controlPlaneSection: Schema = {
  type: "object",
  "x-check": "sharedStore",
  properties: {
    store: {
      ...plainText,
      "x-check": "store",
      default: "embedded",
      description: "embedded, or postgres://user@host/database.",
    },
    listen: { ...listenAddress, default: "127.0.0.1:0" },
    hosts: { ...hosts, description: "Further names and addresses in the admin API's certificate." },
    developmentIssuer: { type: "boolean", default: true },
    nodes: {
      type: "object",
      properties: { listen: listenAddress, hosts },
      required: ["listen"],
      additionalProperties: false,
      description: "Where other processes enrol and are told what to do.",
    },
    encryptionKey: {
      type: "object",
      properties: {
        file,
        env: environmentName,
        command: { type: "array", items: plainText, minItems: 1, maxItems: 64 },
      },
      additionalProperties: false,
      "x-check": "oneKeySource",
      description: "What the keys in the store are encrypted under; made in the data directory when absent.",
    },
    workloads: { type: "array", items: workload, maxItems: 100, "x-check": "uniqueNames" },
    lease: {
      type: "object",
      properties: {
        policy: { ...duration, "x-check": "leaseTime", default: "4h" },
        strict: { ...duration, "x-check": "leaseTime", default: "1h" },
      },
      additionalProperties: false,
      "x-check": "leaseOrder",
      description: "How long nodes that hear nothing more go on: in general, and for resources that are recorded strictly.",
    },
  },
  additionalProperties: false,
};
