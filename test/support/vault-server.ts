/**
 * A Vault for tests: KV version 2 with versions, a database engine that really makes and drops PostgreSQL roles, AppRole,
 * Kubernetes and token authentication, policies, leases that end, sealing. Answers and refusals have the shapes that Vault's HTTP
 * API documents (https://developer.hashicorp.com/vault/api-docs); what the agent does not use is left out.
 */
import { randomBytes, randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { VaultLeases } from "./vault-leases.ts";

export interface VaultServerOptions {
  /** PEM texts. */
  readonly certificate: string;
  readonly privateKey: string;
  /** Runs statements at the database that the engine makes accounts for. */
  readonly runSql: (statement: string) => Promise<void>;
}

export interface VaultRole {
  readonly policies: readonly string[];
  readonly ttlSeconds: number;
  readonly maxTtlSeconds: number;
}

/** Paths as in Vault's policies: `*` at the end is any rest. */
export type VaultPolicy = readonly { readonly path: string; readonly capabilities: readonly ("read" | "update")[] }[];

interface Token extends VaultRole {
  readonly id: string;
  readonly maxEndMs: number;
  endsAtMs: number;
}

interface Version {
  readonly data: Readonly<Record<string, unknown>>;
  deletedAt: string;
}

type Answer = readonly [status: number, body: unknown];

/** What every token may do about itself and its leases, as in Vault's own `default` policy. */
const DEFAULT_POLICY: VaultPolicy = [
  { path: "auth/token/lookup-self", capabilities: ["read"] },
  { path: "auth/token/renew-self", capabilities: ["update"] },
  { path: "auth/token/revoke-self", capabilities: ["update"] },
  { path: "sys/leases/renew", capabilities: ["update"] },
];
const SWEEP_MS = 50;
const DENIED: Answer = [403, { errors: ["permission denied"] }];

export class VaultServer {
  /** Every request, in order: `GET /v1/secret/data/orders`. */
  readonly requests: string[] = [];
  readonly policies: Map<string, VaultPolicy> = new Map([["default", DEFAULT_POLICY]]);
  readonly leases: VaultLeases;
  isSealed = false;
  /** Answered instead of anything else while set. */
  override: { readonly status: number; readonly text: string } | "hang" | undefined;
  /** Required of every request when set. */
  namespace: string | undefined;
  readonly #server: Server;
  readonly #sweeper: NodeJS.Timeout;
  readonly #tokens = new Map<string, Token>();
  readonly #kv = new Map<string, Version[]>();
  readonly #appRoles = new Map<string, VaultRole & { readonly secretIds: Set<string> }>();
  readonly #kubernetesRoles = new Map<string, VaultRole & { readonly jwt: string }>();

  constructor(options: VaultServerOptions) {
    this.leases = new VaultLeases(options.runSql);
    this.#server = createServer({ cert: options.certificate, key: options.privateKey }, (request, response) => {
      void this.#serve(request, response);
    });
    this.#sweeper = setInterval(() => void this.#endExpired(), SWEEP_MS).unref();
  }

  async listen(port = 0): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`; // of TCP
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await this.leases.revokeAll();
  }

  createToken(role: VaultRole): string {
    const id = `hvs.${randomBytes(18).toString("base64url")}`;
    const maxEndMs = role.maxTtlSeconds === 0 ? Number.POSITIVE_INFINITY : Date.now() + role.maxTtlSeconds * 1_000;
    const endsAtMs = role.ttlSeconds === 0 ? Number.POSITIVE_INFINITY : Date.now() + role.ttlSeconds * 1_000;
    this.#tokens.set(id, { ...role, id, maxEndMs, endsAtMs: Math.min(endsAtMs, maxEndMs) });
    return id;
  }

  /** As by an operator: at once, with all leases got by it. */
  async revokeTokens(): Promise<void> {
    for (const id of this.#tokens.keys()) await this.#endToken(id);
  }

  get tokensAlive(): number {
    return [...this.#tokens.values()].filter(({ endsAtMs }) => endsAtMs > Date.now()).length;
  }

  addAppRole(roleId: string, role: VaultRole): { newSecretId(): string } {
    const secretIds = new Set<string>();
    this.#appRoles.set(roleId, { ...role, secretIds });
    return {
      newSecretId: () => {
        const id = randomUUID();
        secretIds.add(id);
        return id;
      },
    };
  }

  /** `jwt`: the service account's token that it accepts. */
  addKubernetesRole(name: string, role: VaultRole & { readonly jwt: string }): void {
    this.#kubernetesRoles.set(name, role);
  }

  writeKv(path: string, data: Readonly<Record<string, unknown>>): void {
    this.#kv.set(path, [...(this.#kv.get(path) ?? []), { data, deletedAt: "" }]);
  }

  deleteNewestKv(path: string): void {
    const newest = this.#kv.get(path)?.at(-1);
    if (newest !== undefined) newest.deletedAt = new Date().toISOString();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "" } = request;
    this.requests.push(`${method} ${url}`);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer); // no encoding is set
    const { override } = this;
    if (override === "hang") return;
    if (override !== undefined) {
      response.writeHead(override.status, { "content-type": "application/json" }).end(override.text);
      return;
    }
    const text = Buffer.concat(chunks).toString("utf8");
    const body = (text === "" ? {} : JSON.parse(text)) as Readonly<Record<string, unknown>>; // tests send objects
    const [status, answer] = await this.#answer(method, url, request.headers, body).catch((error: unknown): Answer => {
      return [500, { errors: [`1 error occurred: ${String(error)}`] }];
    });
    response.writeHead(status, { "content-type": "application/json" }).end(answer === null ? undefined : JSON.stringify(answer));
  }

  async #answer(
    method: string,
    url: string,
    headers: IncomingMessage["headers"],
    body: Readonly<Record<string, unknown>>,
  ): Promise<Answer> {
    if (this.isSealed) return [503, { errors: ["Vault is sealed"] }];
    if (headers["x-vault-request"] !== "true") return [412, { errors: ["required request header missing"] }];
    if (this.namespace !== undefined && headers["x-vault-namespace"] !== this.namespace) return DENIED;
    const path = url
      .replace(/^\/v1\//, "")
      .split("/")
      .map(decodeURIComponent)
      .join("/");
    const login = /^auth\/(.+)\/login$/.exec(path)?.[1];
    if (login !== undefined && method === "POST") return this.#login(login, body);
    const id = headers["x-vault-token"];
    const token = this.#tokens.get(typeof id === "string" ? id : "");
    if (token === undefined || token.endsAtMs <= Date.now()) return DENIED;
    if (!this.#allows(token, path, method === "GET" ? "read" : "update")) return DENIED;
    if (path.startsWith("auth/token/")) return await this.#ownToken(path.slice("auth/token/".length), token, body);
    if (path.startsWith("sys/leases/")) return await this.#lease(path.slice("sys/leases/".length), body);
    const role = /^(.+)\/creds\/([^/]+)$/.exec(path);
    if (role !== null && method === "GET") return await this.#credentials(role[1] ?? "", role[2] ?? "", token);
    const secret = /^(.+?)\/data\/(.+)$/.exec(path);
    if (secret !== null && method === "GET") return this.#read(`${secret[1] ?? ""}/${secret[2] ?? ""}`);
    return [404, { errors: [`no handler for route "${path}". route entry not found.`] }];
  }

  #allows({ policies }: Token, path: string, capability: "read" | "update"): boolean {
    const rules = policies.flatMap((name) => this.policies.get(name) ?? []);
    return rules.some(
      (rule) =>
        rule.capabilities.includes(capability) &&
        (rule.path.endsWith("*") ? path.startsWith(rule.path.slice(0, -1)) : path === rule.path),
    );
  }

  #login(mount: string, body: Readonly<Record<string, unknown>>): Answer {
    if (mount === "approle") {
      const role = this.#appRoles.get(String(body["role_id"]));
      if (role?.secretIds.has(String(body["secret_id"])) !== true) return [400, { errors: ["invalid role or secret ID"] }];
      return [200, envelope({ auth: this.#authOf(this.createToken(role)) })];
    }
    const role = this.#kubernetesRoles.get(String(body["role"]));
    if (role === undefined) return [400, { errors: [`invalid role name "${String(body["role"])}"`] }];
    if (role.jwt !== body["jwt"]) return DENIED;
    return [200, envelope({ auth: this.#authOf(this.createToken(role)) })];
  }

  #authOf(id: string): Readonly<Record<string, unknown>> {
    const token = this.#tokens.get(id);
    if (token === undefined) throw new Error("there is no such token");
    return {
      client_token: id,
      accessor: randomUUID(),
      policies: token.policies,
      token_policies: token.policies,
      metadata: null,
      lease_duration: token.endsAtMs === Number.POSITIVE_INFINITY ? 0 : Math.floor((token.endsAtMs - Date.now() + 50) / 1_000),
      renewable: token.ttlSeconds > 0,
      entity_id: "",
      token_type: "service",
      orphan: true,
    };
  }

  async #ownToken(call: string, token: Token, body: Readonly<Record<string, unknown>>): Promise<Answer> {
    switch (call) {
      case "lookup-self": {
        const ttl = token.endsAtMs === Number.POSITIVE_INFINITY ? 0 : Math.floor((token.endsAtMs - Date.now() + 50) / 1_000);
        return [200, envelope({ data: { id: token.id, ttl, renewable: token.ttlSeconds > 0, policies: token.policies } })];
      }
      case "renew-self": {
        if (token.ttlSeconds === 0) return [400, { errors: ["lease is not renewable"] }];
        const increment = typeof body["increment"] === "number" ? body["increment"] : token.ttlSeconds;
        token.endsAtMs = Math.min(Date.now() + increment * 1_000, token.maxEndMs);
        return [200, envelope({ auth: this.#authOf(token.id) })];
      }
      case "revoke-self":
        await this.#endToken(token.id);
        return [204, null];
      default:
        return [404, { errors: [] }];
    }
  }

  /** A token's end is that of all leases got by it. */
  async #endExpired(): Promise<void> {
    for (const { id, endsAtMs } of this.#tokens.values()) if (endsAtMs <= Date.now()) await this.#endToken(id);
  }

  async #endToken(id: string): Promise<void> {
    this.#tokens.delete(id);
    await this.leases.revokeOf(id);
  }

  async #lease(call: string, body: Readonly<Record<string, unknown>>): Promise<Answer> {
    const id = String(body["lease_id"]);
    if (call === "revoke") {
      await this.leases.revoke(id);
      return [204, null];
    }
    const increment = typeof body["increment"] === "number" ? body["increment"] : 0;
    const lease = this.leases.renew(id, increment);
    if (lease === undefined) return [400, { errors: ["lease not found"] }];
    return [200, { ...envelope({}), lease_id: id, renewable: lease.isRenewable, lease_duration: lease.seconds }];
  }

  async #credentials(mount: string, role: string, token: Token): Promise<Answer> {
    const lease = await this.leases.create(mount, role, token.id);
    if (lease === undefined) return [400, { errors: [`unknown role: ${role}`] }];
    const { id, isRenewable, seconds, username, password } = lease;
    return [
      200,
      { ...envelope({ data: { username, password } }), lease_id: id, renewable: isRenewable, lease_duration: seconds },
    ];
  }

  #read(path: string): Answer {
    const versions = this.#kv.get(path);
    const newest = versions?.at(-1);
    if (versions === undefined || newest === undefined) return [404, { errors: [] }];
    const metadata = {
      created_time: new Date(0).toISOString(),
      custom_metadata: null,
      deletion_time: newest.deletedAt,
      destroyed: false,
      version: versions.length,
    };
    if (newest.deletedAt !== "") return [404, envelope({ data: { data: null, metadata } })];
    return [200, envelope({ data: { data: newest.data, metadata } })];
  }
}

function envelope(parts: { readonly data?: unknown; readonly auth?: unknown }): Readonly<Record<string, unknown>> {
  return {
    request_id: randomUUID(),
    lease_id: "",
    renewable: false,
    lease_duration: 0,
    data: parts.data ?? null,
    wrap_info: null,
    warnings: null,
    auth: parts.auth ?? null,
  };
}
