import { describe, expect, it } from "vitest";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { GatewayError } from "@sluice/core/errors.ts";
import { BodyReader, cstring, encodeMessage, FrameReader, int32 } from "./frames.ts";
import { FrontDoor, type FrontDoorEvent, type FrontDoorOptions, isTlsClientHello } from "./front-door.ts";

const sslRequest = encodeMessage(null, [int32(80877103)]);
const gssRequest = encodeMessage(null, [int32(80877104)]);
const password = (text: string): Buffer => encodeMessage("p", [cstring(text)]);

function startup(code = 0x30000, parameters: Readonly<Record<string, string>> = { user: "me", database: "orders" }): Buffer {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [cstring(name), cstring(value)]);
  return encodeMessage(null, [int32(code), ...pairs, Buffer.from([0])]);
}

function door(tls: FrontDoorOptions["tls"]): FrontDoor {
  return new FrontDoor({ limits: defaultLimits, tls });
}

/** Adjacent sends are one, so that splits do not matter. */
function merged(events: readonly FrontDoorEvent[]): unknown[] {
  const list: unknown[] = [];
  for (const event of events) {
    const last = list.at(-1);
    if (event.kind === "send" && typeof last === "string" && last.startsWith("send ")) {
      list[list.length - 1] = last + event.bytes.toString("latin1");
    } else if (event.kind === "send") list.push(`send ${event.bytes.toString("latin1")}`);
    else if (event.kind === "end") list.push(`end ${event.error?.code ?? "-"}`);
    else list.push(event);
  }
  return list;
}

const asksPassword = "send R\0\0\0\b\0\0\0\x03";

