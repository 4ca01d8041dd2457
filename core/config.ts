/** The `Config` document of one installation, after validation. Paths are absolute. Parsed by `manifest/config.ts`. */
import type { Limits } from "./limits.ts";

export interface Config {
  readonly controlPlane: {
    readonly store: { readonly kind: "embedded" } | { readonly kind: "postgres"; readonly url: string };
    readonly listen: ListenAddress;
    /** Identity provider for development, built in. On unless switched off. */
    readonly developmentIssuer: boolean;
  };
  readonly dataPlane: {
    readonly listeners: readonly ListenerConfig[];
    readonly tls: GatewayTls;
  };
  readonly agent: { readonly secrets: readonly SecretBinding[] };
  readonly events: { readonly bus: "embedded" };
  readonly recorder: { readonly directory: string };
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

export interface ListenerConfig {
  readonly protocol: "postgres";
  readonly listen: ListenAddress;
  /** Accept a PROXY protocol v2 header from these addresses (and require it from them). */
  readonly proxyProtocolFrom: readonly string[];
}

export type GatewayTls =
  | { readonly mode: "self-signed" }
  | { readonly mode: "files"; readonly certFile: string; readonly keyFile: string }
  /** No TLS at all: every listener must be on a loopback address. For benchmarks and sidecars. */
  | { readonly mode: "plaintext-loopback" };

/** Which secret may go to which target. `targets` are `host:port` patterns; `*` matches any run of characters. */
export interface SecretBinding {
  readonly source: { readonly kind: "env"; readonly name: string } | { readonly kind: "file"; readonly path: string };
  readonly targets: readonly string[];
}
