/** The login machine over scripted servers: every way in split at every byte, and every way to lie. */
import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import { BodyReader, cstring, encodeMessage, int32 } from "@sluice/inspect/wire/postgres/frames.ts";
import { describe, expect, test } from "vitest";
import { type LoginEffect, LoginMachine, type LoginOptions } from "./login.ts";
import { serverVersionOf } from "./open.ts";
import { scramKeysOf } from "./scram.ts";

const options: LoginOptions = {
  user: "app",
  database: "orders",
  password: "pencil",
  startup: {},
  wire: { tls: false, verifiedFully: false },
  nonce: "clientnonce",
  frameBytesMax: 4_096,
  scramIterationsMax: 10_000,
};
const verified = { tls: true, verifiedFully: true };
const salt = Buffer.from("0123456789abcdef");

const auth = (method: number, ...parts: Buffer[]): Buffer => encodeMessage("R", [int32(method), ...parts]);
const sasl = (...mechanisms: string[]): Buffer => auth(10, ...mechanisms.map(cstring), Buffer.from([0]));
const status = (name: string, value: string): Buffer => encodeMessage("S", [cstring(name), cstring(value)]);
const notice = encodeMessage("N", [Buffer.from("SNOTICE\0C00000\0Mhello\0\0")]);
const key = encodeMessage("K", [int32(4711), int32(-2)]);
const ready = encodeMessage("Z", [Buffer.from("I")]);
const welcome = [auth(0), notice, status("server_version", "18.4"), status("TimeZone", "UTC"), key, ready, Buffer.from("rest")];
const result = {
  parameters: [
    ["server_version", "18.4"],
    ["TimeZone", "UTC"],
  ],
  backendKey: { processId: 4711, secret: int32(-2) },
  rest: Buffer.from("rest"),
};

interface Exchange {
  readonly sent: readonly Buffer[];
  readonly ready: unknown;
}

/** Answers each of the machine's messages with the next script; every script comes in two chunks, cut at `cut`. */
function play(machine: LoginMachine, scripts: readonly Buffer[], cut = 0): Exchange {
  const sent: Buffer[] = [machine.start()];
  let login: unknown;
  const take = (effects: readonly LoginEffect[]): void => {
    for (const effect of effects) {
      if (effect.kind === "send") sent.push(effect.bytes);
      else if (effect.kind === "ready") login = effect.login;
      else {
        const { salt: asked, iterations } = effect.challenge;
        take(machine.keysDerived(scramKeysOf(pbkdf2Sync(effect.password, asked, iterations, 32, "sha256"))));
      }
    }
  };
  for (const script of scripts) {
    for (const part of [script.subarray(0, cut), script.subarray(cut)]) take(machine.receive(Buffer.from(part)));
  }
  return { sent, ready: login };
}

/** What a server that knows the password sends for a client with `nonce`; `header` is the client's gs2 header with its data. */
function scramServer(header: Buffer, password = "pencil"): { first: Buffer; final: Buffer; proofOf: () => string } {
  const first = `r=clientnonceserver,s=${salt.toString("base64")},i=64`;
  const withoutProof = `c=${header.toString("base64")},r=clientnonceserver`;
  const authMessage = `n=,r=clientnonce,${first},${withoutProof}`;
  const salted = pbkdf2Sync(password, salt, 64, 32, "sha256");
  const mac = (by: Buffer, text: string): Buffer => createHmac("sha256", by).update(text).digest();
  const clientKey = mac(salted, "Client Key");
  const signature = mac(createHash("sha256").update(clientKey).digest(), authMessage);
  const proof = Buffer.from(clientKey.map((byte, index) => byte ^ signature[index]!)).toString("base64");
  return {
    first: auth(11, Buffer.from(first)),
    final: auth(12, Buffer.from(`v=${mac(mac(salted, "Server Key"), authMessage).toString("base64")}`)),
    proofOf: () => `${withoutProof},p=${proof}`,
  };
}

