/**
 * A caller that sends whatever bytes a test wants, at any point of a connection, and keeps every byte it gets. It never repairs
 * what is sent and never hides an unexpected answer: every wait ends with a sentence that says what came instead.
 */
import { readFileSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import {
  errorFields,
  password,
  PROTOCOL_3_0,
  query,
  shapeOf,
  sslRequest,
  startup,
  sync,
  type WireMessage,
} from "./wire-messages.ts";

export interface RawOptions {
  readonly port: number;
  readonly caFile: string;
  /** request: SSLRequest first. direct: TLS at once with ALPN. none: plain TCP. */
  readonly tls?: "request" | "direct" | "none";
  /** Protocols offered with direct TLS. */
  readonly alpn?: readonly string[];
  /** Sent before anything else, e.g. a PROXY header. */
  readonly preamble?: Buffer;
}

export interface LoginOptions {
  readonly token: string;
  readonly database?: string;
  readonly user?: string;
  readonly version?: number;
  readonly parameters?: Readonly<Record<string, string>>;
}

export interface Waiter {
  readonly wanted: () => boolean;
  readonly settle: () => void;
}

const WAIT_TIMEOUT_MS = 20_000;

export class RawClient {
  #socket: Socket;
  #pending: Buffer = Buffer.alloc(0);
  #closed = false;
  #waiters: Waiter[] = [];
  /** Messages that no wait has taken yet. */
  readonly #messages: WireMessage[] = [];
  /** Every byte received since the connection was secured. */
  readonly received: Buffer[] = [];
  #raw = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Opens a connection up to where a startup message is due. */
  static async connect(options: RawOptions): Promise<RawClient> {
    const mode = options.tls ?? "request";
    const socket = await openTcp(options.port);
    if (options.preamble !== undefined) socket.write(options.preamble);
    const client = new RawClient(socket);
    if (mode === "none") {
      client.#attach();
      return client;
    }
    if (mode === "request") {
      socket.write(sslRequest);
      const answer = await firstByte(socket);
      if (answer !== "S") throw new Error(`the gateway answered ${JSON.stringify(answer)} to an SSLRequest`);
    }
    client.#socket = await secure(socket, options, mode === "direct");
    client.#attach();
    return client;
  }

  /** Connects, logs in and waits until the session is ready. Throws with the error's text when it is refused. */
  static async login(options: RawOptions & LoginOptions): Promise<RawClient> {
    const client = await RawClient.connect(options);
    const answers = await client.login(options);
    const refusal = answers.find(({ type }) => type === "E");
    if (refusal !== undefined) throw new Error(`login was refused: ${JSON.stringify(errorFields(refusal.body))}`);
    return client;
  }

  /** Sends startup and password; resolves with what came up to ReadyForQuery or an error. */
  async login(options: LoginOptions): Promise<readonly WireMessage[]> {
    const { token, database = "orders", user = "me", version = PROTOCOL_3_0, parameters = {} } = options;
    this.send(startup({ user, database, ...parameters }, version));
    const asked = await this.until(({ type }) => type === "R" || type === "E");
    if (asked.at(-1)!.type === "E") return asked;
    this.send(password(token));
    return [...asked, ...(await this.until(({ type }) => type === "Z" || type === "E"))];
  }

  get socket(): Socket {
    return this.#socket;
  }

  get alpnProtocol(): string | false | null {
    return "alpnProtocol" in this.#socket ? (this.#socket as TLSSocket).alpnProtocol : null; // has TLSSocket's own member
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  send(...parts: readonly Buffer[]): void {
    this.#socket.write(Buffer.concat(parts));
  }

  /** A simple query; resolves with everything up to ReadyForQuery. */
  async query(sql: string): Promise<readonly WireMessage[]> {
    this.send(query(sql));
    return await this.untilReady();
  }

  /** Sends messages and a Sync; resolves with everything up to ReadyForQuery. */
  async pipeline(...parts: readonly Buffer[]): Promise<readonly WireMessage[]> {
    this.send(...parts, sync);
    return await this.untilReady();
  }

  async untilReady(): Promise<readonly WireMessage[]> {
    return await this.until(({ type }) => type === "Z");
  }

  /** Takes messages up to the first that `last` accepts. Throws when the connection ends or nothing comes. */
  async until(last: (message: WireMessage) => boolean): Promise<readonly WireMessage[]> {
    let at = -1;
    await this.#wait(() => {
      at = this.#messages.findIndex(last);
      return at >= 0 || this.#closed;
    });
    if (at < 0) throw new Error(`the connection ended after ${this.#describe()}`);
    return this.#messages.splice(0, at + 1);
  }

  /** Waits for the end of the connection; resolves with the messages that came before it. */
  async untilClosed(): Promise<readonly WireMessage[]> {
    await this.#wait(() => this.#closed);
    return this.#messages.splice(0);
  }

  /** From here on bytes are only kept, not taken apart. */
  keepRaw(): void {
    this.#raw = true;
  }

  async untilBytes(count: number): Promise<void> {
    await this.#wait(() => this.#closed || this.received.reduce((sum, chunk) => sum + chunk.length, 0) >= count);
  }

  pauseReading(): void {
    this.#socket.pause();
  }

  resumeReading(): void {
    this.#socket.resume();
  }

  /** The caller vanishes: no Terminate, no TLS goodbye. */
  vanish(): void {
    this.#socket.destroy();
  }

  /** An orderly end. */
  async end(): Promise<void> {
    if (!this.#closed) {
      this.#socket.end(Buffer.from([0x58, 0, 0, 0, 4]));
      await this.#wait(() => this.#closed).catch(() => {});
    }
    this.#socket.destroy();
  }

  #attach(): void {
    this.#socket.on("data", (chunk: Buffer) => {
      this.received.push(chunk);
      if (!this.#raw) this.#take(chunk);
      this.#wake();
    });
    const closed = (): void => {
      this.#closed = true;
      this.#wake();
    };
    this.#socket.on("end", closed);
    this.#socket.on("close", closed);
    this.#socket.on("error", closed);
    this.#socket.resume();
  }

  #take(chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (this.#pending.length >= 5) {
      const end = this.#pending.readUInt32BE(1) + 1;
      if (this.#pending.length < end) return;
      this.#messages.push({ type: String.fromCharCode(this.#pending[0]!), body: Buffer.from(this.#pending.subarray(5, end)) });
      this.#pending = this.#pending.subarray(end);
    }
  }

  #wake(): void {
    const ready = this.#waiters.filter(({ wanted }) => wanted());
    this.#waiters = this.#waiters.filter((waiter) => !ready.includes(waiter));
    for (const { settle } of ready) settle();
  }

  #wait(wanted: () => boolean): Promise<void> {
    if (wanted()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        wanted,
        settle: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        reject(new Error(`nothing more came within ${WAIT_TIMEOUT_MS} ms after ${this.#describe()}`));
      }, WAIT_TIMEOUT_MS);
      this.#waiters.push(waiter);
    });
  }

  #describe(): string {
    const errors = this.#messages.filter(({ type }) => type === "E").map(({ body }) => JSON.stringify(errorFields(body)));
    return `"${shapeOf(this.#messages)}" ${errors.join(" ")}`.trimEnd();
  }
}

export function openTcp(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host: "127.0.0.1", port, noDelay: true });
    socket.once("connect", () => {
      socket.off("error", reject);
      socket.on("error", () => socket.destroy());
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

function firstByte(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const closed = (): void => reject(new Error("the connection ended instead of an answer to the SSLRequest"));
    socket.once("close", closed);
    socket.once("data", (chunk: Buffer) => {
      socket.off("close", closed);
      socket.pause();
      if (chunk.length > 1) socket.unshift(chunk.subarray(1));
      resolve(String.fromCharCode(chunk[0]!));
    });
  });
}

function secure(socket: Socket, options: RawOptions, direct: boolean): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const ca = readFileSync(options.caFile);
    const alpn = options.alpn ?? (direct ? ["postgresql"] : undefined);
    const secured = connectTls({
      socket,
      ca,
      host: "127.0.0.1",
      ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
    });
    secured.once("secureConnect", () => {
      secured.off("error", reject);
      secured.off("close", closed);
      secured.on("error", () => secured.destroy());
      resolve(secured);
    });
    const closed = (): void => reject(new Error("the connection ended during the TLS handshake"));
    secured.once("error", reject);
    secured.once("close", closed);
  });
}
