/** Errors cross between nodes with code, text and hint; a cause never does, and what only newer nodes know is not lost. */
import { create } from "@bufbuild/protobuf";
import { GatewayError } from "@sluice/core/errors.ts";
import { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { expect, it } from "vitest";
import { fromFault, toFault } from "./fault.ts";

it("keeps what is public and nothing else", () => {
  const error = new GatewayError("target_unreachable", "No answer.", {
    hint: "Look.",
    detail: { host: "db" },
    cause: new Error("secret"),
  });
  const back = fromFault(toFault(error));
  expect([back.code, back.message, back.hint, back.detail, back.cause]).toEqual([
    "target_unreachable",
    "No answer.",
    "Look.",
    { host: "db" },
    undefined,
  ]);
  expect(fromFault(toFault(new GatewayError("denied", "No."))).hint).toBeUndefined();
  const bug = toFault(new TypeError("secret"));
  expect(bug.code).toBe("internal");
  expect(JSON.stringify(bug)).not.toContain("secret");
});

it("takes a code of a newer node as internal and keeps it beside", () => {
  for (const code of ["from_the_future", "toString", ""]) {
    const error = fromFault(create(FaultSchema, { code, message: "Something new." }));
    expect([error.code, error.message, error.detail]).toEqual(["internal", "Something new.", { code }]);
  }
});

it("cuts texts that would not fit into trailers", () => {
  const fault = toFault(new GatewayError("denied", "x".repeat(50_000), { hint: "y".repeat(50_000) }));
  expect([fault.message.length, fault.hint.length]).toEqual([1_000, 1_000]);
  expect(fromFault(create(FaultSchema, { code: "denied", message: "z".repeat(50_000) })).message.length).toBe(1_000);
  const detail = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`d${index}`, "v".repeat(50_000)]));
  const told = fromFault(create(FaultSchema, { code: "denied", message: "No.", detail })).detail ?? {};
  expect([Object.keys(told).length, told["d0"]?.length]).toEqual([16, 1_000]);
});
