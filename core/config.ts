/**
 * The `Config` document of one process, after validation: of all planes in one, or of a single plane. Paths are absolute. Parsed
 * by `manifest/config.ts`. Sections of planes that a process does not run are allowed and ignored, so that one file may serve all.
 */
import type { Limits } from "./limits.ts";

export interface Config {
  /** Who this process is among several, and where it finds the control plane. Null where everything is one process. */
  readonly node: NodeConfig | null;
  readonly controlPlane: {
    readonly store: { readonly kind: "embedded" } | { readonly kind: "postgres"; readonly url: string };
    readonly listen: ListenAddress;
    /** Names and addresses under which people reach the admin API, for its certificate, besides localhost and `listen`. */
    readonly hosts: readonly string[];
    /** Identity provider for development, built in. On unless switched off. */
    readonly developmentIssuer: boolean;
    /** Where nodes enrol and hold their control streams (gRPC over mTLS); null: no other process may join. */
    readonly nodes: NodesListenConfig | null;
    /** What the keys in the store (CA, snapshot signer) are encrypted under. `generated`: a file below the data directory; the embedded store only. */
    readonly encryptionKey: KeySource;
    /** Platforms whose workload tokens enrol nodes without a join token. */
    readonly workloads: readonly WorkloadEnrolment[];
    /** How long gateways and agents go on with the last snapshot when they hear nothing more. */
    readonly lease: { readonly ms: number; readonly strictMs: number };
  };
  readonly dataPlane: {
    readonly listeners: readonly ListenerConfig[];
    readonly tls: GatewayTls;
    /** Where agents and other gateways connect; null: only a co-located agent. */
    readonly links: LinksConfig | null;
  };
  readonly agent: AgentConfig;
  readonly events: EventsConfig;
  readonly recorder: {
    readonly directory: string;
    /** The recorder's service for the control plane (gRPC over mTLS), when it is a process of its own. */
    readonly listen: ListenAddress | null;
    /** host:port that is told to others when it is not what was listened on. */
    readonly advertise: string | null;
  };
  /** Health, readiness and metrics over plain HTTP; null: none. */
  readonly operations: { readonly listen: ListenAddress | null };
  readonly telemetry: TelemetryConfig;
  /** Bounds that differ from `defaultLimits`. */
  readonly limits: Partial<Limits>;
  /** Files or directories of manifests, loaded at start. */
  readonly manifests: readonly string[];
}

export interface ListenAddress {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface NodeConfig {
  /** A DNS label, unique among nodes of its role. */
  readonly name: string;
  /** For finding near nodes; empty: unknown. */
  readonly region: string;
  /** host:port of each control plane's `nodes` listener. */
  readonly controlPlanes: readonly string[];
  /** What the first start enrols with; unused once the node has a certificate. Null: a certificate must be there. */
  readonly join: JoinSource | null;
}

/** `token`: a join token; `workload`: a file with the platform's own token (read at each enrolment) and the CA to trust meanwhile. */
export type JoinSource =
  | { readonly kind: "tokenFile"; readonly path: string }
  | { readonly kind: "tokenEnv"; readonly name: string }
  | { readonly kind: "workload"; readonly path: string; readonly caFile: string };

export interface NodesListenConfig {
  readonly listen: ListenAddress;
  /** Names and addresses in the certificate besides localhost and `listen`. */
  readonly hosts: readonly string[];
}

/** `command`: a program that wraps and unwraps 32-byte keys, for a KMS: the operation as last argument, base64 on stdin and stdout. */
export type KeySource =
  | { readonly kind: "generated" }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "env"; readonly name: string }
  | { readonly kind: "command"; readonly command: readonly string[] };

