/**
 * The caller's way in: TLS and GSS requests, cancel requests, start-up, the token as cleartext password. Sans-IO: bytes in,
 * events out. It holds at most one startup packet and one token of a stranger, and never asks for a token on an unprotected
 * wire where TLS is required. Spec: PostgreSQL documentation, "Message Flow: Start-up", "SSL Session Encryption".
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { encodeGatewayError } from "./errors.ts";
import { BodyReader, cstring, encodeMessage, int32 } from "./frames.ts";
import { sortStartupParameters } from "./startup-parameters.ts";
import type { StartupParameters } from "./startup-parameters.ts";

export interface StartupRequest extends StartupParameters {
  /** 0 or 2: the protocol is 3.0 or 3.2 from here on. */
  readonly protocolMinor: number;
}

export type FrontDoorEvent =
  | { readonly kind: "send"; readonly bytes: Buffer }
  /** Start TLS on the socket now (after sending what came before), then call `tlsEstablished`. */
  | { readonly kind: "upgradeTls" }
  /** A cancel request: the driver passes it on, answers nothing and closes. */
  | { readonly kind: "cancel"; readonly processId: number; readonly secret: Buffer }
  /** Verify the token, then `accept` or `refuse`. */
  | { readonly kind: "authenticate"; readonly startup: StartupRequest; readonly token: string }
  /** With an error the driver sends `refuse(error)` first; null: the caller is leaving. */
  | { readonly kind: "end"; readonly error: GatewayError | null };

export interface FrontDoorOptions {
  readonly limits: Pick<Limits, "startupBytesMax" | "tokenBytesMax">;
  /** required: SSLRequest first. established: the socket is TLS already (direct TLS). plaintext: no TLS on this listener. */
  readonly tls: "required" | "established" | "plaintext";
}

export interface Acceptance {
  /** Reported as ParameterStatus, in order. */
  readonly parameters: readonly (readonly [name: string, value: string])[];
  readonly processId: number;
  /** Four bytes with 3.0, up to 256 with 3.2. */
  readonly secret: Buffer;
  readonly protocolMinor: number;
}

/** A TLS handshake record: the client starts TLS at once (`sslnegotiation=direct`). */
export function isTlsClientHello(firstByte: number): boolean {
  return firstByte === 0x16;
}

const SSL_REQUEST = 80877103;
const GSSENC_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;
const PROTOCOL_MAJOR = 3;
const PROTOCOL_MINOR_MAX = 2;
const CANCEL_SECRET_BYTES_MAX = 256;
/** An untyped message: length, then a code. */
const STARTUP_HEAD_BYTES = 8;

type State = "startup" | "upgrading" | "password" | "authenticating" | "ended";

/** One caller's way in. Discard after an `end`, `cancel` or `authenticate` event was acted on. */
export class FrontDoor {
  readonly #options: FrontDoorOptions;
  #state: State = "startup";
  #protected: boolean;
  #sslAsked: boolean;
  #gssAsked = false;
  #pending: Buffer = Buffer.alloc(0);
  #startup: StartupRequest | null = null;

  constructor(options: FrontDoorOptions) {
    this.#options = options;
    this.#protected = options.tls !== "required";
    this.#sslAsked = options.tls === "established";
  }

