/**
 * Reads the JSON of a verified snapshot. What a newer control plane adds is passed over, since it says by itself which nodes may
 * take the snapshot; what this version needs and does not find is a fault. Must never guess: an effect, a mask or a selector of
 * another shape is refused, not skipped, because a rule that is skipped may be the one that says no.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Snapshot } from "@sluice/core/snapshot.ts";

/** Throws `incompatible` with the place of the first fault. */
export function parseSnapshot(text: string): Snapshot {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new GatewayError("incompatible", "The snapshot is not JSON.", { cause });
  }
  snapshotShape(value, "snapshot");
  return value as Snapshot; // every field that is used was looked at
}

/** Throws for a value that it does not take; `at` is where it stands. */
type Shape = (value: unknown, at: string) => void;

const text: Shape = (value, at) => {
  if (typeof value !== "string") throw fault(at, "text");
};
const count: Shape = (value, at) => {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw fault(at, "a whole number");
};
const texts: Shape = listOf(text);
const labels: Shape = (value, at) => {
  for (const [name, one] of Object.entries(objectAt(value, at))) text(one, `${at}.${name}`);
};

const secret: Shape = (value, at) => text(objectAt(value, at)["kind"], `${at}.kind`);
const credential: Shape = shape({ username: secret }, { password: secret });

const resource: Shape = shape(
  {
    name: text,
    labels,
    protocol: text,
    target: shape(
      { host: text, port: count, database: text, databases: texts, tls: shape({ mode: text }) },
      { failover: listOf(shape({ host: text, port: count })), role: text, pool: shape({ connectionsMax: count, idleMs: count }) },
    ),
    credential,
    inspection: shape({
      bulkRowsMin: count,
      bulkLimitMax: count,
      safeFunctions: texts,
      recording: oneOf("auto", "strict", "relaxed"),
    }),
  },
  { readOnlyCredential: credential, agents: labels },
);

const classifier: Shape = shape(
  { name: text, entity: text, columns: texts, columnNames: texts },
  {
    values: byField("kind", {
      builtin: shape({ detector: text }),
      pattern: shape({ pattern: text, context: texts }, { validator: oneOf("luhn") }),
    }),
  },
);

const operator: Shape = byField("kind", {
  redact: shape({}),
  null: shape({}),
  partial: shape({ keepFirst: count, keepLast: count }),
});
const common = { when: text, reason: text };
const rule: Shape = byField("effect", {
  allow: shape({ name: text }, common),
  deny: shape({ name: text }, common),
  mask: shape({ name: text, entities: texts, operator, influences: oneOf("equality", "allow", "deny") }, common),
  limit: shape({ name: text, rows: count }, common),
  approve: shape({ name: text, reviewers: shape({ groups: texts, count }), timeoutMs: count }, common),
});

const policy: Shape = shape({
  name: text,
  principals: shape({}, { groups: texts, subjects: texts, kinds: texts, owners: texts, issuers: texts, claims: labels }),
  resources: shape({}, { names: texts, labels }),
  rules: listOf(rule),
});

const identityProvider: Shape = shape(
  { name: text, issuer: text, audiences: texts, algorithms: texts, groupsClaim: text },
  { jwksUri: text, caFile: text, caPem: text, clockToleranceMs: count },
);

const disabledPrincipal: Shape = (value, at) => {
  const { issuer, subject, owner, reason } = objectAt(value, at);
  for (const [name, one] of Object.entries({ issuer, subject, owner }))
    if (one !== null && one !== undefined) text(one, `${at}.${name}`);
  text(reason, `${at}.reason`);
  // One that names nobody would be passed over, and somebody would stay who must go.
  if (typeof subject !== "string" && typeof owner !== "string") throw fault(at, "a subject or an owner");
};

const bindings: Shape = shape({ resource: text, database: text, databaseOid: count, entity: text, columns: listOf(count) });

const snapshotShape: Shape = shape(
  {
    version: text,
    resources: listOf(resource),
    classifiers: listOf(classifier),
    policies: listOf(policy),
    identityProviders: listOf(identityProvider),
  },
  { disabled: listOf(disabledPrincipal), bindings: listOf(bindings) },
);

function shape(needed: Readonly<Record<string, Shape>>, optional: Readonly<Record<string, Shape>> = {}): Shape {
  return (value, at) => {
    const fields = objectAt(value, at);
    for (const [name, check] of Object.entries(needed)) check(fields[name], `${at}.${name}`);
    for (const [name, check] of Object.entries(optional)) if (fields[name] !== undefined) check(fields[name], `${at}.${name}`);
  };
}

function listOf(item: Shape): Shape {
  return (value, at) => {
    if (!Array.isArray(value)) throw fault(at, "a list");
    value.forEach((one, index) => item(one, `${at}[${index}]`));
  };
}

function byField(field: string, kinds: Readonly<Record<string, Shape>>): Shape {
  return (value, at) => {
    const kind = objectAt(value, at)[field];
    const check = typeof kind === "string" && Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
    if (check === undefined) throw fault(`${at}.${field}`, `one of ${Object.keys(kinds).join(", ")}`);
    check(value, at);
  };
}

function oneOf(...values: readonly string[]): Shape {
  return (value, at) => {
    if (typeof value !== "string" || !values.includes(value)) throw fault(at, `one of ${values.join(", ")}`);
  };
}

function objectAt(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw fault(at, "an object");
  return value as Readonly<Record<string, unknown>>; // an object that is no list
}

function fault(at: string, wanted: string): GatewayError {
  return new GatewayError("incompatible", `The snapshot's ${at} is not ${wanted}, as this gateway needs it.`, {
    hint: "The control plane may be newer than this gateway: upgrade the gateway. docs/guides/upgrade.md says in which order.",
  });
}
