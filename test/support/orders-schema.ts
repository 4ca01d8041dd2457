/** The schema that most tests run on: customers with protected columns, orders, a view, free text with planted values. */

export interface CustomerValues {
  readonly ssn: string;
  readonly email: string;
  readonly card: string;
}

/** Values that must never reach a masked caller, a log or a recording. Valid in shape, belong to nobody. */
export const planted: readonly CustomerValues[] = [
  { ssn: "521-44-9382", email: "grace.hopper@example.org", card: "4012888888881881" },
  { ssn: "457-55-5462", email: "alan.turing@example.net", card: "5555555555554444" },
  { ssn: "611-23-4077", email: "ada.lovelace@example.com", card: "378282246310005" },
];

/** The same shapes (separators and lengths) with other contents and the same last four: what a partial mask shows is equal. */
export const plantedOther: readonly CustomerValues[] = [
  { ssn: "318-62-9382", email: "clara.barton@sampl1e.org", card: "4716461581001881" },
  { ssn: "229-71-5462", email: "hedy.lamarr@sampl2e.net", card: "2223000041044444" },
  { ssn: "703-18-4077", email: "ivy.comptons@sampl3e.com", card: "371449631020005" },
];

/** Everything of `customers` that no caller with a mask may see, as plain strings to search for. */
export function markersOf(values: readonly CustomerValues[]): readonly string[] {
  return values.flatMap(({ ssn, email, card }) => [ssn, ssn.replaceAll("-", ""), email, card]);
}

export function ordersSchema(values: readonly CustomerValues[]): readonly string[] {
  const rows = values.map(
    ({ ssn, email, card }, index) =>
      `(${index + 1}, 'customer ${index + 1}', '${email}', '${ssn}', '${card}', 'called about order; ssn ${ssn}, card ${card}, mail ${email}', ${1000 + index})`,
  );
  return [
    "CREATE TYPE order_state AS ENUM ('open', 'paid', 'sent')",
    "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text, ssn text, card text, notes text, balance numeric)",
    `INSERT INTO customers VALUES ${rows.join(", ")}`,
    "CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, state order_state NOT NULL DEFAULT 'open', total numeric NOT NULL, placed_at timestamptz NOT NULL DEFAULT now())",
    "INSERT INTO orders SELECT n, 1 + n % 3, (ARRAY['open','paid','sent'])[1 + n % 3]::order_state, n * 1.5, '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 50) n",
    "CREATE TABLE big (id int PRIMARY KEY, label text NOT NULL)",
    "INSERT INTO big SELECT n, 'row ' || n FROM generate_series(1, 20000) n",
    "CREATE VIEW customer_contacts AS SELECT id, name, email AS contact FROM customers",
    "CREATE INDEX orders_customer ON orders (customer_id)",
    "ANALYZE",
  ];
}

/** A policy under which callers may do everything and see a constant: only built-in denials stand between them and the values. */
export const writersPolicy = `---
apiVersion: sluice/v1
kind: Policy
metadata: { name: writers }
spec:
  principals: { groups: [writers] }
  resources: { labels: { env: prod } }
  rules:
    - { name: everything, effect: allow }
    - { name: redact, effect: mask, entities: [US_SSN, EMAIL_ADDRESS, CREDIT_CARD], operator: redact }
`;