/** Tokens of this issuer enrol nodes of `role` whose claims are exactly these. */
export interface WorkloadEnrolment {
  readonly name: string;
  readonly issuer: string;
  readonly audience: string;
  readonly jwksUri: string | null;
  readonly caFile: string | null;
  /** Sent to `jwksUri` alone, where the platform shows its keys to those it knows (Kubernetes does); read at each fetch. Absent: nothing is sent. */
  readonly tokenFile?: string;
  readonly role: "gateway" | "agent" | "recorder";
  readonly claims: Readonly<Record<string, string>>;
  /** Names of nodes may begin with this. */
  readonly namePrefix: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly hosts: readonly string[];
}

export interface ListenerConfig {
  readonly protocol: "postgres";
  readonly listen: ListenAddress;
  /** Accept a PROXY protocol v2 header from these addresses (and require it from them). */
  readonly proxyProtocolFrom: readonly string[];
  /** host:port that callers are told (`sluice connect`) when it is not what was listened on. */
  readonly advertise: string | null;
}

export type GatewayTls =
  | { readonly mode: "self-signed"; readonly hosts: readonly string[] }
  | { readonly mode: "files"; readonly certFile: string; readonly keyFile: string }
  /** No TLS at all: every listener must be on a loopback address. For benchmarks and sidecars. */
  | { readonly mode: "plaintext-loopback" };

export interface LinksConfig {
  /** gRPC over mTLS: agents' control streams, other gateways. */
  readonly control: ListenAddress;
  /** TLS 1.3: one connection a session, dialled by agents. */
  readonly sessions: ListenAddress;
  /** host:port told to others; null: what was listened on. */
  readonly advertise: { readonly control: string | null; readonly sessions: string | null };
}

export interface AgentConfig {
  readonly secrets: readonly SecretBinding[];
  /** How many gateways, the nearest ones, it keeps links to. */
  readonly nearest: number;
  /** Named Vault servers that credentials may refer to; `default` is the one without a name. */
  readonly vaults: readonly VaultConfig[];
  /** Kubernetes API for secrets of source `kubernetes`; null: not in a cluster. */
  readonly kubernetes: KubernetesConfig | null;
}

export interface VaultConfig {
  readonly name: string;
  /** https://…; http on loopback only. */
  readonly address: string;
  readonly caFile: string | null;
  readonly namespace: string | null;
  readonly auth:
    | { readonly kind: "tokenFile"; readonly path: string }
    | { readonly kind: "tokenEnv"; readonly name: string }
    | { readonly kind: "appRole"; readonly mount: string; readonly roleId: string; readonly secretIdFile: string }
    | { readonly kind: "kubernetes"; readonly mount: string; readonly role: string; readonly tokenFile: string };
}

export interface KubernetesConfig {
  readonly address: string;
  readonly caFile: string | null;
  readonly tokenFile: string;
  /** Where secrets are looked for when a credential names no namespace; empty: what the file `namespace` beside the token says. */
  readonly namespace: string;
}

/** Which secret may go to which target. `targets` are `host:port` patterns; `*` matches any run of characters. */
export interface SecretBinding {
  readonly source: SecretBindingSource;
  readonly targets: readonly string[];
}

/** `vault` and `kubernetes` name paths and secrets by patterns in which `*` matches any run of characters; `sealed`: whatever was sealed to this agent's key. */
export type SecretBindingSource =
  | { readonly kind: "env"; readonly name: string }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "vault"; readonly path: string }
  | { readonly kind: "kubernetes"; readonly secret: string }
  | { readonly kind: "sealed" };

export type EventsConfig =
  | { readonly bus: "embedded" }
  | {
      readonly bus: "nats";
      /** nats://host:port or tls://host:port. */
      readonly servers: readonly string[];
      readonly caFile: string | null;
      /** NATS credentials file (JWT and seed); null: none. */
      readonly credentialsFile: string | null;
      /** Copies that JetStream keeps: 1, 3 or 5. */
      readonly replicas: number;
      readonly streamBytesMax: number;
    };

export interface TelemetryConfig {
  /** OTLP over HTTP: where traces go; null: none are made. */
  readonly tracesEndpoint: string | null;
  /** Share of traces that are kept: 0 to 1. */
  readonly sampleRatio: number;
}
