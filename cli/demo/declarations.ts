/** What the demo declares: its configuration and manifests, as files a platform team would write. Never a secret: only its name. */

/** The variable in which the agent finds the demo role's password. */
export const DEMO_PASSWORD_VARIABLE = "SLUICE_DEMO_PASSWORD";

export interface DemoPorts {
  /** Where callers connect; 0 for any free port. */
  readonly listener: number;
  /** Where the demo database listens. */
  readonly target: number;
}

/** Files by name, relative to one folder. */
export function demoFiles(ports: DemoPorts, database: string, role: string): Readonly<Record<string, string>> {
  return {
    "config.yaml": configText(ports),
    "manifests/resource.yaml": resourceText(ports, database, role),
    "manifests/classifiers.yaml": CLASSIFIERS,
    "manifests/policies.yaml": POLICIES,
  };
}

const WRITTEN = "# Written by `npm start` at each start. Copy it rather than edit it.\n";

function configText(ports: DemoPorts): string {
  return `${WRITTEN}apiVersion: sluice/v1
kind: Config
controlPlane:
  store: embedded
  listen: 127.0.0.1:0
dataPlane:
  listeners:
    - { protocol: postgres, listen: "127.0.0.1:${ports.listener}" }
  tls: { mode: self-signed }
agent:
  secrets: # which secret may go to which target
    - { env: ${DEMO_PASSWORD_VARIABLE}, targets: [ "127.0.0.1:${ports.target}" ] }
events: { bus: embedded }
recorder: { store: "file:recordings" }
manifests: [ ./manifests ]
`;
}

function resourceText(ports: DemoPorts, database: string, role: string): string {
  return `${WRITTEN}apiVersion: sluice/v1
kind: Resource
metadata: { name: demo, labels: { env: demo } }
spec:
  protocol: postgres
  target:
    address: 127.0.0.1:${ports.target}
    database: ${database}
    tls: { mode: disable } # the demo database listens on this machine only
  credential:
    username: { value: ${role} }
    password: { env: ${DEMO_PASSWORD_VARIABLE} }
`;
}

const CLASSIFIERS = `${WRITTEN}apiVersion: sluice/v1
kind: Classifier
metadata: { name: ssn }
spec:
  entity: US_SSN
  columns: [ "public.customers.ssn" ]
  columnNames: [ "ssn", "*_ssn", "social_security*" ]
  values: { detector: US_SSN }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: email }
spec:
  entity: EMAIL_ADDRESS
  columnNames: [ "email", "*_email" ]
  values: { detector: EMAIL_ADDRESS }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: card }
spec:
  entity: CREDIT_CARD
  columnNames: [ "card", "card_number", "pan" ]
  values: { detector: CREDIT_CARD }
`;

const POLICIES = `${WRITTEN}apiVersion: sluice/v1
kind: Policy
metadata: { name: agents }
spec:
  principals: { groups: [ agents ] }
  resources: { labels: { env: demo } }
  rules:
    - { name: read, effect: allow, when: "statement.class in ['read', 'session', 'transaction']" }
    - name: mask-pii
      effect: mask
      entities: [ US_SSN, EMAIL_ADDRESS, CREDIT_CARD ]
      operator: { partial: { keepLast: 4 } }
    - { name: no-bulk-export, effect: deny, when: "statement.bulkExport", reason: "bulk export is not allowed for agents" }
    - { name: row-cap, effect: limit, rows: 1000 }
    - name: writes-need-a-dba
      effect: approve
      when: "statement.class == 'write'"
      reviewers: { groups: [ dba ], count: 1 }
      timeout: 60s
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: dba }
spec:
  principals: { groups: [ dba ] }
  resources: { labels: { env: demo } }
  rules:
    - { name: everything, effect: allow, when: "true" }
`;
