/** The database engine of the Vault for tests: roles of PostgreSQL that exist as long as their leases, and not longer. */
import { randomBytes, randomUUID } from "node:crypto";

export interface DatabaseRole {
  readonly ttlSeconds: number;
  readonly maxTtlSeconds: number;
  readonly isRenewable?: boolean;
  /** `{{name}}`, `{{password}}` and `{{expiration}}` are filled in, as in Vault's creation statements. */
  readonly creationStatements: readonly string[];
}

export interface LeasedRole {
  readonly id: string;
  readonly username: string;
  readonly password: string;
  readonly isRenewable: boolean;
  readonly seconds: number;
}

interface Lease {
  readonly username: string;
  readonly tokenId: string;
  readonly role: DatabaseRole;
  readonly maxEndMs: number;
  timer: NodeJS.Timeout;
}

export class VaultLeases {
  /** By `MOUNT/ROLE`. */
  readonly roles: Map<string, DatabaseRole> = new Map();
  readonly #runSql: (statement: string) => Promise<void>;
  readonly #leases = new Map<string, Lease>();
  readonly #ending = new Set<Promise<void>>();

  constructor(runSql: (statement: string) => Promise<void>) {
    this.#runSql = runSql;
  }

  /** User names of all leases that have not ended. */
  get usernames(): readonly string[] {
    return [...this.#leases.values()].map(({ username }) => username);
  }

  async create(mount: string, name: string, tokenId: string): Promise<LeasedRole | undefined> {
    const role = this.roles.get(`${mount}/${name}`);
    if (role === undefined) return undefined;
    const username = `v-${name}-${randomBytes(6).toString("hex")}`;
    const password = `${randomBytes(12).toString("base64url")}-Aa1`;
    const maxEndMs = Date.now() + role.maxTtlSeconds * 1_000;
    for (const statement of role.creationStatements) {
      await this.#runSql(
        statement
          .replaceAll("{{name}}", username)
          .replaceAll("{{password}}", password)
          .replaceAll("{{expiration}}", new Date(maxEndMs).toISOString()),
      );
    }
    const id = `${mount}/creds/${name}/${randomUUID()}`;
    const seconds = Math.min(role.ttlSeconds, role.maxTtlSeconds);
    this.#leases.set(id, { username, tokenId, role, maxEndMs, timer: this.#endAfter(id, seconds * 1_000) });
    return { id, username, password, isRenewable: role.isRenewable ?? true, seconds };
  }

  renew(id: string, incrementSeconds: number): { readonly seconds: number; readonly isRenewable: boolean } | undefined {
    const lease = this.#leases.get(id);
    if (lease === undefined) return undefined;
    const wantedSeconds = incrementSeconds > 0 ? incrementSeconds : lease.role.ttlSeconds;
    const leftMs = Math.min(wantedSeconds * 1_000, lease.maxEndMs - Date.now());
    clearTimeout(lease.timer);
    lease.timer = this.#endAfter(id, leftMs);
    return { seconds: Math.floor(leftMs / 1_000), isRenewable: true };
  }

  async revoke(id: string): Promise<void> {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    clearTimeout(lease.timer);
    this.#leases.delete(id);
    await this.#runSql(`DROP OWNED BY "${lease.username}"; DROP ROLE "${lease.username}"`);
  }

  /** Leases end with the token that they were got with. */
  async revokeOf(tokenId: string): Promise<void> {
    for (const [id, lease] of this.#leases) if (lease.tokenId === tokenId) await this.revoke(id);
  }

  async revokeAll(): Promise<void> {
    for (const id of this.#leases.keys()) await this.revoke(id);
    await Promise.all(this.#ending);
  }

  #endAfter(id: string, delayMs: number): NodeJS.Timeout {
    return setTimeout(() => {
      const ending = this.revoke(id).finally(() => this.#ending.delete(ending));
      this.#ending.add(ending);
    }, delayMs).unref();
  }
}
