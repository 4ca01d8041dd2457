/**
 * Logs in to a PostgreSQL server, from the startup message to the first ReadyForQuery. Sans-IO: bytes in, effects out; discard
 * after it throws. Never sends a password in clear text but under fully verified TLS, never takes a server's word for SCRAM
 * before its signature is checked. Spec: PostgreSQL documentation, "Start-up" and "SASL Authentication", protocol 3.0.
 */
import { createHash } from "node:crypto";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { BodyReader, cstring, encodeMessage, type Frame, FrameReader, int32 } from "@sluice/inspect/wire/postgres/frames.ts";
import { readErrorFields, refusedLogin, type ServerError } from "./server-error.ts";
import { type ScramChallenge, ScramClient, type ScramKeys } from "./scram.ts";

export interface LoginOptions {
  readonly user: string;
  readonly database: string;
  readonly password: string | undefined;
  /** Further startup parameters; user, database, client_encoding and replication in it are left out. */
  readonly startup: Readonly<Record<string, string>>;
  readonly wire: LoginWire;
  /** Printable ASCII without comma, fresh for each login. */
  readonly nonce: string;
  readonly frameBytesMax: number;
  readonly scramIterationsMax: number;
}

/** What is known of the connection below. */
export interface LoginWire {
  readonly tls: boolean;
  /** The certificate's chain and name were both checked. */
  readonly verifiedFully: boolean;
  /** tls-server-end-point hash of the server's certificate, where it has one. */
  readonly endPointHash?: Buffer;
}

export interface LoginResult {
  readonly parameters: readonly (readonly [name: string, value: string])[];
  readonly backendKey: BackendKey | undefined;
  /** What came after ReadyForQuery. */
  readonly rest: Buffer;
}

export interface BackendKey {
  readonly processId: number;
  readonly secret: Buffer;
}

export type LoginEffect =
  | { readonly kind: "send"; readonly bytes: Buffer }
  /** Derive keys, then call `keysDerived`; nothing else is read before. */
  | { readonly kind: "deriveKeys"; readonly password: string; readonly challenge: ScramChallenge }
  | { readonly kind: "ready"; readonly login: LoginResult };

type State =
  | { readonly kind: "expectRequest" }
  | { readonly kind: "expectScramChallenge"; readonly scram: ScramClient; readonly password: string }
  | { readonly kind: "derivingKeys"; readonly scram: ScramClient }
  | { readonly kind: "expectScramSignature"; readonly scram: ScramClient }
  | { readonly kind: "expectOk" }
  | { readonly kind: "expectReady" }
  | { readonly kind: "ready" };

const PROTOCOL_3_0 = 196_608;
/** A server reports about 15 settings. */
const PARAMETERS_MAX = 256;
/** These say who and where, or turn the session into something else: only this file sets them. */
const OWN_PARAMETERS: ReadonlySet<string> = new Set([
  "user",
  "database",
  "client_encoding",
  "standard_conforming_strings",
  "replication",
]);

