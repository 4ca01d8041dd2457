/** Every fault a manifest can have: what a stranger reads, and where it points. Long because it is a list of them. */
import { describe, expect, it } from "vitest";
import { parseManifests } from "./manifests.ts";

const classifier = "apiVersion: sluice/v1\nkind: Classifier\nmetadata: { name: ssn }\nspec:\n";
const provider = "apiVersion: sluice/v1\nkind: IdentityProvider\nmetadata: { name: corp }\nspec:\n";
/** Rules begin at line 8; the classifier behind gives the entity US_SSN. */
const policy = (rules: string): string =>
  `apiVersion: sluice/v1\nkind: Policy\nmetadata: { name: agents }\nspec:\n  principals: {}\n  resources: {}\n  rules:\n${rules}\n---\n${classifier}  entity: US_SSN\n  columnNames: [ssn]\n`;
const mask = (operator: string): string => policy(`    - { name: a, effect: mask, entities: [US_SSN], operator: ${operator} }`);
/** Protocol at line 5, target at 6, credential at 7, others from 8. */
const resource = (fields: Readonly<Record<string, string>> = {}): string => {
  const all = {
    protocol: "postgres",
    target: '{ address: "db:5432", database: orders }',
    credential: "{ username: { value: app } }",
    ...fields,
  };
  const lines = Object.entries(all).map(([name, value]) => `  ${name}: ${value}\n`);
  return `apiVersion: sluice/v1\nkind: Resource\nmetadata: { name: orders }\nspec:\n${lines.join("")}`;
};
const target = (fields: string): string => resource({ target: `{ ${fields} }` });
const credential = (fields: string): string => resource({ credential: `{ ${fields} }` });

const quoted = "(in quotes where YAML would read something else)";
const oneSource = "must have exactly one of value (user names only), env, file, vault, kubernetes or sealed";
const oneLease =
  "7 spec.credential must take both parts from the same leased account: username: { vault: { database: MOUNT/ROLE, field: username } }, password: { vault: { database: MOUNT/ROLE, field: password } }";
const dns = "must be a name of lower-case letters, digits and '-', at most 63 characters, such as orders-eu";
const hostPort = "spec.target.address must be host:port, such as db.internal:5432 or [::1]:5432";
const notAManifest =
  "a manifest is a mapping with the fields apiVersion, kind, metadata and spec; kind is one of Resource, Classifier, Policy, IdentityProvider";
const tooLarge = "the document is too large or too deep, or its aliases refer to each other";
const operators = "spec.rules[0].operator must be redact, null, or partial with keepFirst or keepLast";
const algorithm =
  "spec.algorithms[0] must be a signature algorithm with a public key (RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA); none and HMAC are never accepted";
const bomb = [
  "a: &a [x,x,x,x,x,x,x,x,x,x]",
  ...["ab", "bc", "cd", "de", "ef"].map(([of, to]) => `${to}: &${to} [${Array(10).fill(`*${of}`).join()}]`),
].join("\n");

