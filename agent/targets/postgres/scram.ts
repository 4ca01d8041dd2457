/**
 * The client's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as messages of text. Derives no keys itself: that is slow and
 * belongs to the driver. The server has not proved itself until `verifyServerFinal` returns true.
 * Spec: RFC 5802, RFC 7677; tls-server-end-point: RFC 5929.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { GatewayError } from "@sluice/core/errors.ts";

/**
 * `impossible`: no TLS, or a certificate without an end-point hash. `unoffered`: we could, the server did not offer it, and
 * learns from us that it was not seen, so that somebody between who removed the offer is found out.
 */
export type ChannelBinding =
  | { readonly kind: "impossible" }
  | { readonly kind: "unoffered" }
  | { readonly kind: "bound"; readonly endPointHash: Buffer };

export interface ScramKeys {
  readonly clientKey: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export interface ScramChallenge {
  readonly salt: Buffer;
  readonly iterations: number;
}

export class ScramClient {
  readonly #nonce: string;
  readonly #gs2Header: string;
  readonly #bindingData: Buffer;
  readonly #firstBare: string;
  readonly #iterationsMax: number;
  #serverFirst = "";
  #serverNonce = "";
  #expectedSignature: Buffer | undefined;

  /** `nonce`: printable ASCII without comma. `user` stays empty towards PostgreSQL, which takes it from the startup message. */
  constructor(nonce: string, binding: ChannelBinding, iterationsMax: number, user = "") {
    this.#nonce = nonce;
    this.#iterationsMax = iterationsMax;
    this.#gs2Header = binding.kind === "bound" ? "p=tls-server-end-point,," : binding.kind === "unoffered" ? "y,," : "n,,";
    this.#bindingData = binding.kind === "bound" ? binding.endPointHash : Buffer.alloc(0);
    this.#firstBare = `n=${user},r=${nonce}`;
  }

  clientFirst(): string {
    return this.#gs2Header + this.#firstBare;
  }

  /** Takes server-first-message. Throws GatewayError `target_protocol` when it is malformed, replayed or asks for too much. */
  readServerFirst(text: string): ScramChallenge {
    const match = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9]\d{0,9})(?:,[A-Za-z]=[^,]*)*$/.exec(text);
    if (match === null) throw malformed("a first message that is not one");
    const [, nonce = "", salt = "", iterationsText = ""] = match;
    // A nonce that does not extend ours belongs to somebody else's exchange.
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) throw malformed("a nonce that is not its own");
    const iterations = Number(iterationsText);
    if (iterations > this.#iterationsMax) throw malformed(`more than ${this.#iterationsMax} iterations`);
    this.#serverFirst = text;
    this.#serverNonce = nonce;
    return { salt: Buffer.from(salt, "base64"), iterations };
  }

  clientFinal(keys: ScramKeys): string {
    const binding = Buffer.concat([Buffer.from(this.#gs2Header), this.#bindingData]).toString("base64");
    const withoutProof = `c=${binding},r=${this.#serverNonce}`;
    const authMessage = `${this.#firstBare},${this.#serverFirst},${withoutProof}`;
    const clientSignature = hmac(keys.storedKey, authMessage);
    const proof = Buffer.from(keys.clientKey.map((byte, index) => byte ^ clientSignature[index]!));
    this.#expectedSignature = hmac(keys.serverKey, authMessage);
    return `${withoutProof},p=${proof.toString("base64")}`;
  }

  /** True only when the server knows the password too. */
  verifyServerFinal(text: string): boolean {
    const match = /^v=([A-Za-z0-9+/]+={0,2})(?:,.*)?$/.exec(text);
    if (match === null || this.#expectedSignature === undefined) return false;
    const signature = Buffer.from(match[1] ?? "", "base64");
    return signature.length === this.#expectedSignature.length && timingSafeEqual(signature, this.#expectedSignature);
  }
}

/** RFC 5802, section 3, from SaltedPassword on. */
export function scramKeysOf(saltedPassword: Buffer): ScramKeys {
  const clientKey = hmac(saltedPassword, "Client Key");
  return {
    clientKey,
    storedKey: createHash("sha256").update(clientKey).digest(),
    serverKey: hmac(saltedPassword, "Server Key"),
  };
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function malformed(what: string): GatewayError {
  return new GatewayError("target_protocol", "The database's authentication (SCRAM) is not as specified.", {
    cause: new Error(`the target sent ${what}`),
  });
}