  /** Takes bytes in any split. Never throws: a fault is an `end` event. */
  receive(chunk: Buffer): FrontDoorEvent[] {
    const events: FrontDoorEvent[] = [];
    try {
      this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
      while (this.#step(events));
    } catch (thrown) {
      this.#state = "ended";
      events.push({ kind: "end", error: toGatewayError(thrown) });
    }
    return events;
  }

  /** TLS is up: what comes from now on crossed a protected wire. */
  tlsEstablished(): void {
    this.#protected = true;
    this.#sslAsked = true;
    if (this.#state === "upgrading") this.#state = "startup";
  }

  /** FATAL ErrorResponse. */
  refuse(error: GatewayError): Buffer {
    this.#state = "ended";
    return encodeGatewayError(error, "FATAL");
  }

  /** AuthenticationOk, ParameterStatus, BackendKeyData, ReadyForQuery (idle). */
  accept(acceptance: Acceptance): Buffer {
    const { parameters, processId, secret, protocolMinor } = acceptance;
    const longest = protocolMinor >= 2 ? CANCEL_SECRET_BYTES_MAX : 4;
    if (secret.length < 4 || secret.length > longest) throw new Error("cancel secret does not fit the protocol version");
    const status = parameters.map(([name, value]) => encodeMessage("S", [cstring(name), cstring(value)]));
    return Buffer.concat([
      encodeMessage("R", [int32(0)]),
      ...status,
      encodeMessage("K", [int32(processId), secret]),
      encodeMessage("Z", [Buffer.from("I")]),
    ]);
  }

  /** Bytes that came after the password message, for the relay. */
  rest(): Buffer {
    return this.#pending;
  }

  /** Handles one message; false when more bytes are needed or nothing more is read. */
  #step(events: FrontDoorEvent[]): boolean {
    switch (this.#state) {
      case "startup":
        return this.#startupMessage(events);
      case "upgrading":
        if (this.#pending.length > 0) throw stuffed();
        return false;
      case "password":
        return this.#passwordMessage(events);
      case "authenticating":
        if (this.#pending.length > this.#options.limits.startupBytesMax)
          throw violation("Too much was sent before the login was answered.");
        return false;
      case "ended":
        return false;
      default:
        return assertNever(this.#state);
    }
  }

  #startupMessage(events: FrontDoorEvent[]): boolean {
    if (this.#pending.length < 4) return false;
    const length = this.#pending.readUInt32BE(0);
    if (length < STARTUP_HEAD_BYTES || length > this.#options.limits.startupBytesMax)
      throw violation("This is not a PostgreSQL start-up message, or it is too long.");
    if (this.#pending.length < length) return false;
    const body = this.#pending.subarray(4, length);
    this.#pending = this.#pending.subarray(length);
    const code = body.readUInt32BE(0);
    if (code === SSL_REQUEST) return this.#sslRequest(body, events);
    if (code === GSSENC_REQUEST) return this.#gssRequest(body, events);
    if (code === CANCEL_REQUEST) return this.#cancelRequest(body, events);
    return this.#protocolStart(code, body, events);
  }

  #sslRequest(body: Buffer, events: FrontDoorEvent[]): boolean {
    if (this.#sslAsked || body.length !== 4) throw violation("A second or malformed TLS request came.");
    this.#sslAsked = true;
    if (this.#options.tls === "plaintext") {
      events.push({ kind: "send", bytes: Buffer.from("N") });
      return true;
    }
    // Bytes that came with the request crossed in clear and would be read as if they had come through TLS.
    if (this.#pending.length > 0) throw stuffed();
    events.push({ kind: "send", bytes: Buffer.from("S") }, { kind: "upgradeTls" });
    this.#state = "upgrading";
    return false;
  }

  #gssRequest(body: Buffer, events: FrontDoorEvent[]): boolean {
    if (this.#gssAsked || body.length !== 4) throw violation("A second or malformed GSS encryption request came.");
    this.#gssAsked = true;
    events.push({ kind: "send", bytes: Buffer.from("N") });
    return true;
  }

  #cancelRequest(body: Buffer, events: FrontDoorEvent[]): boolean {
    const reader = new BodyReader(body.subarray(4));
    const processId = reader.int32();
    const secret = Buffer.from(reader.bytes(reader.remaining));
    if (secret.length < 4 || secret.length > CANCEL_SECRET_BYTES_MAX) throw violation("A malformed cancel request came.");
    events.push({ kind: "cancel", processId, secret });
    this.#state = "ended";
    return false;
  }

  #protocolStart(code: number, body: Buffer, events: FrontDoorEvent[]): boolean {
    if (code >>> 16 !== PROTOCOL_MAJOR) {
      throw new GatewayError("protocol_violation", "This gateway speaks version 3 of the PostgreSQL protocol only.", {
        hint: "Update the client; every PostgreSQL driver of the last twenty years speaks version 3.",
      });
    }
    if (!this.#protected) throw tlsRequired();
    const asked = code & 0xffff;
    // 3.1 was never used; what is between 0 and 2 gets 3.0.
    const protocolMinor = asked >= PROTOCOL_MINOR_MAX ? PROTOCOL_MINOR_MAX : 0;
    const { parameters, extensions } = readParameters(new BodyReader(body.subarray(4)));
    if (protocolMinor !== asked || extensions.length > 0) {
      const head = [int32((PROTOCOL_MAJOR << 16) | protocolMinor), int32(extensions.length)];
      events.push({ kind: "send", bytes: encodeMessage("v", [...head, ...extensions.map((name) => cstring(name))]) });
    }
    this.#startup = { ...sortStartupParameters(parameters), protocolMinor };
    events.push({ kind: "send", bytes: encodeMessage("R", [int32(3)]) });
    this.#state = "password";
    return true;
  }

  #passwordMessage(events: FrontDoorEvent[]): boolean {
    const pending = this.#pending;
    if (pending.length < 1) return false;
    const terminates = pending[0] === 0x58;
    if (!terminates && pending[0] !== 0x70) throw violation("A message came where the password was expected.");
    if (pending.length < 5) return false;
    const length = pending.readUInt32BE(1);
    if (terminates) {
      this.#state = "ended";
      events.push({ kind: "end", error: null });
      return false;
    }
    if (length < 5) throw violation("A password message declared an impossible length.");
    if (length > this.#options.limits.tokenBytesMax + 5) {
      throw new GatewayError("login_failed", "The token is longer than this gateway accepts.", {
        hint: `The password is the token alone, at most ${this.#options.limits.tokenBytesMax} bytes.`,
      });
    }
    if (pending.length < length + 1) return false;
    const reader = new BodyReader(pending.subarray(5, length + 1));
    const token = reader.cstring();
    reader.end();
    if (token === "") throw new GatewayError("login_failed", "No token was given.", { hint: "The password is the token." });
    this.#pending = pending.subarray(length + 1);
    this.#state = "authenticating";
    events.push({ kind: "authenticate", startup: this.#startup!, token });
    return true;
  }
}

function readParameters(reader: BodyReader): { parameters: [string, string][]; extensions: string[] } {
  const parameters: [string, string][] = [];
  const extensions: string[] = [];
  for (;;) {
    const name = reader.cstring();
    if (name === "") break;
    const value = reader.cstring();
    if (name.startsWith("_pq_.")) extensions.push(name);
    else parameters.push([name, value]);
  }
  reader.end();
  return { parameters, extensions };
}

function violation(message: string): GatewayError {
  return new GatewayError("protocol_violation", message);
}

function stuffed(): GatewayError {
  return violation("Unprotected bytes came behind the request for TLS. Someone on the way may be tampering with the connection.");
}

function tlsRequired(): GatewayError {
  return new GatewayError("tls_required", "This gateway takes tokens over TLS only.", {
    hint: "Connect with sslmode=verify-full and sslrootcert set to the gateway's CA file.",
  });
}