describe("start", () => {
  test("says user, database and encoding, and passes on what is not ours to set", () => {
    const startup = {
      application_name: "x",
      User: "root",
      DATABASE: "other",
      replication: "true",
      client_encoding: "LATIN1",
      Standard_Conforming_Strings: "off",
      "_pq_.a": "b",
    };
    const message = new LoginMachine({ ...options, startup }).start();
    const body = new BodyReader(message);
    expect([body.int32(), body.int32()]).toEqual([message.length, 196_608]);
    const pairs: string[] = [];
    for (let text = body.cstring(); text !== ""; text = body.cstring()) pairs.push(text);
    body.end();
    const text = "user=app database=orders client_encoding=UTF8 standard_conforming_strings=on application_name=x";
    expect(pairs).toEqual(text.split(/[ =]/));
  });

  test("refuses a NUL, which would end the value and begin another", () => {
    const machine = new LoginMachine({ ...options, startup: { options: "a\0replication\0true" } });
    expect(() => machine.start()).toThrow(expect.objectContaining({ code: "protocol_violation" }));
  });
});

describe("ways in, split at every byte", () => {
  const md5 = createHash("md5");
  md5.update(createHash("md5").update("pencilapp").digest("hex")).update(Buffer.from([1, 2, 3, 4]));
  const plain = scramServer(Buffer.from("n,,"));
  const endPointHash = Buffer.alloc(32, 9);
  const bound = scramServer(Buffer.concat([Buffer.from("p=tls-server-end-point,,"), endPointHash]));
  const first = (mechanism: string, text: string): Buffer =>
    encodeMessage("p", [cstring(mechanism), int32(text.length), Buffer.from(text)]);
  const last = (text: string): Buffer => encodeMessage("p", [Buffer.from(text)]);

  test.each([
    ["trust", {}, [Buffer.concat(welcome)], []],
    ["clear text", { wire: verified }, [auth(3), Buffer.concat(welcome)], [encodeMessage("p", [cstring("pencil")])]],
    [
      "md5",
      {},
      [auth(5, Buffer.from([1, 2, 3, 4])), Buffer.concat(welcome)],
      [encodeMessage("p", [cstring(`md5${md5.digest("hex")}`)])],
    ],
    [
      "SCRAM",
      {},
      [sasl("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), plain.first, Buffer.concat([plain.final, ...welcome])],
      [first("SCRAM-SHA-256", "n,,n=,r=clientnonce"), last(plain.proofOf())],
    ],
    [
      "SCRAM with channel binding",
      { wire: { ...verified, endPointHash } },
      [sasl("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), bound.first, Buffer.concat([bound.final, ...welcome])],
      [first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=clientnonce"), last(bound.proofOf())],
    ],
  ] as [string, Partial<LoginOptions>, Buffer[], Buffer[]][])("%s", (_, overrides, scripts, answers) => {
    const longest = Math.max(...scripts.map((script) => script.length));
    for (let cut = 0; cut <= longest; cut++) {
      const { sent, ready: login } = play(new LoginMachine({ ...options, ...overrides }), scripts, cut);
      expect(sent.slice(1)).toEqual(answers);
      // The part of "rest" that came in a later chunk was never given to the machine's frame reader as a frame.
      const got = login as typeof result;
      expect({ ...got, rest: undefined }).toEqual({ ...result, rest: undefined });
      expect("rest".startsWith(got.rest.toString())).toBe(true);
    }
  });
});

describe("servers that lie or refuse", () => {
  const server = scramServer(Buffer.from("n,,"));
  const stranger = scramServer(Buffer.from("n,,"), "guessed");
  const error = (state: string): Buffer =>
    encodeMessage("E", [Buffer.from(`SFATAL\0C${state}\0Msecret words of the server\0\0`)]);

  test.each([
    ["ok before the signature", [sasl("SCRAM-SHA-256"), server.first, auth(0)], "target_protocol"],
    ["ok instead of a challenge", [sasl("SCRAM-SHA-256"), auth(0)], "target_protocol"],
    ["the signature of another password", [sasl("SCRAM-SHA-256"), server.first, stranger.final], "target_auth_failed"],
    ["clear text after SCRAM began", [sasl("SCRAM-SHA-256"), auth(3)], "target_protocol"],
    ["clear text without TLS", [auth(3)], "target_auth_failed"],
    ["ready without authentication", [ready], "target_protocol"],
    ["settings without authentication", [status("a", "b")], "target_protocol"],
    ["authentication again", [auth(0), auth(3)], "target_protocol"],
    ["Kerberos", [auth(7)], "target_auth_failed"],
    ["only unknown mechanisms", [sasl("OAUTHBEARER")], "target_auth_failed"],
    ["only channel binding, which we cannot", [sasl("SCRAM-SHA-256-PLUS")], "target_auth_failed"],
    ["a list without an end", [auth(10, Buffer.from("SCRAM"))], "target_protocol"],
    ["an md5 salt that is too short", [auth(5, Buffer.from([1]))], "target_protocol"],
    ["bytes after ok", [auth(0, Buffer.from([0]))], "target_protocol"],
    ["rows", [auth(0), encodeMessage("D", [])], "target_protocol"],
    ["a message of a gigabyte", [Buffer.from("R\x40\0\0\0")], "target_protocol"],
    ["an impossible length", [Buffer.from("R\0\0\0\x03")], "target_protocol"],
    ["settings without end", [auth(0), ...Array.from({ length: 257 }, () => status("a", "b"))], "target_protocol"],
    ["wrong password", [error("28P01")], "target_auth_failed"],
    ["no right to connect", [auth(0), error("42501")], "target_auth_failed"],
    ["no such database", [auth(0), error("3D000")], "target_unreachable"],
    ["too many connections", [error("53300")], "target_unreachable"],
    ["starting up", [error("57P03")], "target_unreachable"],
    ["something else", [error("XX000")], "target_protocol"],
    ["an error without an end", [encodeMessage("E", [Buffer.from("SFATAL")])], "target_protocol"],
  ] as [string, Buffer[], string][])("%s", (_, scripts, code) => {
    const failed = expect.objectContaining({ code, message: expect.not.stringContaining("secret words") as string }) as Error;
    expect(() => play(new LoginMachine(options), scripts)).toThrow(failed);
  });

  test("over TLS an offer without channel binding is answered by saying that it was not seen", () => {
    const wire = { ...verified, endPointHash: Buffer.alloc(32) };
    const { sent } = play(new LoginMachine({ ...options, wire }), [sasl("SCRAM-SHA-256")]);
    expect(sent[1]?.toString()).toContain("y,,n=,r=clientnonce");
  });

  test("a password is asked for and none is declared", () => {
    for (const script of [auth(5, Buffer.alloc(4)), sasl("SCRAM-SHA-256")]) {
      const machine = new LoginMachine({ ...options, password: undefined });
      expect(() => play(machine, [script])).toThrow(expect.objectContaining({ code: "target_auth_failed" }));
    }
  });
});

test.each([
  ["18.4", 180_004],
  ["15.18 (Debian 15.18-0+deb12u1)", 150_018],
  ["19beta1", 190_000],
  ["9.6.24", 90_006],
  ["", 0],
  ["unknown", 0],
])("server version %j is %d", (text, version) => {
  expect(serverVersionOf([["server_version", text]])).toBe(version);
});

test("keeps the credential out of what the server says about it, however it repeats it", () => {
  const refusal = `SFATAL\0C28000\0Mrole "hunter2-as-a-name" does not exist (${"x".repeat(230)}pencil)\0\0`;
  const machine = new LoginMachine({ ...options, user: "hunter2-as-a-name" });
  machine.start();
  let thrown: unknown;
  try {
    machine.receive(encodeMessage("E", [Buffer.from(refusal)]));
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toMatchObject({
    code: "target_auth_failed",
    cause: { message: expect.stringContaining('role "…" does not') as string },
  });
  expect(`${String(thrown)} ${String((thrown as Error).cause)}`).not.toMatch(/hunter2|penci/);
});
