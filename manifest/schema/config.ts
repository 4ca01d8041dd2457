/** JSON Schema of kind Config: one process, or one installation in one process. It has no metadata and no spec. */
import { agentSection } from "./config-agent.ts";
import { controlPlaneSection, nodeSection } from "./config-nodes.ts";
import { advertisedAddress, file, hosts, listenAddress } from "./config-words.ts";
import { plainText, type Schema } from "./words.ts";

const dataPlaneSection: Schema = {
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
          listen: listenAddress,
          proxyProtocolFrom: {
            type: "array",
            items: { ...plainText, "x-check": "ipAddress" },
            uniqueItems: true,
            description: "Addresses that put a PROXY protocol v2 header before each connection.",
          },
          advertise: { ...advertisedAddress, description: "host:port that callers are told instead." },
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
        properties: { mode: { enum: ["self-signed", "plaintext-loopback"] }, hosts },
        additionalProperties: false,
        "x-check": "hostsOfCertificate",
      },
      else: {
        type: "object",
        properties: { certFile: file, keyFile: file },
        required: ["certFile", "keyFile"],
        additionalProperties: false,
      },
    },
    links: {
      type: "object",
      properties: {
        control: listenAddress,
        sessions: listenAddress,
        advertise: {
          type: "object",
          properties: { control: advertisedAddress, sessions: advertisedAddress },
          additionalProperties: false,
        },
      },
      required: ["control", "sessions"],
      additionalProperties: false,
      description: "Where agents and other gateways connect; without it only an agent of the same process is used.",
    },
  },
  additionalProperties: false,
};

const eventsSection: Schema = {
  type: "object",
  "x-check": "eventBus",
  properties: {
    bus: { enum: ["embedded", "nats"], default: "embedded" },
    servers: { type: "array", items: { ...plainText, "x-check": "natsServer" }, minItems: 1, maxItems: 64, uniqueItems: true },
    caFile: file,
    credentialsFile: file,
    replicas: { enum: [1, 3, 5], default: 1 },
    streamBytes: { type: "integer", minimum: 67_108_864, maximum: Number.MAX_SAFE_INTEGER, default: 1_073_741_824 },
  },
  additionalProperties: false,
};

export const configSchema: Schema = {
  type: "object",
  description: "One process: which parts run, where they listen, which secrets the agent may use.",
  properties: {
    apiVersion: { const: "sluice/v1" },
    kind: { const: "Config" },
    node: nodeSection,
    controlPlane: controlPlaneSection,
    dataPlane: dataPlaneSection,
    agent: agentSection,
    events: eventsSection,
    recorder: {
      type: "object",
      properties: {
        store: {
          ...plainText,
          "x-check": "recordingStore",
          default: "file:recordings",
          description: "file:DIRECTORY, relative to the data directory.",
        },
        listen: listenAddress,
        advertise: advertisedAddress,
      },
      additionalProperties: false,
    },
    operations: {
      type: "object",
      properties: { listen: listenAddress },
      required: ["listen"],
      additionalProperties: false,
      description: "Health, readiness and metrics over plain HTTP.",
    },
    telemetry: {
      type: "object",
      properties: {
        traces: { ...plainText, "x-check": "tracesUrl", description: "OTLP over HTTP." },
        sample: { type: "number", minimum: 0, maximum: 1, default: 1 },
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