export class LoginMachine {
  readonly #options: LoginOptions;
  readonly #reader: FrameReader;
  readonly #parameters: (readonly [string, string])[] = [];
  #backendKey: BackendKey | undefined;
  #state: State = { kind: "expectRequest" };

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#reader = new FrameReader(options.frameBytesMax);
  }

  /** The startup message. Throws `protocol_violation` when a value holds a NUL. */
  start(): Buffer {
    const { user, database, startup } = this.#options;
    const pairs: [string, string][] = [
      ["user", user],
      ["database", database],
      ["client_encoding", "UTF8"],
      // The account or the database may have another default: texts would be read otherwise than they are judged.
      ["standard_conforming_strings", "on"],
      ...Object.entries(startup).filter(([name]) => !OWN_PARAMETERS.has(name.toLowerCase()) && !name.startsWith("_pq_.")),
    ];
    if (pairs.flat().some((text) => text.includes("\0"))) {
      throw new GatewayError("protocol_violation", "A start-up parameter holds a NUL byte.");
    }
    const fields = pairs.flatMap(([name, value]) => (name === "" ? [] : [cstring(name), cstring(value)]));
    return encodeMessage(null, [int32(PROTOCOL_3_0), ...fields, Buffer.from([0])]);
  }

  /** Takes what the server sent. Throws GatewayError `target_auth_failed`, `target_protocol` or `target_unreachable`. */
  receive(chunk: Buffer): LoginEffect[] {
    return this.#guard(() => {
      this.#reader.push(chunk);
      return this.#drain();
    });
  }

  /** Continues after `deriveKeys`. */
  keysDerived(keys: ScramKeys): LoginEffect[] {
    return this.#guard(() => {
      if (this.#state.kind !== "derivingKeys") throw new Error("no keys were asked for");
      const { scram } = this.#state;
      this.#state = { kind: "expectScramSignature", scram };
      const send: LoginEffect = { kind: "send", bytes: encodeMessage("p", [Buffer.from(scram.clientFinal(keys))]) };
      return [send, ...this.#drain()];
    });
  }

  #drain(): LoginEffect[] {
    const effects: LoginEffect[] = [];
    while (this.#state.kind !== "derivingKeys" && this.#state.kind !== "ready") {
      const frame = this.#reader.next();
      if (frame === null) break;
      const effect = this.#step(frame);
      if (effect !== undefined) effects.push(effect);
    }
    return effects;
  }

  #step(frame: Frame): LoginEffect | undefined {
    const body = new BodyReader(frame.body);
    switch (String.fromCharCode(frame.type)) {
      case "E":
        throw refusedLogin(this.#withoutCredential(readErrorFields(frame.body)));
      case "N":
        return undefined;
      case "R":
        return this.#authentication(body.int32(), body);
      default:
        if (this.#state.kind !== "expectReady") throw unknownMessage();
        return this.#startupMessage(frame, body);
    }
  }

  #startupMessage(frame: Frame, body: BodyReader): LoginEffect | undefined {
    switch (String.fromCharCode(frame.type)) {
      case "S": {
        if (this.#parameters.length >= PARAMETERS_MAX) throw unknownMessage();
        this.#parameters.push([body.cstring(), body.cstring()]);
        body.end();
        return undefined;
      }
      case "K":
        // Copied: frames are views into what was received.
        this.#backendKey = { processId: body.int32(), secret: Buffer.from(body.bytes(body.remaining)) };
        return undefined;
      case "Z": {
        body.byte();
        body.end();
        this.#state = { kind: "ready" };
        const rest = Buffer.from(this.#reader.rest);
        return { kind: "ready", login: { parameters: this.#parameters, backendKey: this.#backendKey, rest } };
      }
      default:
        throw unknownMessage();
    }
  }

  #authentication(method: number, body: BodyReader): LoginEffect | undefined {
    const state = this.#state;
    switch (state.kind) {
      case "expectRequest":
        return this.#answerRequest(method, body);
      case "expectScramChallenge":
        if (method !== 11) throw unknownMessage();
        this.#state = { kind: "derivingKeys", scram: state.scram };
        return {
          kind: "deriveKeys",
          password: state.password,
          challenge: state.scram.readServerFirst(body.bytes(body.remaining).toString("utf8")),
        };
      case "expectScramSignature":
        // An early "ok" (0) ends here too: who does not know the password must not be believed.
        if (method !== 12) throw unknownMessage();
        if (!state.scram.verifyServerFinal(body.bytes(body.remaining).toString("utf8"))) {
          throw new GatewayError("target_auth_failed", "The database could not prove that it knows its own password.", {
            hint: "Something other than the intended database may be answering at the resource's address.",
          });
        }
        this.#state = { kind: "expectOk" };
        return undefined;
      case "expectOk":
        if (method !== 0) throw unknownMessage();
        body.end();
        this.#state = { kind: "expectReady" };
        return undefined;
      case "derivingKeys":
      case "expectReady":
      case "ready":
        throw unknownMessage();
      default:
        return assertNever(state);
    }
  }

  #answerRequest(method: number, body: BodyReader): LoginEffect | undefined {
    switch (method) {
      case 0:
        body.end();
        this.#state = { kind: "expectReady" };
        return undefined;
      case 3:
        return this.#clearText(body);
      case 5: {
        const password = this.#password();
        const salt = body.bytes(4);
        body.end();
        this.#state = { kind: "expectOk" };
        return { kind: "send", bytes: encodeMessage("p", [cstring(md5Response(this.#options.user, password, salt))]) };
      }
      case 10:
        return this.#startScram(body);
      default:
        throw new GatewayError("target_auth_failed", "The database asks for a way of authentication that Sluice does not have.", {
          hint: "Let the database accept SCRAM-SHA-256 for the agent's user (pg_hba.conf: scram-sha-256).",
          cause: new Error(`authentication request ${method}`),
        });
    }
  }

  #clearText(body: BodyReader): LoginEffect {
    body.end();
    if (!this.#options.wire.verifiedFully) {
      throw new GatewayError(
        "target_auth_failed",
        "The database asks for its password in clear text, which is sent only under fully verified TLS.",
        { hint: "Set the resource's target.tls.mode to verify-full, or let the database ask for scram-sha-256." },
      );
    }
    this.#state = { kind: "expectOk" };
    const password = this.#password();
    return { kind: "send", bytes: encodeMessage("p", [cstring(password)]) };
  }

  #startScram(body: BodyReader): LoginEffect {
    const mechanisms: string[] = [];
    for (let name = body.cstring(); name !== ""; name = body.cstring()) mechanisms.push(name);
    body.end();
    const { endPointHash } = this.#options.wire;
    const plus = endPointHash !== undefined && mechanisms.includes("SCRAM-SHA-256-PLUS");
    const mechanism = plus ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256";
    if (!mechanisms.includes(mechanism)) {
      throw new GatewayError("target_auth_failed", "The database offers no SASL mechanism that Sluice has.", {
        hint: "Let the database accept SCRAM-SHA-256 for the agent's user (pg_hba.conf: scram-sha-256).",
        cause: new Error(`offered: ${mechanisms.map((name) => name.slice(0, 40)).join(", ")}`),
      });
    }
    const password = this.#password();
    const scram = new ScramClient(
      this.#options.nonce,
      plus ? { kind: "bound", endPointHash } : { kind: endPointHash === undefined ? "impossible" : "unoffered" },
      this.#options.scramIterationsMax,
    );
    const first = Buffer.from(scram.clientFirst());
    this.#state = { kind: "expectScramChallenge", scram, password };
    return { kind: "send", bytes: encodeMessage("p", [cstring(mechanism), int32(first.length), first]) };
  }

  #password(): string {
    const { password } = this.#options;
    if (password !== undefined) return password;
    throw new GatewayError("target_auth_failed", "The database asks for a password, and the resource declares none.", {
      hint: "Add credential.password to the resource, and bind its source in the agent's configuration.",
    });
  }

  /** Servers repeat what they were sent, and a secret may have been declared as the user's name. For the log, which must hold none. */
  #withoutCredential(error: ServerError): ServerError {
    const { user, password } = this.#options;
    const secrets = [password, user].filter((text): text is string => text !== undefined && text !== "");
    return { ...error, message: secrets.reduce((message, secret) => message.replaceAll(secret, "…"), error.message) };
  }

  /** What the frame layer says of a caller means here: this is no PostgreSQL. */
  #guard(step: () => LoginEffect[]): LoginEffect[] {
    try {
      return step();
    } catch (error) {
      if (error instanceof GatewayError && (error.code === "protocol_violation" || error.code === "frame_too_large")) {
        throw unknownMessage(error);
      }
      throw error;
    }
  }
}

function md5Response(user: string, password: string, salt: Buffer): string {
  const inner = createHash("md5").update(password).update(user).digest("hex");
  return `md5${createHash("md5").update(inner).update(salt).digest("hex")}`;
}

function unknownMessage(cause?: unknown): GatewayError {
  return new GatewayError("target_protocol", "What answers at the resource's address does not speak PostgreSQL's protocol.", {
    hint: "Ask the platform team to check the resource's address and port.",
    ...(cause === undefined ? {} : { cause }),
  });
}
