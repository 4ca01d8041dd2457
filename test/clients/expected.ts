/** What a client must see of each feature, whatever its language: whole values or masks, and else the same for both callers. */
import { planted } from "../support/orders-schema.ts";
import type { Role } from "./installation.ts";

const masks = ["***-**-9382", "***-**-5462", "***-**-4077"];

/** By name of the feature; `version` is only kept. */
export function expectedOf(role: Role): Readonly<Record<string, unknown>> {
  const ssn = role === "all" ? planted.map((each) => each.ssn) : masks;
  const refused = role === "all" ? "none" : "42501";
  return {
    connect: 1,
    verify: true,
    metadata: ["id", "name", "email", "ssn", "card", "notes", "balance"],
    parameters: [1, "customer 1", ssn[0]],
    prepared: Array.from({ length: 9 }, (_, at) => ssn[at % 3]),
    binary: [2, "customer 2", ssn[1]],
    types: [1, 2, 1.5, "x", true, null],
    rows: 200_010_000,
    error: ["42P01", 1],
    refused: [refused, 1],
    "refused in a transaction": [refused, role === "all" ? "none" : "25P02", 1],
    transaction: [1, "22012", "25P02", 0, 1],
    cursor: ssn,
    "copy in": 1000,
    "copy out": ssn.map((value, at) => `${at + 1}\t${value}\n`).join(""),
    // Nobody can say where a payload comes from: a caller with masks hears that there was one, and not what it said.
    notify: role === "all" ? "hello" : "",
    pipeline: [ssn[0], "22012", 3],
    "pipeline of one statement": [100, "22012", 3],
    "rows of a query builder": ssn,
    pool: Array.from({ length: 9 }, (_, at) => ssn[at % 3]),
    cancel: ["57014", 1],
  };
}

/** The columns of the table in docs/compatibility.md, and the features that stand for each. */
export const columnsOfFeatures: Readonly<Record<string, readonly string[]>> = {
  "TLS verified": ["verify"],
  parameters: ["parameters", "types", "rows of a query builder"],
  prepared: ["prepared"],
  binary: ["binary"],
  transactions: ["transaction", "refused in a transaction"],
  errors: ["error", "refused"],
  cursor: ["cursor"],
  COPY: ["copy in", "copy out"],
  NOTIFY: ["notify"],
  pipeline: ["pipeline", "pipeline of one statement"],
  cancel: ["cancel"],
  metadata: ["metadata"],
  "many rows": ["rows", "pool"],
};