type Row = readonly [name: string, yaml: string, faults: readonly string[]];
const table: readonly Row[] = [
  ["no kind", "a: 1", [`1 ${notAManifest}`]],
  ["a list", "- 1", [`1 ${notAManifest}`]],
  ["a text", "hello", [`1 ${notAManifest}`]],
  ["misspelt kind", "\nkind: Resuorce", ["2 this kind is not known. Did you mean 'Resource'?"]],
  ["unknown kind", "kind: Wibble", ["1 this kind is not known. Kinds are Resource, Classifier, Policy, IdentityProvider."]],
  ["Workload", "kind: Workload", ["1 kind Workload is not supported by this version"]],
  ["Budget", "kind: Budget", ["1 kind Budget is not supported by this version"]],
  ["ReviewRoute", "kind: ReviewRoute", ["1 kind ReviewRoute is not supported by this version"]],
  ["EventSink", "kind: EventSink", ["1 kind EventSink is not supported by this version"]],
  ["Config", "kind: Config", ["1 kind Config belongs into the file given with --config, not among manifests"]],
  ["other version", resource().replace("sluice/v1", "sluice/v2"), ["1 apiVersion must be 'sluice/v1', not 'sluice/v2'"]],
  ["no version", resource().replace("apiVersion: sluice/v1\n", ""), ["1 the document lacks the field 'apiVersion'"]],
  ["no name", resource().replace("{ name: orders }", "{}"), ["3 metadata lacks the field 'name'"]],
  ["no spec", "apiVersion: sluice/v1\nkind: Policy\nmetadata: { name: a }", ["1 the document lacks the field 'spec'"]],
  ["bad name", resource().replace("name: orders", "name: Orders_DB"), [`3 metadata.name ${dns}`]],
  [
    "number as label",
    resource().replace("{ name: orders }", "{ name: orders, labels: { tier: 1 } }"),
    [`3 metadata.labels.tier must be text ${quoted}, not a number`],
  ],
  ["declared twice", `${resource()}---\n${resource()}`, ["11 Resource 'orders' is declared already at f.yaml:3"]],

  ["tag", resource({ protocol: "!x postgres" }), ["5 not valid YAML: tags (words that start with '!') are not used here"]],
  [
    "key twice",
    `${resource()}  protocol: postgres\n`,
    ["8 not valid YAML: a key stands twice in the same mapping; only one can be meant"],
  ],
  ["syntax", "a: [1", ["1 not valid YAML: flow sequence in block collection must be sufficiently indented and end with a ]"]],
  ["tab", "a:\n\tb: 1", ["2 not valid YAML: tabs cannot indent; use spaces"]],
  ["alias to itself", "a: &a [*a]", [`1 ${tooLarge}`]],
  ["alias to nothing", "a: *hunter2", ["1 this alias names no anchor before it"]],
  ["alias bomb", bomb, [`1 ${tooLarge}`]],
  ["number as key", "1: 2", ["1 a key must be a word; put it in quotes"]],
  ["list as key", "? [a]\n: 2", ["1 a key must be a word; put it in quotes"]],
  ["not a number", "a: .nan", ["1 this value is neither text, number, true, false nor null"]],
  ["stray word", 'a: "b" hunter2', ["1 not valid YAML: unexpected scalar at node end"]],

  ["unknown field", resource({ tarjet: "1" }), ["8 spec has no field 'tarjet'. Did you mean 'target'?"]],
  [
    "unknown inner field",
    target('adress: "db:5432", database: orders'),
    ["6 spec.target lacks the field 'address'", "6 spec.target has no field 'adress'. Did you mean 'address'?"],
  ],
  ["protocol", resource({ protocol: "mysql" }), ["5 spec.protocol must be 'postgres', not 'mysql'"]],
  ["address without port", target("address: db, database: orders"), [`6 ${hostPort}`]],
  ["port too high", target('address: "db:99999", database: orders'), [`6 ${hostPort}`]],
  ["port 0", target('address: "db:0", database: orders'), [`6 ${hostPort}`]],
  ["user in address", target('address: "me@db:1", database: orders'), [`6 ${hostPort}`]],
  [
    "TLS mode",
    target('address: "db:1", database: orders, tls: { mode: verify_full }'),
    [
      "6 spec.target.tls.mode must be one of disable, require, verify-ca, verify-full, not 'verify_full'. Did you mean 'verify-full'?",
    ],
  ],
  [
    "relative CA file",
    target('address: "db:1", database: orders, tls: { caFile: ca.pem }'),
    ["6 spec.target.tls.caFile must be an absolute path such as /run/secrets/orders"],
  ],
  [
    "NUL in a name",
    target('address: "db:1", database: "a\\0b"'),
    ["6 spec.target.database must be a database name of 1 to 63 characters"],
  ],
  [
    "database twice",
    target('address: "db:1", database: a, databases: [b, b]'),
    ["6 spec.target.databases holds the same entry twice"],
  ],
  [
    "password in the manifest",
    credential("username: { value: app }, password: { value: hunter2 }"),
    [
      "7 a password never stands in a manifest; say where the agent finds it: password: { env: NAME } or password: { file: /PATH }",
    ],
  ],
  [
    "password as text",
    credential("username: { value: app }, password: hunter2"),
    ["7 spec.credential.password must be a mapping (fields with values), not text"],
  ],
  [
    "password as key",
    credential("username: { value: app }, password: { hunter2 }"),
    ["7 spec.credential.password has no field of this name. Fields here are value, env, file, vault, kubernetes, sealed."],
  ],
  [
    "Vault without field",
    credential("username: { value: app }, password: { vault: { kv: secret/a } }"),
    ["7 spec.credential.password.vault lacks the field 'field'"],
  ],
  [
    "Vault without engine",
    credential("username: { value: app }, password: { vault: { field: a } }"),
    ["7 spec.credential.password.vault must name exactly one of kv and database"],
  ],
  [
    "Vault with the secret itself",
    credential("username: { value: app }, password: { vault: { kv: secret/a, field: a, hunter2: hunter2 } }"),
    ["7 spec.credential.password.vault has no field of this name. Fields here are kv, database, mount, field, server."],
  ],
  ...["secret", "/secret/a", "secret/../a", "secret/a/", "secret//a", '"secret/a b"', "secret/..", '"a\\\\b/c"'].map(
    (path): Row => [
      `Vault path ${path}`,
      credential(`username: { value: app }, password: { vault: { kv: ${path}, field: a } }`),
      ["7 spec.credential.password.vault.kv must be MOUNT/PATH of a secret, such as secret/orders, without '/' at its ends"],
    ],
  ),
  [
    "Vault mount elsewhere",
    credential("username: { value: app }, password: { vault: { kv: team/kv/a, mount: team/k, field: a } }"),
    ["7 spec.credential.password.vault.mount must be the beginning of the path: MOUNT/…"],
  ],
  [
    "half a leased account",
    credential("username: { value: app }, password: { vault: { database: database/app, field: password } }"),
    [oneLease],
  ],
  [
    "halves of two leased accounts",
    credential(
      "username: { vault: { database: database/app, field: username } }, password: { vault: { database: database/app, server: b, field: password } }",
    ),
    [oneLease],
  ],
  [
    "leased account with another field and a path",
    credential(
      "username: { vault: { database: database/a/b, field: username } }, password: { vault: { database: database/a/b, field: secret } }",
    ),
    [
      oneLease,
      "7 spec.credential.username.vault.database must end with the name of a role; say with mount where the engine is, if that has several parts",
      "7 spec.credential.password.vault.database must end with the name of a role; say with mount where the engine is, if that has several parts",
      "7 spec.credential.password.vault.field of a database account must be username or password",
    ],
  ],
  [
    "kubernetes",
    credential("username: { kubernetes: { secret: x } }, password: { kubernetes: { secret: a/b/c, key: .. } }"),
    [
      "7 spec.credential.username.kubernetes lacks the field 'key'",
      "7 spec.credential.password.kubernetes.secret must be a secret as NAME or NAMESPACE/NAME",
      "7 spec.credential.password.kubernetes.key must be a key of the secret's data: letters, digits, '.', '_' and '-'",
    ],
  ],
  ...["hunter2", '""', Buffer.from('{"protected":"x"}').toString("base64url"), "[a]"].map(
    (text): Row => [
      `sealed ${text}`,
      credential(`username: { value: app }, password: { sealed: ${text} }`),
      [
        text === "[a]"
          ? `7 spec.credential.password.sealed must be text ${quoted}, not a list`
          : "7 spec.credential.password.sealed must be a text as `sluice seal` prints it",
      ],
    ],
  ),
  [
    "no credential at all",
    resource().replace("  credential: { username: { value: app } }\n", ""),
    ["4 spec must name exactly one of credential and credentials"],
  ],
  [
    "both kinds of credentials",
    resource({ credentials: "{ readOnly: { username: { value: a } }, readWrite: { username: { value: b } } }" }),
    ["4 spec must name exactly one of credential and credentials"],
  ],
  [
    "password in one of two credentials",
    resource({
      credential: "{ username: { value: a } }",
      credentials: "{ readOnly: { username: { value: a }, password: { value: hunter2 } } }",
    }),
    [
      "4 spec must name exactly one of credential and credentials",
      "8 spec.credentials lacks the field 'readWrite'",
      "8 a password never stands in a manifest; say where the agent finds it: password: { env: NAME } or password: { file: /PATH }",
    ],
  ],
  ["agents of no label", resource({ agents: "{ labels: {} }" }), ["8 spec.agents.labels must have at least one field"]],
  [
    "agents as list",
    resource({ agents: "{ names: [a] }" }),
    ["8 spec.agents lacks the field 'labels'", "8 spec.agents has no field 'names'. Fields here are labels."],
  ],
  [
    "fail-over to itself, and to nowhere",
    target('address: "db:1", database: a, failover: ["db:1", "db2"]'),
    [
      "6 spec.target.failover[0] is the target's own address; it is tried first anyway",
      "6 spec.target.failover[1] must be host:port, such as db.internal:5432 or [::1]:5432",
    ],
  ],
  [
    "role of the target",
    target('address: "db:1", database: a, role: replica'),
    ["6 spec.target.role must be one of primary, any, not 'replica'"],
  ],
  [
    "pool",
    target('address: "db:1", database: a, pool: { idle: 25h }'),
    ["6 spec.target.pool lacks the field 'connections'", "6 spec.target.pool.idle must be longer than nothing and at most 24h"],
  ],
  ["two sources", credential("username: { value: app, env: X }"), [`7 spec.credential.username ${oneSource}`]],
  ["no source", credential("username: {}"), [`7 spec.credential.username ${oneSource}`]],
  ["no user name", credential(""), ["7 spec.credential lacks the field 'username'"]],
  [
    "variable name",
    credential('username: { env: "hunter 2" }'),
    ["7 spec.credential.username.env must be the name of an environment variable, such as ORDERS_PASSWORD"],
  ],
  [
    "relative secret file",
    credential("username: { file: secrets/x }"),
    ["7 spec.credential.username.file must be an absolute path such as /run/secrets/orders"],
  ],
  [
    "bulk bounds",
    resource({ inspection: "{ bulk: { rows: -1, limit: many } }" }),
    ["8 spec.inspection.bulk.rows must be at least 0", "8 spec.inspection.bulk.limit must be a whole number, not text"],
  ],
  [
    "safe function",
    resource({ inspection: "{ safeFunctions: [now] }" }),
    ["8 spec.inspection.safeFunctions[0] must be a function as schema.name"],
  ],
  [
    "recording mode",
    resource({ inspection: "{ recording: strickt }" }),
    ["8 spec.inspection.recording must be one of auto, strict, relaxed, not 'strickt'. Did you mean 'strict'?"],
  ],

  [
    "entity",
    `${classifier}  entity: us-ssn\n  columnNames: [ssn]`,
    ["5 spec.entity must be an entity in capital letters, digits and '_', such as US_SSN"],
  ],
  [
    "classifier of nothing",
    `${classifier}  entity: US_SSN`,
    ["4 spec needs at least one of columns, columnNames and values, or the classifier would match nothing"],
  ],
  [
    "column path",
    `${classifier}  entity: US_SSN\n  columns: [customers.ssn]`,
    ["6 spec.columns[0] must be a column path of three parts, schema.table.column, in which '*' matches within one part"],
  ],
  ["empty list", `${classifier}  entity: US_SSN\n  columnNames: []`, ["6 spec.columnNames must have at least one entry"]],
  [
    "detector",
    `${classifier}  entity: US_SSN\n  values: { detector: US_SNN }`,
    ["6 spec.values.detector must be one of CREDIT_CARD, EMAIL_ADDRESS, US_SSN, not 'US_SNN'. Did you mean 'US_SSN'?"],
  ],
  [
    "detector and pattern",
    `${classifier}  entity: US_SSN\n  values: { detector: US_SSN, pattern: x }`,
    ["6 spec.values has a built-in detector, which takes no pattern; use either detector or pattern"],
  ],
  [
    "neither detector nor pattern",
    `${classifier}  entity: US_SSN\n  values: { context: [a] }`,
    ["6 spec.values needs a detector or a pattern"],
  ],
  [
    "validator",
    `${classifier}  entity: US_SSN\n  values: { pattern: x, validator: mod11 }`,
    ["6 spec.values.validator must be 'luhn', not 'mod11'"],
  ],

  ["no rules", policy("    []"), ["7 spec.rules must have at least one entry"]],
  [
    "effect",
    policy("    - { name: a, effect: alow }"),
    ["8 spec.rules[0].effect must be one of allow, mask, limit, approve, deny. Did you mean 'allow'?"],
  ],
  ["no effect", policy("    - { name: a }"), ["8 spec.rules[0] lacks the field 'effect'"]],
  ["no rule name", policy("    - { effect: allow }"), ["8 spec.rules[0] lacks the field 'name'"]],
  [
    "rule name twice",
    policy("    - { name: a, effect: allow }\n    - { name: a, effect: deny }"),
    ["9 spec.rules[1].name is the name of rule 0 (counted from 0) of this policy too"],
  ],
  [
    "condition not text",
    policy("    - { name: a, effect: allow, when: true }"),
    [`8 spec.rules[0].when must be text ${quoted}, not true or false`],
  ],
  [
    "misspelt rule field",
    policy('    - { name: a, effect: allow, whn: "true" }'),
    ["8 spec.rules[0] has no field 'whn'. Did you mean 'when'?"],
  ],
  [
    "field of another effect",
    policy("    - { name: a, effect: deny, rows: 3 }"),
    ["8 spec.rules[0] has no field 'rows'. Fields here are name, effect, when, reason."],
  ],
  ["limit of nothing", policy("    - { name: a, effect: limit, rows: 0 }"), ["8 spec.rules[0].rows must be at least 1"]],
  [
    "limit of a fraction",
    policy("    - { name: a, effect: limit, rows: 1.5 }"),
    ["8 spec.rules[0].rows must be a whole number, not a fraction"],
  ],
  ["limit without rows", policy("    - { name: a, effect: limit }"), ["8 spec.rules[0] lacks the field 'rows'"]],
  [
    "mask without its fields",
    policy("    - { name: a, effect: mask }"),
    ["8 spec.rules[0] lacks the field 'entities'", "8 spec.rules[0] lacks the field 'operator'"],
  ],
  ["operator", mask("hash"), [`8 ${operators}`]],
  ["operator as list", mask("[redact]"), [`8 ${operators}`]],
  [
    "misspelt partial",
    mask("{ partial: { keepLats: 4 } }"),
    ["8 spec.rules[0].operator.partial has no field 'keepLats'. Did you mean 'keepLast'?"],
  ],
  ["empty partial", mask("{ partial: {} }"), ["8 spec.rules[0].operator.partial must have keepFirst, keepLast or both"]],
  [
    "partial of nothing",
    mask("{ partial: { keepLast: 0 } }"),
    ["8 spec.rules[0].operator.partial keeps nothing; write operator: redact to hide the whole value"],
  ],
  ["partial too long", mask("{ partial: { keepFirst: 65 } }"), ["8 spec.rules[0].operator.partial.keepFirst must be at most 64"]],
  [
    "influences",
    policy("    - { name: a, effect: mask, entities: [US_SSN], operator: redact, influences: never }"),
    ["8 spec.rules[0].influences must be one of equality, allow, deny, not 'never'"],
  ],
  [
    "entity of no classifier",
    policy("    - { name: a, effect: mask, entities: [US_SNN, PHONE], operator: null }"),
    [
      "8 spec.rules[0].entities[0]: no classifier gives the entity US_SNN. Did you mean 'US_SSN'?",
      "8 spec.rules[0].entities[1]: no classifier gives the entity PHONE. Declare a Classifier for it.",
    ],
  ],
  ["no reviewers", policy("    - { name: a, effect: approve }"), ["8 spec.rules[0] lacks the field 'reviewers'"]],
  [
    "empty reviewers",
    policy("    - { name: a, effect: approve, reviewers: { groups: [], count: 0 } }"),
    ["8 spec.rules[0].reviewers.groups must have at least one entry", "8 spec.rules[0].reviewers.count must be at least 1"],
  ],
  [
    "timeout as number",
    policy("    - { name: a, effect: approve, reviewers: { groups: [dba] }, timeout: 60 }"),
    [`8 spec.rules[0].timeout must be text ${quoted}, not a number`],
  ],
  [
    "timeout unit",
    policy("    - { name: a, effect: approve, reviewers: { groups: [dba] }, timeout: 1d }"),
    ["8 spec.rules[0].timeout must be a duration such as 500ms, 60s, 5m or 1h"],
  ],
  [
    "timeout too long",
    policy("    - { name: a, effect: approve, reviewers: { groups: [dba] }, timeout: 25h }"),
    ["8 spec.rules[0].timeout must be longer than nothing and at most 24h"],
  ],
  [
    "timeout of nothing",
    policy("    - { name: a, effect: approve, reviewers: { groups: [dba] }, timeout: 0s }"),
    ["8 spec.rules[0].timeout must be longer than nothing and at most 24h"],
  ],
  [
    "empty groups",
    policy("    - { name: a, effect: allow }").replace("principals: {}", "principals: { groups: [] }"),
    ["5 spec.principals.groups must have at least one entry"],
  ],
  [
    "misspelt selector",
    policy("    - { name: a, effect: allow }").replace("principals: {}", "principals: { group: [x] }"),
    ["5 spec.principals has no field 'group'. Did you mean 'groups'?"],
  ],
  [
    "no principals",
    policy("    - { name: a, effect: allow }").replace("  principals: {}\n", ""),
    ["4 spec lacks the field 'principals'"],
  ],
  [
    "pattern as resource name",
    policy("    - { name: a, effect: allow }").replace("resources: {}", 'resources: { names: ["*"] }'),
    [`6 spec.resources.names[0] ${dns}`],
  ],

  [
    "issuer without TLS",
    `${provider}  issuer: http://login.example.com\n  audiences: [a]`,
    ["5 spec.issuer must be https (http only on loopback), since signing keys are fetched from it"],
  ],
  [
    "issuer no URL",
    `${provider}  issuer: login.example.com\n  audiences: [a]`,
    ["5 spec.issuer must be a URL such as https://login.example.com"],
  ],
  [
    "password in issuer",
    `${provider}  issuer: https://a:hunter2@login.example.com\n  audiences: [a]`,
    ["5 spec.issuer must be a URL without user, password and fragment"],
  ],
  [
    "algorithm HS256",
    `${provider}  issuer: https://login.example.com\n  audiences: [a]\n  algorithms: [HS256]`,
    [`7 ${algorithm}`],
  ],
  [
    "algorithm none",
    `${provider}  issuer: https://login.example.com\n  audiences: [a]\n  algorithms: [none]`,
    [`7 ${algorithm}`],
  ],
  [
    "no audience",
    `${provider}  issuer: https://login.example.com\n  audiences: []`,
    ["6 spec.audiences must have at least one entry"],
  ],
  [
    "issuer twice",
    `${provider}  issuer: https://login.example.com\n  audiences: [a]\n---\n${provider.replace("corp", "other")}  issuer: https://login.example.com\n  audiences: [a]`,
    ["12 spec.issuer is the issuer of IdentityProvider 'corp' too; one issuer, one provider"],
  ],
];

