/**
 * Callers that work without a pause while others break the installation: masked selects, transactions, pipelines, cursors, waits and
 * writes, each answer kept. A caller that loses its session goes on at any gateway, as a client with several hosts does; it never
 * forgives a silence, and what it was told it never forgets.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Fleet, portOf } from "./fleet.ts";
import type { FleetNode } from "./fleet-node.ts";
import { RawClient } from "./raw-client.ts";
import type { SeededRandom } from "./seeded-random.ts";
import {
  bind,
  close,
  codeOf,
  errorFields,
  execute,
  parse,
  query,
  rowTexts,
  terminate,
  type WireMessage,
} from "./wire-messages.ts";

/** One error that a caller was told. */
export interface ToldError {
  readonly sqlState: string;
  readonly code: string;
  readonly severity: string;
  readonly message: string;
}

/** A session, or an attempt at one, as its caller saw it. */
export interface Transcript {
  readonly caller: string;
  readonly gateway: string;
  /** Sees masked values only. */
  readonly masked: boolean;
  /** Null when the login did not get that far. */
  readonly sessionId: string | null;
  readonly rows: readonly (readonly (string | null)[])[];
  readonly errors: readonly ToldError[];
  /** How the connection ended: by the caller, after a FATAL error, or without a word. */
  readonly end: "own" | "fatal" | "silent";
  readonly beganMs: number;
  readonly endedMs: number;
  /** What the test itself found wrong, such as an answer that did not come. */
  readonly fault: string | null;
  readonly received: Buffer;
}

export interface Load {
  readonly transcripts: readonly Transcript[];
  /** Units of work done so far, of all callers. */
  readonly done: number;
  /** Writes that were acknowledged: caller and number. */
  readonly written: readonly (readonly [caller: string, number: number])[];
  /** Ends every session in good order. */
  stop(): Promise<void>;
}

export interface LoadOptions {
  readonly callersPerGateway: number;
  readonly random: SeededRandom;
  /** Between two units of one caller. Milliseconds. */
  readonly pauseMs: number;
}

export const JOURNAL = "CREATE TABLE journal (caller text NOT NULL, number int NOT NULL, PRIMARY KEY (caller, number))";
/** After a failed attempt: what a driver that retries waits. Milliseconds. */
const RETRY_MS = 100;
/** Sessions are short, so that logins are part of the load. Units. */
const UNITS_MAX = 30;

export function startLoad(fleet: Fleet, options: LoadOptions): Load {
  const state: LoadState = { places: placesOf(fleet), transcripts: [], written: [], done: 0, stopping: false };
  const callers = fleet.gateways.flatMap((gateway, at) =>
    Array.from({ length: options.callersPerGateway }, (_, index) => {
      const name = `caller-${at + 1}-${index + 1}`;
      // The last of each gateway writes and sees everything; all others see masked values.
      const masked = index < options.callersPerGateway - 1;
      return new Caller(name, masked, fleet, options, state, gateway).run();
    }),
  );
  return {
    transcripts: state.transcripts,
    written: state.written,
    get done() {
      return state.done;
    },
    stop: async () => {
      state.stopping = true;
      await Promise.all(callers);
    },
  };
}

export interface Place {
  readonly port: number;
  readonly caFile: string;
}

/** Where callers reach each gateway, by its name; all must run. */
export function placesOf(fleet: Fleet): ReadonlyMap<string, Place> {
  return new Map(fleet.gateways.map((gateway) => [gateway.name, { port: portOf(gateway), caFile: gateway.ready.caFile }]));
}

interface LoadState {
  /** Ports and CA outlive a process: callers know them from their own configuration. */
  readonly places: ReadonlyMap<string, Place>;
  readonly transcripts: Transcript[];
  readonly written: (readonly [string, number])[];
  done: number;
  stopping: boolean;
}

class Caller {
  readonly #name: string;
  readonly #masked: boolean;
  readonly #fleet: Fleet;
  readonly #options: LoadOptions;
  readonly #state: LoadState;
  #gateway: FleetNode;
  #number = 0;

  constructor(name: string, masked: boolean, fleet: Fleet, options: LoadOptions, state: LoadState, gateway: FleetNode) {
    this.#name = name;
    this.#masked = masked;
    this.#fleet = fleet;
    this.#options = options;
    this.#state = state;
    this.#gateway = gateway;
  }

  async run(): Promise<void> {
    const { random } = this.#options;
    while (!this.#state.stopping) {
      const transcript = await this.#session();
      this.#state.transcripts.push(transcript);
      if (transcript.end === "own" && transcript.fault === null) continue;
      await delay(RETRY_MS);
      this.#gateway = random.pick(this.#fleet.gateways);
    }
  }

