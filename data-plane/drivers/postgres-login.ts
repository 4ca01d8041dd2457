/**
 * From the first byte of a PostgreSQL connection to a verified token: TLS, startup, cancel requests, authentication. Joins the front
 * door's machine to a socket. Nothing of a session is known here, and nothing but a cancel leaves before a token was verified.
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Principal } from "@sluice/core/principal.ts";
import { encodeGatewayError } from "@sluice/inspect/wire/postgres/errors.ts";
import {
  FrontDoor,
  type FrontDoorEvent,
  isTlsClientHello,
  type StartupRequest,
} from "@sluice/inspect/wire/postgres/front-door.ts";
import type { GatewayParts } from "../gateway-parts.ts";
import type { AcceptedConnection } from "./driver.ts";

/** Protocol name in ALPN, registered for PostgreSQL; required for TLS without an SSLRequest. */
const ALPN = "postgresql";
/** A caller that does not take its last words is cut off. Milliseconds. */
const GOODBYE_MS = 2_000;

export interface Login {
  /** Paused, and nobody listens to it. */
  readonly stream: Socket;
  readonly door: FrontDoor;
  readonly startup: StartupRequest;
  readonly principal: Principal;
  readonly expiresAtMs: number;
}

/** Null: the connection ended in an ordinary way (a cancel request, a port probe). Rejects with the GatewayError that the caller was told. */
export function openFrontDoor(parts: GatewayParts, connection: AcceptedConnection): Promise<Login | null> {
  return new PostgresLogin(parts, connection).run();
}

/** Lets last words leave, then makes sure that the socket is gone. */
export function destroySoon(socket: Socket): void {
  setTimeout(() => socket.destroy(), GOODBYE_MS).unref();
}

class PostgresLogin {
  readonly #parts: GatewayParts;
  readonly #connection: AcceptedConnection;
  readonly #door: FrontDoor;
  readonly #outcome = Promise.withResolvers<Login | null>();
  readonly #deadline: NodeJS.Timeout;
  /** The socket as accepted, later its TLS. */
  #stream: Socket;
  #started = false;

  constructor(parts: GatewayParts, connection: AcceptedConnection) {
    this.#parts = parts;
    this.#connection = connection;
    this.#stream = connection.socket;
    this.#door = new FrontDoor({ limits: parts.limits, tls: parts.certificate === null ? "plaintext" : "required" });
    this.#deadline = setTimeout(() => this.#fail(loginTimeout()), parts.limits.authenticationTimeoutMs);
  }

  run(): Promise<Login | null> {
    this.#attach();
    if (this.#connection.early.length > 0) this.#receive(this.#connection.early);
    return this.#outcome.promise;
  }

  readonly #receive = (chunk: Buffer): void => {
    if (this.#beginsTls(chunk)) {
      this.#stream.pause();
      this.#stream.unshift(chunk);
      this.#upgrade(true);
      return;
    }
    try {
      for (const event of this.#door.receive(chunk)) this.#act(event);
    } catch (error) {
      this.#fail(error);
    }
  };

  readonly #ended = (): void => {
    clearTimeout(this.#deadline);
    this.#outcome.resolve(null);
  };

  /** TLS at once, without asking for it by an SSLRequest. */
  #beginsTls(chunk: Buffer): boolean {
    if (this.#started) return false;
    this.#started = true;
    return this.#stream === this.#connection.socket && this.#parts.certificate !== null && isTlsClientHello(chunk[0]!);
  }

  #act(event: FrontDoorEvent): void {
    switch (event.kind) {
      case "send":
        this.#stream.write(event.bytes);
        return;
      case "upgradeTls":
        this.#upgrade(false);
        return;
      case "cancel":
        this.#parts.cancelKeys.redeem(event.processId, event.secret, this.#connection.clientAddress);
        this.#leave();
        return;
      case "authenticate":
        this.#authenticate(event.startup, event.token);
        return;
      case "end":
        if (event.error !== null) this.#fail(event.error);
        else this.#leave();
        return;
      default:
        assertNever(event);
    }
  }

  #upgrade(direct: boolean): void {
    this.#detach();
    const secured = secure(this.#parts, this.#stream);
    secured.once("secure", () => {
      if (direct && secured.alpnProtocol !== ALPN) {
        secured.destroy();
        this.#outcome.resolve(null);
        return;
      }
      this.#door.tlsEstablished();
    });
    this.#stream = secured;
    this.#attach();
  }

  #authenticate(startup: StartupRequest, token: string): void {
    this.#detach();
    const [stream, door] = [this.#stream, this.#door];
    this.#parts.verifier.verify(token).then(
      (verified) => {
        clearTimeout(this.#deadline);
        this.#outcome.resolve(stream.destroyed ? null : { stream, door, startup, ...verified });
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #fail(thrown: unknown): void {
    clearTimeout(this.#deadline);
    this.#detach();
    const stream = this.#stream;
    const error = toGatewayError(thrown);
    if (stream.writable) stream.end(encodeGatewayError(error, "FATAL"));
    stream.resume();
    this.#outcome.reject(error);
  }

  /** Nothing more is taken from this connection: what it still sends is dropped, not kept. */
  #leave(): void {
    const stream = this.#stream;
    stream.off("data", this.#receive);
    stream.end();
    stream.resume();
    destroySoon(stream);
  }

  #attach(): void {
    const stream = this.#stream;
    stream.on("data", this.#receive);
    stream.on("close", this.#ended);
    stream.on("error", this.#ended);
    stream.resume();
  }

  #detach(): void {
    const stream = this.#stream;
    stream.off("data", this.#receive);
    stream.off("close", this.#ended);
    stream.pause();
  }
}

function secure(parts: GatewayParts, socket: Socket): TLSSocket {
  const { certificate } = parts;
  if (certificate === null) throw new GatewayError("internal", "There is no certificate to secure a connection with.");
  return new TLSSocket(socket, { isServer: true, secureContext: certificate.context, ALPNProtocols: [ALPN] });
}

function loginTimeout(): GatewayError {
  return new GatewayError("login_timeout", "The login took too long.", {
    hint: "Send the token as password right after connecting.",
  });
}
