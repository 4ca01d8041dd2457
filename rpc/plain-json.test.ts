import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { RecordBatchSchema } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import { DiffResponseSchema } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import { JoinTokenSchema, NodeSchema } from "@sluice/proto/sluice/admin/v1/node_pb.ts";
import { ExplainBatchResponseSchema, ExplainResponseSchema } from "@sluice/proto/sluice/admin/v1/policy_pb.ts";
import { expect, it } from "vitest";
import { toPlainJson } from "./plain-json.ts";

it("shows every field: zeros and empty lists as they are, what is not set as null", () => {
  expect(toPlainJson(JoinTokenSchema, create(JoinTokenSchema, { id: "t1", name: "" }))).toEqual({
    id: "t1",
    role: "",
    name: "",
    labels: {},
    hosts: [],
    author: "",
    createdAt: null,
    expiresAt: null,
    state: "",
    usedBy: null,
  });
});

it("shows large numbers as numbers, times with milliseconds, messages in messages", () => {
  const node = create(NodeSchema, {
    links: [{ name: "a1", sessions: 1, roundTripUs: 300 }],
    snapshot: { sequence: 9_007_199_254_740_991n, version: "v" },
    enrolledAt: timestampFromMs(0),
    lastSeenAt: timestampFromMs(1),
    addresses: { callers: { postgres: "10.0.0.1:5432" } },
  });
  expect(toPlainJson(NodeSchema, node)).toMatchObject({
    links: [{ name: "a1", sessions: 1, roundTripUs: 300 }],
    snapshot: { sequence: Number.MAX_SAFE_INTEGER, version: "v" },
    rejected: null,
    enrolledAt: "1970-01-01T00:00:00.000Z",
    lastSeenAt: "1970-01-01T00:00:00.001Z",
    addresses: { control: null, sessions: null, callers: { postgres: "10.0.0.1:5432" } },
  });
  expect(toPlainJson(DiffResponseSchema, create(DiffResponseSchema))).toEqual({ revision: null, diff: "" });
  expect(toPlainJson(FaultSchema, create(FaultSchema, { detail: { a: "b" } }))).toMatchObject({ detail: { a: "b" } });
});

it("leaves JSON in messages as it is: order, nulls, numbers", () => {
  const decision = { z: null, a: [1.5, -1, true, { b: [] }], limit: null, "": "" };
  const shown = toPlainJson(ExplainResponseSchema, create(ExplainResponseSchema, { decision }));
  expect(JSON.stringify(shown)).toBe(JSON.stringify({ decision }));
  const lines = [{ id: 1 }, { id: "b", error: null }];
  expect(toPlainJson(ExplainBatchResponseSchema, create(ExplainBatchResponseSchema, { lines }))).toEqual({ lines });
});

it("does not guess at bytes, which have no one shape in JSON", () => {
  const batch = create(RecordBatchSchema, { records: new Uint8Array([1]) });
  expect(() => toPlainJson(RecordBatchSchema, batch)).toThrow("no plain JSON");
});