  async #session(): Promise<Transcript> {
    const gateway = this.#gateway;
    const beganMs = Date.now();
    const groups = this.#masked ? ["agents"] : ["dba"];
    const token = await this.#fleet.token(this.#name, groups);
    let client: RawClient | undefined;
    let fault: string | null = null;
    let ownEnd = false;
    try {
      client = await RawClient.connect(this.#state.places.get(gateway.name)!); // every gateway has one
      const answers = await client.login({ token });
      if (answers.at(-1)?.type === "Z") {
        await this.#work(client);
        ownEnd = true;
        client.send(terminate);
      }
      await client.untilClosed();
    } catch (error) {
      fault = isSilence(error) ? String(error) : null;
    }
    client?.vanish();
    const received = Buffer.concat(client?.received ?? []);
    const messages = messagesIn(received);
    const errors = messages.filter(({ type }) => type === "E").map(({ body }) => told(body));
    const fatal = errors.some(({ severity }) => severity === "FATAL");
    return {
      caller: this.#name,
      gateway: gateway.name,
      masked: this.#masked,
      sessionId: sessionIdIn(messages),
      rows: messages.filter(({ type }) => type === "D").map(rowTexts),
      errors,
      end: fatal ? "fatal" : ownEnd ? "own" : "silent",
      beganMs,
      endedMs: Date.now(),
      fault,
      received,
    };
  }

  async #work(client: RawClient): Promise<void> {
    const { random, pauseMs } = this.#options;
    for (let units = 1 + random.below(UNITS_MAX); units > 0 && !this.#state.stopping; units--) {
      await this.#unit(client);
      this.#state.done += 1;
      await delay(pauseMs);
    }
  }

  /** One of what programs do. Each row says whose it is, so that no other caller's recording can pass for this one's. */
  async #unit(client: RawClient): Promise<void> {
    const { random } = this.#options;
    this.#number += 1;
    const tag = `'${this.#name} ${this.#number}' AS tag`;
    const id = 1 + random.below(3);
    const kinds = this.#masked ? 7 : 8;
    switch (random.below(kinds)) {
      case 0:
        await client.query(`SELECT id, ssn, email, card, notes, ${tag} FROM customers WHERE id = ${id}`);
        break;
      case 1:
        await client.query(`SELECT upper(ssn), left(card, 6), email || '!', ${tag} FROM customers WHERE id = ${id}`);
        break;
      case 2:
        await client.query("BEGIN");
        await client.query(
          `SELECT c.email, o.total, ${tag} FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id < 9`,
        );
        await client.query(random.below(2) === 0 ? "COMMIT" : "ROLLBACK");
        break;
      case 3: {
        const step = (number: number): readonly Buffer[] => [bind("", "get", [String(number)]), execute("")];
        const text = `SELECT id, ssn, notes, ${tag} FROM customers WHERE id = $1`;
        await client.pipeline(parse("get", text), ...[1, 2, 3, id].flatMap(step));
        await client.pipeline(close("S", "get"));
        break;
      }
      case 4:
        await client.query("BEGIN");
        await client.query(`DECLARE few CURSOR FOR SELECT id, ssn, card, ${tag} FROM customers WHERE id > 0 LIMIT 3`);
        await client.query("FETCH 2 FROM few");
        await client.query("FETCH 2 FROM few");
        await client.query("COMMIT");
        break;
      case 5:
        await client.query("TABLE customers"); // refused to those who see masked values
        await client.query(`SELECT count(*), ${tag} FROM orders WHERE id > ${id}`);
        break;
      case 6:
        await client.query(`SELECT pg_sleep(0.4), ${tag}`);
        break;
      default:
        await this.#write(client);
    }
    // Whatever failed has left no transaction behind.
    await client.query("ROLLBACK");
  }

  async #write(client: RawClient): Promise<void> {
    const number = this.#number;
    client.send(query(`INSERT INTO journal VALUES ('${this.#name}', ${number})`));
    const answers = await client.untilReady();
    if (answers.some(({ type }) => type === "C")) this.#state.written.push([this.#name, number]);
  }
}

/** The raw client waits long; an answer that has not come by then does not come. */
function isSilence(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("nothing more came");
}

function messagesIn(bytes: Buffer): readonly WireMessage[] {
  const messages: WireMessage[] = [];
  for (let at = 0; at + 5 <= bytes.length; ) {
    const end = at + 1 + bytes.readUInt32BE(at + 1);
    if (end > bytes.length) break;
    messages.push({ type: String.fromCharCode(bytes[at]!), body: bytes.subarray(at + 5, end) });
    at = end;
  }
  return messages;
}

function sessionIdIn(messages: readonly WireMessage[]): string | null {
  const status = messages.find(({ type, body }) => type === "S" && body.includes("sluice.session_id"));
  return status?.body.toString().split("\0")[1] ?? null;
}

function told(body: Buffer): ToldError {
  const fields = errorFields(body);
  return {
    sqlState: fields["C"] ?? "",
    code: codeOf(fields),
    severity: fields["S"] ?? "",
    message: fields["M"] ?? "",
  };
}