describe("manifest faults", () => {
  it.each(table)("%s", (_name, text, expected) => {
    const { faults, snapshot } = parseManifests([{ path: "f.yaml", text }]);
    expect(faults.map(({ line, message }) => `${line} ${message}`)).toEqual(expected);
    expect(JSON.stringify(faults)).not.toContain("hunter2");
    expect([snapshot.resources, snapshot.classifiers, snapshot.policies, snapshot.identityProviders]).toEqual([[], [], [], []]);
  });

  it("reports the faults of all files at once, in their order, with kind and name", () => {
    const files = [
      { path: "b.yaml", text: resource({ protocol: "mysql", target: '{ address: "db", database: orders }' }) },
      { path: "a.yaml", text: `${policy("    - { name: a, effect: limit, rows: 0 }")}---\n${resource()}` },
    ];
    expect(parseManifests(files).faults).toEqual([
      {
        file: "b.yaml",
        line: 5,
        column: 3,
        kind: "Resource",
        name: "orders",
        message: "spec.protocol must be 'postgres', not 'mysql'",
      },
      { file: "b.yaml", line: 6, column: 13, kind: "Resource", name: "orders", message: hostPort },
      { file: "a.yaml", line: 8, column: 33, kind: "Policy", name: "agents", message: "spec.rules[0].rows must be at least 1" },
      {
        file: "a.yaml",
        line: 19,
        column: 13,
        kind: "Resource",
        name: "orders",
        message: "Resource 'orders' is declared already at b.yaml:3",
      },
    ]);
  });
});
