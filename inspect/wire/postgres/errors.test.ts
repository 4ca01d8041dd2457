import { describe, expect, it } from "vitest";
import { GatewayError } from "@sluice/core/errors.ts";
import { encodeError, encodeGatewayError, encodeNotice, encodeRefusal, sqlStateOf } from "./errors.ts";
import { readErrorFields } from "./messages.ts";

function fieldsOf(message: Buffer): Record<string, string> {
  return Object.fromEntries(readErrorFields(message.subarray(5)));
}

describe("errors", () => {
  it("have the numbers that the contract names", () => {
    expect(sqlStateOf("denied")).toBe("42501");
    expect(sqlStateOf("login_failed")).toBe("28000");
    expect(sqlStateOf("resource_unknown")).toBe("3D000");
    expect(sqlStateOf("limit_reached")).toBe("53400");
    expect(sqlStateOf("killed")).toBe("57P01");
    expect(sqlStateOf("recording_unavailable")).toBe("58030");
  });

  it("carry machine detail as JSON and a hint for people, and never the cause", () => {
    const error = new GatewayError("denied", "no", { hint: "ask", detail: { request: "r" }, cause: new Error("private") });
    const message = encodeGatewayError(error, "FATAL", { decision: "d_1" });
    expect(fieldsOf(message)).toEqual({
      S: "FATAL",
      V: "FATAL",
      C: "42501",
      M: "no",
      D: '{"code":"denied","request":"r","decision":"d_1"}',
      H: "ask",
    });
    expect(message.toString()).not.toContain("private");
  });

  it("keep a refusal's own number and position", () => {
    const refusal = { kind: "refuse", code: "denied", message: "m", detail: "{}", sqlState: "42601", position: 3 } as const;
    expect(fieldsOf(encodeRefusal(refusal))).toEqual({ S: "ERROR", V: "ERROR", C: "42601", M: "m", D: "{}", P: "3" });
  });

  it("end a text at a NUL, so that the message stays whole", () => {
    const message = encodeError({ severity: "ERROR", sqlState: "42501", message: "a\0b" });
    expect(fieldsOf(message)["M"]).toBe("a");
    expect(message.readUInt32BE(1)).toBe(message.length - 1);
    expect(encodeNotice({ severity: "NOTICE", sqlState: "00000", message: "x" })[0]).toBe("N".charCodeAt(0));
  });
});
