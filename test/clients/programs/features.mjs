/** What every JavaScript program here shares: where to connect to, the statements, and one line of JSON for each feature. */
import { readFileSync } from "node:fs";

export const { TEST_PORT, TEST_CA, TEST_WRONG_CA, TEST_TOKEN, TEST_DATABASE } = process.env;
export const byId = "SELECT id, name, ssn FROM customers WHERE id = ";
export const three = "SELECT ssn FROM customers WHERE id < 4 ORDER BY id";
export const copyOut = "COPY (SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT";
export const types = "SELECT 1::int4 AS a, 2::int8 AS b, 1.5::float8 AS c, 'x'::text AS d, true AS e, NULL::text AS f";
export const refused = "GRANT SELECT ON orders TO PUBLIC";
export const nine = Array.from({ length: 9 }, (_, at) => 1 + (at % 3));

/** TLS as every program must have it: certificate and name are verified. */
export function tls(caFile = TEST_CA) {
  return { ca: readFileSync(caFile, "utf8"), rejectUnauthorized: true };
}

export function tell(name, value) {
  process.stdout.write(`${JSON.stringify({ feature: name, value })}\n`);
}

/** Runs the function; what it returns is what was seen. */
export async function feature(name, work) {
  try {
    tell(name, await work());
  } catch (error) {
    console.error(name, error);
    process.stdout.write(`${JSON.stringify({ feature: name, error: String(error) })}\n`);
  }
}

/** SQLSTATE of the error that a promise ends with. */
export function stateOf(promise) {
  return promise.then(
    () => "none",
    (error) => error.code ?? error.cause?.code ?? String(error),
  );
}
