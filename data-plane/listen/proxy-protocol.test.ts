import { describe, expect, it } from "vitest";
import { decodeProxyHeader } from "./proxy-protocol.ts";

const signature = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const v4 = Buffer.concat([
  signature,
  Buffer.from("2111000c", "hex"),
  Buffer.from([192, 0, 2, 7, 127, 0, 0, 1, 0x1f, 0x90, 0x15, 0x38]),
]);
const v6 = Buffer.concat([
  signature,
  Buffer.from("21210024", "hex"),
  Buffer.from("20010db8000000000000000000000001", "hex"),
  Buffer.alloc(20),
]);
const local = Buffer.concat([signature, Buffer.from("20000000", "hex")]);

describe("decodeProxyHeader", () => {
  it("reads IPv4, IPv6 and LOCAL, and says where the header ends", () => {
    expect(decodeProxyHeader(Buffer.concat([v4, Buffer.from("rest")]))).toEqual({
      kind: "complete",
      address: "192.0.2.7",
      headerBytes: 28,
    });
    expect(decodeProxyHeader(v6)).toEqual({ kind: "complete", address: "2001:db8::1", headerBytes: 52 });
    const mapped = Buffer.concat([v6.subarray(0, 16), Buffer.from("00000000000000000000ffffc0000207", "hex"), Buffer.alloc(20)]);
    expect(decodeProxyHeader(mapped)).toMatchObject({ address: "192.0.2.7" });
    expect(decodeProxyHeader(local)).toEqual({ kind: "complete", address: null, headerBytes: 16 });
  });

  it("waits at every split", () => {
    for (let at = 0; at < v4.length; at++) expect(decodeProxyHeader(v4.subarray(0, at))).toEqual({ kind: "incomplete" });
  });

  it("refuses what cannot become a header, at the first wrong byte", () => {
    expect(() => decodeProxyHeader(Buffer.from("PROXY TCP4"))).toThrow("PROXY protocol version 2");
    expect(() => decodeProxyHeader(Buffer.from([0x0d, 0x0b]))).toThrow("PROXY protocol version 2");
    const version1 = Buffer.from(v4);
    version1[12] = 0x11;
    expect(() => decodeProxyHeader(version1)).toThrow("PROXY protocol version 2");
    const short = Buffer.concat([signature, Buffer.from("21110004", "hex"), Buffer.alloc(4)]);
    expect(() => decodeProxyHeader(short)).toThrow("PROXY protocol version 2");
  });
});
