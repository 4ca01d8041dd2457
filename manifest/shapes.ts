/** Documents as the schemas let them through: what the semantic step may rely on. One interface a kind, nothing computed. */
import type { TlsMode } from "@sluice/core/snapshot.ts";

export interface Envelope<Spec> {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec: Spec;
}

export interface SecretShape {
  readonly value?: string;
  readonly env?: string;
  readonly file?: string;
  readonly vault?: VaultSecretShape;
  readonly kubernetes?: { readonly secret: string; readonly key: string };
  readonly sealed?: string;
}

export interface VaultSecretShape {
  readonly kv?: string;
  readonly database?: string;
  readonly mount?: string;
  readonly field: string;
  readonly server?: string;
}

export interface CredentialShape {
  readonly username: SecretShape;
  readonly password?: SecretShape;
}

export interface ResourceShape {
  readonly protocol: "postgres";
  readonly target: {
    readonly address: string;
    readonly database: string;
    readonly databases?: readonly string[];
    readonly tls?: { readonly mode?: TlsMode; readonly caFile?: string; readonly serverName?: string };
    readonly failover?: readonly string[];
    readonly role?: "primary" | "any";
    readonly pool?: { readonly connections: number; readonly idle?: string };
  };
  readonly credential?: CredentialShape;
  readonly credentials?: { readonly readOnly: CredentialShape; readonly readWrite: CredentialShape };
  readonly agents?: { readonly labels: Readonly<Record<string, string>> };
  readonly inspection?: {
    readonly bulk?: { readonly rows?: number; readonly limit?: number };
    readonly safeFunctions?: readonly string[];
    readonly recording?: "auto" | "strict" | "relaxed";
  };
}

export interface ClassifierShape {
  readonly entity: string;
  readonly columns?: readonly string[];
  readonly columnNames?: readonly string[];
  readonly values?: {
    readonly detector?: string;
    readonly pattern?: string;
    readonly validator?: "luhn";
    readonly context?: readonly string[];
  };
}

export interface PolicyShape {
  readonly principals: {
    readonly groups?: readonly string[];
    readonly subjects?: readonly string[];
    readonly kinds?: readonly string[];
    readonly owners?: readonly string[];
    readonly issuers?: readonly string[];
    readonly claims?: Readonly<Record<string, string>>;
  };
  readonly resources: { readonly names?: readonly string[]; readonly labels?: Readonly<Record<string, string>> };
  readonly rules: readonly RuleShape[];
}

interface RuleShapeBase {
  readonly name: string;
  readonly when?: string;
  readonly reason?: string;
}

export type OperatorShape =
  | "redact"
  | "null"
  | null
  | { readonly partial: { readonly keepFirst?: number; readonly keepLast?: number } };

export type RuleShape =
  | (RuleShapeBase & { readonly effect: "allow" | "deny" })
  | (RuleShapeBase & {
      readonly effect: "mask";
      readonly entities: readonly string[];
      readonly operator: OperatorShape;
      readonly influences?: "equality" | "allow" | "deny";
    })
  | (RuleShapeBase & { readonly effect: "limit"; readonly rows: number })
  | (RuleShapeBase & {
      readonly effect: "approve";
      readonly reviewers: { readonly groups: readonly string[]; readonly count?: number };
      readonly timeout?: string;
    });

export interface IdentityProviderShape {
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly algorithms?: readonly string[];
  readonly jwksUri?: string;
  readonly caFile?: string;
  readonly groupsClaim?: string;
}