describe("FrontDoor", () => {
  it("goes from startup to the token, at every split", () => {
    const bytes = Buffer.concat([gssRequest, sslRequest, startup(), password("tokén"), Buffer.from("rest")]);
    const whole = door("plaintext");
    const expected = merged(whole.receive(bytes));
    expect(expected).toEqual([
      `send NN${asksPassword.slice(5)}`,
      {
        kind: "authenticate",
        startup: { user: "me", database: "orders", target: {}, declared: {}, protocolMinor: 0 },
        token: "tokén",
      },
    ]);
    expect(whole.rest().toString()).toBe("rest");
    for (let at = 0; at <= bytes.length; at++) {
      const split = door("plaintext");
      const events = [...split.receive(bytes.subarray(0, at)), ...split.receive(bytes.subarray(at))];
      expect(merged(events)).toEqual(expected);
      expect(split.rest().toString()).toBe("rest");
    }
  });

  it("asks for TLS first where it is required, and reads on once it is up", () => {
    const gate = door("required");
    expect(merged(gate.receive(sslRequest))).toEqual(["send S", { kind: "upgradeTls" }]);
    gate.tlsEstablished();
    expect(merged(gate.receive(startup()))).toEqual([asksPassword]);
    expect(merged(gate.receive(password("t")))).toMatchObject([{ kind: "authenticate", token: "t" }]);
  });

  it("takes direct TLS", () => {
    expect(isTlsClientHello(0x16)).toBe(true);
    expect(isTlsClientHello(0)).toBe(false);
    expect(merged(door("established").receive(startup()))).toEqual([asksPassword]);
    expect(merged(door("established").receive(sslRequest))).toEqual(["end protocol_violation"]);
  });

  it("never asks for a token on a wire in clear", () => {
    const gate = door("required");
    const [event] = gate.receive(startup());
    expect(event).toMatchObject({ kind: "end", error: { code: "tls_required" } });
    const error = (event as { error: GatewayError }).error; // the line above has shown its kind
    expect(gate.refuse(error).toString()).toMatch(/FATAL.*28000.*"tls_required".*sslmode=verify-full/s);
  });

  it("refuses bytes stuffed behind the TLS request, in the same chunk or the next", () => {
    expect(merged(door("required").receive(Buffer.concat([sslRequest, startup()])))).toEqual(["end protocol_violation"]);
    const gate = door("required");
    gate.receive(sslRequest);
    expect(merged(gate.receive(startup()))).toEqual(["end protocol_violation"]);
  });

  it("answers each encryption request once", () => {
    expect(merged(door("plaintext").receive(Buffer.concat([sslRequest, sslRequest])))).toEqual([
      "send N",
      "end protocol_violation",
    ]);
    expect(merged(door("plaintext").receive(Buffer.concat([gssRequest, gssRequest])))).toEqual([
      "send N",
      "end protocol_violation",
    ]);
  });

  it("takes cancel requests of both protocol versions, without TLS too", () => {
    for (const secretBytes of [4, 32, 256]) {
      const secret = Buffer.alloc(secretBytes, 7);
      expect(door("required").receive(encodeMessage(null, [int32(80877102), int32(42), secret]))).toEqual([
        { kind: "cancel", processId: 42, secret },
      ]);
    }
    for (const secretBytes of [0, 3, 257]) {
      const request = encodeMessage(null, [int32(80877102), int32(42), Buffer.alloc(secretBytes)]);
      expect(merged(door("required").receive(request))).toEqual(["end protocol_violation"]);
    }
  });

  it.each([
    [0x30000, {}, null, 0],
    [0x30002, {}, null, 2],
    [0x30001, {}, [0x30000, 0], 0],
    [0x3270f, {}, [0x30002, 0], 2],
    [0x30000, { "_pq_.a": "1", "_pq_.b": "2" }, [0x30000, 2, "_pq_.a", "_pq_.b"], 0],
  ])("negotiates protocol %i with options %j", (code, extensions, negotiated, protocolMinor) => {
    const gate = door("plaintext");
    const events = gate.receive(Buffer.concat([startup(code, { user: "me", ...extensions }), password("t")]));
    const sent = new FrameReader(10_000);
    for (const event of events) if (event.kind === "send") sent.push(event.bytes);
    const first = sent.next()!;
    if (negotiated === null) expect(first.type).toBe("R".charCodeAt(0));
    else {
      const reader = new BodyReader(first.body);
      const read: (number | string)[] = [reader.int32(), reader.int32()];
      while (reader.remaining > 0) read.push(reader.cstring());
      expect(read).toEqual(negotiated);
    }
    expect(events.at(-1)).toMatchObject({ kind: "authenticate", startup: { protocolMinor, target: {} } });
  });

  it.each([
    ["protocol 2", startup(0x20000), "protocol_violation"],
    ["protocol 4", startup(0x40000), "protocol_violation"],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n"), "protocol_violation"],
    ["a long startup packet", encodeMessage(null, [int32(0x30000), Buffer.alloc(10_000)]), "protocol_violation"],
    ["a packet without an end", encodeMessage(null, [int32(0x30000), cstring("user")]), "protocol_violation"],
    ["bytes behind the end", encodeMessage(null, [int32(0x30000), Buffer.from([0, 0])]), "protocol_violation"],
    ["no user", startup(0x30000, { database: "orders" }), "login_failed"],
    ["a refused setting", startup(0x30000, { user: "me", role: "x" }), "unsupported"],
    ["a query instead of the password", Buffer.concat([startup(), encodeMessage("Q", [cstring("x")])]), "protocol_violation"],
    ["no token", Buffer.concat([startup(), password("")]), "login_failed"],
    ["a long token, before it comes", Buffer.concat([startup(), Buffer.from([0x70, 0x7f, 0, 0, 0])]), "login_failed"],
    ["a token without an end", Buffer.concat([startup(), encodeMessage("p", [Buffer.from("abc")])]), "protocol_violation"],
    ["two strings as a token", Buffer.concat([startup(), encodeMessage("p", [Buffer.from("a\0b\0")])]), "protocol_violation"],
    ["much before the answer", Buffer.concat([startup(), password("t"), Buffer.alloc(10_001)]), "protocol_violation"],
  ])("ends at %s", (_name, bytes, code) => {
    const gate = door("plaintext");
    const events = gate.receive(bytes);
    expect(events.at(-1)).toMatchObject({ kind: "end", error: { code } });
    expect(gate.receive(startup())).toEqual([]);
  });

  it("takes a token of exactly the limit", () => {
    const token = "t".repeat(defaultLimits.tokenBytesMax);
    const events = door("plaintext").receive(Buffer.concat([startup(), password(token)]));
    expect(events.at(-1)).toMatchObject({ kind: "authenticate", token });
  });

  it("lets a caller leave instead of giving a token", () => {
    expect(merged(door("plaintext").receive(Buffer.concat([startup(), encodeMessage("X", [])])))).toEqual([
      asksPassword,
      "end -",
    ]);
  });

  it("accepts with parameters, a key and readiness", () => {
    const bytes = door("plaintext").accept({
      parameters: [["TimeZone", "UTC"]],
      processId: 7,
      secret: Buffer.alloc(4, 1),
      protocolMinor: 0,
    });
    expect(bytes.toString("latin1")).toBe(
      "R\0\0\0\b\0\0\0\0S\0\0\0\x11TimeZone\0UTC\0K\0\0\0\f\0\0\0\x07\x01\x01\x01\x01Z\0\0\0\x05I",
    );
    expect(() => door("plaintext").accept({ parameters: [], processId: 1, secret: Buffer.alloc(32), protocolMinor: 0 })).toThrow(
      /cancel secret/,
    );
  });
});
