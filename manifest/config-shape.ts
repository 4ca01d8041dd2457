/** A configuration as its schema lets it through: what `config.ts` may rely on. Nothing computed. */

export interface ConfigShape {
  readonly node?: NodeShape;
  readonly controlPlane?: ControlPlaneShape;
  readonly dataPlane?: DataPlaneShape;
  readonly agent?: AgentShape;
  readonly events?: EventsShape;
  readonly recorder?: { readonly store?: string; readonly listen?: string; readonly advertise?: string };
  readonly operations?: { readonly listen: string };
  readonly telemetry?: { readonly traces?: string; readonly sample?: number };
  readonly limits?: Readonly<Record<string, number>>;
  readonly manifests?: readonly string[];
}

export interface NodeShape {
  readonly name: string;
  readonly region?: string;
  readonly controlPlanes?: readonly string[];
  readonly join?: {
    readonly tokenFile?: string;
    readonly tokenEnv?: string;
    readonly workloadTokenFile?: string;
    readonly caFile?: string;
  };
}

export interface ControlPlaneShape {
  readonly store?: string;
  readonly listen?: string;
  readonly hosts?: readonly string[];
  readonly developmentIssuer?: boolean;
  readonly nodes?: { readonly listen: string; readonly hosts?: readonly string[] };
  readonly encryptionKey?: { readonly file?: string; readonly env?: string; readonly command?: readonly string[] };
  readonly workloads?: readonly WorkloadShape[];
  readonly lease?: { readonly policy?: string; readonly strict?: string };
}

export interface WorkloadShape {
  readonly name: string;
  readonly issuer: string;
  readonly audience: string;
  readonly jwksUri?: string;
  readonly caFile?: string;
  readonly tokenFile?: string;
  readonly role: "gateway" | "agent" | "recorder";
  readonly claims: Readonly<Record<string, string>>;
  readonly namePrefix?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly hosts?: readonly string[];
}

export interface DataPlaneShape {
  readonly listeners?: readonly {
    readonly protocol: "postgres";
    readonly listen: string;
    readonly proxyProtocolFrom?: readonly string[];
    readonly advertise?: string;
  }[];
  readonly tls?: {
    readonly mode?: "self-signed" | "plaintext-loopback";
    readonly hosts?: readonly string[];
    readonly certFile?: string;
    readonly keyFile?: string;
  };
  readonly links?: {
    readonly control: string;
    readonly sessions: string;
    readonly advertise?: { readonly control?: string; readonly sessions?: string };
  };
}

export interface AgentShape {
  readonly secrets?: readonly SecretBindingShape[];
  readonly nearest?: number;
  readonly vaults?: readonly VaultShape[];
  readonly kubernetes?: {
    readonly address?: string;
    readonly caFile?: string;
    readonly tokenFile?: string;
    readonly namespace?: string;
  };
}

export interface SecretBindingShape {
  readonly env?: string;
  readonly file?: string;
  readonly vault?: string;
  readonly kubernetes?: string;
  readonly sealed?: true;
  readonly targets: readonly string[];
}

export interface VaultShape {
  readonly name?: string;
  readonly address: string;
  readonly caFile?: string;
  readonly namespace?: string;
  readonly auth: {
    readonly tokenFile?: string;
    readonly tokenEnv?: string;
    readonly appRole?: { readonly mount?: string; readonly roleId: string; readonly secretIdFile: string };
    readonly kubernetes?: { readonly mount?: string; readonly role: string; readonly tokenFile?: string };
  };
}

export interface EventsShape {
  readonly bus?: "embedded" | "nats";
  readonly servers?: readonly string[];
  readonly caFile?: string;
  readonly credentialsFile?: string;
  readonly replicas?: number;
  readonly streamBytes?: number;
}
