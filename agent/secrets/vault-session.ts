/**
 * The agent's token for one Vault server: got by login or given, renewed at half its life, replaced before it ends. A token
 * that was got by login is given back at the end. Never puts a token into an error or a log.
 * Spec: Vault HTTP API, "AppRole auth method", "Kubernetes auth method", "Token auth method".
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { VaultConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Logger } from "pino";
import { createJsonClient, type JsonAnswer, type JsonClient, type JsonRequest } from "./http-json.ts";
import { readSecretFile } from "./secret-file.ts";
import { type Grant, grantOf, refusalOf, strangeAnswer } from "./vault-answers.ts";

export interface VaultOptions {
  readonly readEnvironment: (name: string) => string | undefined;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Pick<Logger, "debug" | "info" | "warn">;
}

/** Leases that were got with a token end with it. */
export interface VaultToken {
  readonly value: string;
  /** Monotonic; grows at renewal. */
  endsAtMs: number;
  /** It will not be renewed any more. */
  isSuperseded: boolean;
}

export type VaultRequest = Pick<JsonRequest, "method" | "path" | "body">;

/** Upkeep is never busier than this, however short the lives that Vault gives. */
const UPKEEP_MS_MIN = 500;

export class VaultSession {
  /** For people. */
  readonly name: string;
  readonly #config: VaultConfig;
  readonly #options: VaultOptions;
  readonly #client: JsonClient;
  readonly #closing = new AbortController();
  #token: VaultToken | undefined;
  #obtaining: Promise<VaultToken> | undefined;
  #adoptedMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(config: VaultConfig, options: VaultOptions) {
    const { limits } = options;
    this.name = config.name === "default" ? "Vault server" : `Vault server ${config.name}`;
    this.#config = config;
    this.#options = options;
    this.#client = createJsonClient({
      name: this.name,
      address: config.address,
      caFile: config.caFile,
      timeoutMs: limits.secretRequestTimeoutMs,
      answerBytesMax: limits.secretAnswerBytesMax,
    });
  }

  /** Asks with the agent's token; once more with a new one when the token turns out to be dead. */
  async ask(request: VaultRequest): Promise<{ readonly answer: JsonAnswer; readonly token: VaultToken }> {
    const token = await this.#current();
    const answer = await this.#send(request, token.value);
    if (answer.status !== 403 || !(await this.#isDead(token))) return { answer, token };
    if (this.#token === token) this.#token = undefined;
    token.isSuperseded = true;
    const fresh = await this.#current();
    return { answer: await this.#send(request, fresh.value), token: fresh };
  }

  /** Asks with this very token, as the upkeep of what was got with it must. */
  askWith(token: VaultToken, request: VaultRequest): Promise<JsonAnswer> {
    return this.#send(request, token.value);
  }

  /** Gives back a token that was got by login, and with it all its leases. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    const token = this.#token;
    this.#token = undefined;
    this.#closing.abort(new Error("the agent is shutting down"));
    if (token !== undefined && this.#logsIn) {
      await this.#sendAtEnd({ method: "POST", path: "/v1/auth/token/revoke-self", body: {} }, token.value);
    }
    this.#client.close();
  }

  get #logsIn(): boolean {
    const { kind } = this.#config.auth;
    return kind === "appRole" || kind === "kubernetes";
  }

  async #current(): Promise<VaultToken> {
    if (this.#closing.signal.aborted) throw shuttingDown();
    const known = this.#token;
    if (this.#logsIn) {
      if (known !== undefined && this.#options.clock.monotonicMs() < known.endsAtMs) return known;
      return await this.#obtainOnce(() => this.#logIn());
    }
    const given = await this.#givenToken();
    if (known?.value === given) return known;
    return await this.#obtainOnce(() => this.#adoptGiven(given));
  }

  async #obtainOnce(obtain: () => Promise<VaultToken>): Promise<VaultToken> {
    this.#obtaining ??= obtain().finally(() => {
      this.#obtaining = undefined;
    });
    return await this.#obtaining;
  }

  async #logIn(): Promise<VaultToken> {
    const { auth } = this.#config;
    const grant = grantOf(await this.#loginAnswer());
    if (grant === undefined) throw strangeAnswer(this.name, "an answer to a login");
    const token = this.#adopt(grant);
    this.#options.log.info({ vault: this.#config.name, method: auth.kind }, "logged in to Vault");
    return token;
  }

  async #loginAnswer(): Promise<JsonAnswer> {
    const { auth } = this.#config;
    if (auth.kind !== "appRole" && auth.kind !== "kubernetes") throw new Error("only two methods log in");
    const secret = await this.#ownFile(auth.kind === "appRole" ? auth.secretIdFile : auth.tokenFile);
    const body = auth.kind === "appRole" ? { role_id: auth.roleId, secret_id: secret } : { role: auth.role, jwt: secret };
    const answer = await this.#send({ method: "POST", path: `/v1/auth/${encodePath(auth.mount)}/login`, body }, undefined);
    if (answer.status === 200) return answer;
    if (answer.status !== 400 && answer.status !== 403) throw refusalOf(this.name, `a login at ${auth.mount}`, answer);
    throw new GatewayError("secret_unavailable", `The agent's ${this.name} refuses its login at ${auth.mount}.`, {
      hint:
        auth.kind === "appRole"
          ? "Check roleId and the secret id in agent.vaults: it may have expired or been used up."
          : "Check the role in agent.vaults, and that it is bound to the agent's service account and namespace.",
    });
  }

  /** What its life is, if it may ask; a token without the default policy may not, and is taken to be somebody else's care. */
  async #adoptGiven(value: string): Promise<VaultToken> {
    const answer = await this.#send({ method: "GET", path: "/v1/auth/token/lookup-self" }, value);
    const data = answer.status === 200 ? ownData(answer.body) : undefined;
    const token = this.#adopt({
      value,
      durationMs: typeof data?.["ttl"] === "number" ? data["ttl"] * 1_000 : 0,
      isRenewable: data?.["renewable"] === true,
    });
    return token;
  }

  #adopt({ value, durationMs, isRenewable }: Grant): VaultToken {
    const former = this.#token;
    if (former !== undefined) former.isSuperseded = true;
    const nowMs = this.#options.clock.monotonicMs();
    this.#adoptedMs = nowMs;
    const token: VaultToken = {
      value,
      endsAtMs: durationMs === 0 ? Number.POSITIVE_INFINITY : nowMs + durationMs,
      isSuperseded: false,
    };
    this.#token = token;
    clearTimeout(this.#timer);
    if (durationMs > 0 && (isRenewable || this.#logsIn)) this.#keep(token, durationMs, isRenewable);
    return token;
  }

  /** Half of what is left from now on, renews; logs in anew where that does not help. */
  #keep(token: VaultToken, fullMs: number, isRenewable: boolean): void {
    const leftMs = token.endsAtMs - this.#options.clock.monotonicMs();
    if (leftMs <= 0 || this.#closing.signal.aborted) return;
    const upkeep = async (): Promise<void> => {
      if (this.#token !== token) return;
      try {
        if (isRenewable && (await this.#renew(token, fullMs))) return this.#keep(token, fullMs, isRenewable);
        if (this.#logsIn) await this.#obtainOnce(() => this.#logIn());
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        this.#warn(error, "the agent's token for Vault could not be renewed");
        this.#keep(token, fullMs, isRenewable);
      }
    };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void upkeep(), Math.min(Math.max(leftMs / 2, UPKEEP_MS_MIN), TIMER_MS_MAX));
    this.#timer.unref();
  }

  /** False when its longest life is near, or it is gone. */
  async #renew(token: VaultToken, fullMs: number): Promise<boolean> {
    const askedMs = this.#options.clock.monotonicMs();
    const answer = await this.#send({ method: "POST", path: "/v1/auth/token/renew-self", body: {} }, token.value);
    if (answer.status >= 500 || answer.status === 429) throw refusalOf(this.name, "a renewal of its token", answer);
    const grant = answer.status === 200 ? grantOf(answer) : undefined;
    if (grant === undefined) return false;
    token.endsAtMs = askedMs + grant.durationMs;
    return grant.durationMs * 2 >= fullMs || !this.#logsIn;
  }

  /** A 403 may be for the path or for the token. */
  async #isDead(token: VaultToken): Promise<boolean> {
    if (!this.#logsIn) return false; // the next request reads the given one again anyway
    // Where a policy does not let a token ask about itself, each refusal would look like a dead token: one login at a time.
    if (this.#options.clock.monotonicMs() - this.#adoptedMs < this.#options.limits.secretRefetchMs) return false;
    const answer = await this.#send({ method: "GET", path: "/v1/auth/token/lookup-self" }, token.value);
    return answer.status === 403;
  }

  async #givenToken(): Promise<string> {
    const { auth } = this.#config;
    switch (auth.kind) {
      case "tokenFile":
        return await this.#ownFile(auth.path);
      case "tokenEnv": {
        const token = this.#options.readEnvironment(auth.name)?.trim();
        if (token !== undefined && token !== "") return token;
        throw new GatewayError(
          "secret_unavailable",
          `The variable ${auth.name} with the token for the agent's ${this.name} is not set.`,
          {
            hint: "Set it in the environment that the agent is started with.",
          },
        );
      }
      case "appRole":
      case "kubernetes":
        throw new Error("this method logs in");
      default:
        return assertNever(auth);
    }
  }

  async #ownFile(path: string): Promise<string> {
    const text = await readSecretFile(path, this.#options.limits.secretBytesMax).catch(() => undefined);
    if (text !== undefined && text.trim() !== "") return text.trim();
    throw new GatewayError("secret_unavailable", `The agent cannot read ${path}, which it needs for its ${this.name}.`, {
      hint: "Check the path in agent.vaults, that the file is not empty, and that the agent's account may read it.",
    });
  }

  #send(request: VaultRequest, token: string | undefined): Promise<JsonAnswer> {
    return this.#client.send({ ...request, headers: this.#headers(token), signal: this.#closing.signal });
  }

  /** While shutting down: what the closing signal must not end. */
  async #sendAtEnd(request: VaultRequest, token: string): Promise<void> {
    try {
      await this.#client.send({ ...request, headers: this.#headers(token) });
    } catch (error) {
      this.#warn(error, "the agent could not give back its token for Vault; it ends by itself");
    }
  }

  #headers(token: string | undefined): Readonly<Record<string, string>> {
    const { namespace } = this.#config;
    return {
      "x-vault-request": "true",
      ...(token === undefined ? {} : { "x-vault-token": token }),
      ...(namespace === null ? {} : { "x-vault-namespace": namespace }),
    };
  }

  #warn(error: unknown, text: string): void {
    // Messages of our own only: what they say is meant for people.
    const reason = error instanceof GatewayError ? error.message : "internal fault";
    this.#options.log.warn({ vault: this.#config.name, reason }, text);
  }
}

/** Longest delay that timers take; whoever wakes up early looks again. */
export const TIMER_MS_MAX = 2_147_483_647;

/** Each segment of a path on its own. */
export function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

function ownData(body: unknown): Readonly<Record<string, unknown>> | undefined {
  const data: unknown = typeof body === "object" && body !== null && "data" in body ? body.data : undefined;
  return typeof data === "object" && data !== null ? (data as Record<string, unknown>) : undefined; // fields are looked at one by one
}

function shuttingDown(): GatewayError {
  return new GatewayError("secret_unavailable", "The agent is shutting down.", { hint: "Try again in a moment." });
}
