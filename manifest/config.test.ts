/** The configuration: what it means when left out, and every fault with its line. Long because it is a list of them. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Config } from "@sluice/core/config.ts";
import { parseConfig } from "./config.ts";

const directories = { configDirectory: "/etc/sluice", dataDirectory: "/var/lib/sluice" };
const head = "apiVersion: sluice/v1\nkind: Config\n";
const defaults: Config = {
  node: null,
  controlPlane: {
    store: { kind: "embedded" },
    listen: { host: "127.0.0.1", port: 0 },
    hosts: [],
    developmentIssuer: true,
    nodes: null,
    encryptionKey: { kind: "generated" },
    workloads: [],
    lease: { ms: 14_400_000, strictMs: 3_600_000 },
  },
  dataPlane: { listeners: [], tls: { mode: "self-signed", hosts: [] }, links: null },
  agent: { secrets: [], nearest: 2, vaults: [], kubernetes: null },
  events: { bus: "embedded" },
  recorder: { directory: "/var/lib/sluice/recordings", listen: null, advertise: null },
  operations: { listen: null },
  telemetry: { tracesEndpoint: null, sampleRatio: 1 },
  limits: {},
  manifests: [],
};
const everything = `${head}
node: { name: gw-1, region: eu-west, controlPlanes: ["cp-1:7000", "[fd00::1]:7000"], join: { tokenFile: join.token } }
controlPlane:
  store: "postgres://sluice@db.internal/sluice"
  listen: "[::1]:8443"
  hosts: [admin.example.com, 10.0.0.1]
  developmentIssuer: false
  nodes: { listen: "0.0.0.0:7000", hosts: [cp.internal, "fd00::1"] }
  encryptionKey: { file: store.key }
  workloads:
    - name: cluster
      issuer: https://kubernetes.default.svc
      audience: sluice
      jwksUri: https://kubernetes.default.svc/openid/v1/jwks
      caFile: kube-ca.pem
      tokenFile: /var/run/secrets/kube/token
      role: agent
      claims: { sub: "system:serviceaccount:sluice:agent" }
      namePrefix: agent-
      labels: { site: eu }
      hosts: [agents.internal]
  lease: { policy: 2h, strict: 30m }
dataPlane:
  listeners:
    - { protocol: postgres, listen: "0.0.0.0:6432", proxyProtocolFrom: [10.0.0.7, "fd00::7"], advertise: "gw.example.com:5432" }
  tls: { certFile: tls/cert.pem, keyFile: /secrets/key.pem }
  links: { control: "0.0.0.0:7001", sessions: "0.0.0.0:7002", advertise: { control: "gw-1.internal:7001" } }
agent:
  secrets:
    - { file: orders.password, targets: ["*.internal:5432"] }
    - { vault: secret/orders/*, targets: ["a:1"] }
    - { vault: "eu:database/orders", targets: ["a:1"] }
    - { kubernetes: shop/orders-*, targets: ["a:1"] }
    - { sealed: true, targets: ["a:1"] }
  nearest: 3
  vaults:
    - address: https://vault.internal:8200
      caFile: vault-ca.pem
      namespace: shop
      auth: { appRole: { roleId: r-1, secretIdFile: secret-id } }
    - { name: eu, address: "http://127.0.0.1:8200", auth: { kubernetes: { mount: clusters/eu, role: agent } } }
    - { name: us, address: "https://vault.us", auth: { tokenFile: /run/vault-token } }
    - { name: ap, address: "https://vault.ap", auth: { tokenEnv: VAULT_TOKEN } }
  kubernetes: { namespace: shop }
events:
  bus: nats
  servers: ["tls://nats.internal:4222"]
  caFile: nats-ca.pem
  credentialsFile: nats.creds
  replicas: 3
  streamBytes: 67108864
recorder: { store: "file:/recordings", listen: "0.0.0.0:7003", advertise: "rec:7003" }
operations: { listen: "127.0.0.1:9090" }
telemetry: { traces: "http://collector:4318/v1/traces", sample: 0.25 }
limits: { sessionsMax: 12 }
manifests: [a.yaml, ../b]
`;
const sectionNames = "node controlPlane dataPlane agent events recorder operations telemetry limits manifests".split(" ");
const fieldNames =
  `name listen hosts join tokenFile caFile workloadTokenFile nodes encryptionKey file env command workloads lease policy strict tls mode links
  control sessions advertise secrets sealed vault targets vaults address auth appRole kubernetes roleId secretIdFile role bus servers traces`.split(
    /\s+/,
  );
const parse = (text: string): ReturnType<typeof parseConfig> => parseConfig({ path: "config.yaml", text }, directories);

describe("parseConfig", () => {
  it("takes the documented example", () => {
    const text = readFileSync(new URL("../test/fixtures/config.yaml", import.meta.url), "utf8");
    const { config, faults } = parse(text);
    expect(faults).toEqual([]);
    expect(config).toEqual({
      ...defaults,
      dataPlane: {
        ...defaults.dataPlane,
        listeners: [{ protocol: "postgres", listen: { host: "127.0.0.1", port: 0 }, proxyProtocolFrom: [], advertise: null }],
      },
      agent: { ...defaults.agent, secrets: [{ source: { kind: "env", name: "ORDERS_PASSWORD" }, targets: ["127.0.0.1:*"] }] },
      manifests: ["/etc/sluice/manifests"],
    });
  });

  it("has a default for everything", () => {
    expect(parse(head).config).toEqual(defaults);
  });

  it("takes everything that can be said, with paths made absolute", () => {
    const { config, faults } = parse(everything);
    expect(faults).toEqual([]);
    expect(config).toEqual({
      node: {
        name: "gw-1",
        region: "eu-west",
        controlPlanes: ["cp-1:7000", "[fd00::1]:7000"],
        join: { kind: "tokenFile", path: "/etc/sluice/join.token" },
      },
      controlPlane: {
        store: { kind: "postgres", url: "postgres://sluice@db.internal/sluice" },
        listen: { host: "::1", port: 8443 },
        hosts: ["admin.example.com", "10.0.0.1"],
        developmentIssuer: false,
        nodes: { listen: { host: "0.0.0.0", port: 7000 }, hosts: ["cp.internal", "fd00::1"] },
        encryptionKey: { kind: "file", path: "/etc/sluice/store.key" },
        workloads: [
          {
            name: "cluster",
            issuer: "https://kubernetes.default.svc",
            audience: "sluice",
            jwksUri: "https://kubernetes.default.svc/openid/v1/jwks",
            caFile: "/etc/sluice/kube-ca.pem",
            tokenFile: "/var/run/secrets/kube/token",
            role: "agent",
            claims: { sub: "system:serviceaccount:sluice:agent" },
            namePrefix: "agent-",
            labels: { site: "eu" },
            hosts: ["agents.internal"],
          },
        ],
        lease: { ms: 7_200_000, strictMs: 1_800_000 },
      },
      dataPlane: {
        listeners: [
          {
            protocol: "postgres",
            listen: { host: "0.0.0.0", port: 6432 },
            proxyProtocolFrom: ["10.0.0.7", "fd00::7"],
            advertise: "gw.example.com:5432",
          },
        ],
        tls: { mode: "files", certFile: "/etc/sluice/tls/cert.pem", keyFile: "/secrets/key.pem" },
        links: {
          control: { host: "0.0.0.0", port: 7001 },
          sessions: { host: "0.0.0.0", port: 7002 },
          advertise: { control: "gw-1.internal:7001", sessions: null },
        },
      },
      agent: {
        secrets: [
          { source: { kind: "file", path: "/etc/sluice/orders.password" }, targets: ["*.internal:5432"] },
          { source: { kind: "vault", path: "secret/orders/*" }, targets: ["a:1"] },
          { source: { kind: "vault", path: "eu:database/orders" }, targets: ["a:1"] },
          { source: { kind: "kubernetes", secret: "shop/orders-*" }, targets: ["a:1"] },
          { source: { kind: "sealed" }, targets: ["a:1"] },
        ],
        nearest: 3,
        vaults: [
          {
            name: "default",
            address: "https://vault.internal:8200",
            caFile: "/etc/sluice/vault-ca.pem",
            namespace: "shop",
            auth: { kind: "appRole", mount: "approle", roleId: "r-1", secretIdFile: "/etc/sluice/secret-id" },
          },
          {
            name: "eu",
            address: "http://127.0.0.1:8200",
            caFile: null,
            namespace: null,
            auth: {
              kind: "kubernetes",
              mount: "clusters/eu",
              role: "agent",
              tokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
            },
          },
          {
            name: "us",
            address: "https://vault.us",
            caFile: null,
            namespace: null,
            auth: { kind: "tokenFile", path: "/run/vault-token" },
          },
          {
            name: "ap",
            address: "https://vault.ap",
            caFile: null,
            namespace: null,
            auth: { kind: "tokenEnv", name: "VAULT_TOKEN" },
          },
        ],
        kubernetes: {
          address: "https://kubernetes.default.svc",
          caFile: "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
          tokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
          namespace: "shop",
        },
      },
      events: {
        bus: "nats",
        servers: ["tls://nats.internal:4222"],
        caFile: "/etc/sluice/nats-ca.pem",
        credentialsFile: "/etc/sluice/nats.creds",
        replicas: 3,
        streamBytesMax: 67_108_864,
      },
      recorder: { directory: "/recordings", listen: { host: "0.0.0.0", port: 7003 }, advertise: "rec:7003" },
      operations: { listen: { host: "127.0.0.1", port: 9090 } },
      telemetry: { tracesEndpoint: "http://collector:4318/v1/traces", sampleRatio: 0.25 },
      limits: { sessionsMax: 12 },
      manifests: ["/etc/sluice/a.yaml", "/etc/b"],
    });
  });

  it.each([
    ["{ tokenEnv: JOIN }", { kind: "tokenEnv", name: "JOIN" }],
    ["{ workloadTokenFile: /t, caFile: ca.pem }", { kind: "workload", path: "/t", caFile: "/etc/sluice/ca.pem" }],
  ])("joins with %s", (text, join) => {
    expect(parse(`${head}node: { name: a, controlPlanes: ["cp:1"], join: ${text} }`).config?.node?.join).toEqual(join);
  });

  it.each([
    ["{ env: KEY }", { kind: "env", name: "KEY" }],
    ["{ command: [/usr/bin/kms, --key, a] }", { kind: "command", command: ["/usr/bin/kms", "--key", "a"] }],
  ])("encrypts under %s", (text, key) => {
    expect(parse(`${head}controlPlane: { encryptionKey: ${text} }`).config?.controlPlane.encryptionKey).toEqual(key);
  });

  it("adds hosts to a certificate of its own", () => {
    expect(
      parse(`${head}dataPlane: { tls: { mode: self-signed, hosts: [gw.example.com, "::1"] } }`).config?.dataPlane.tls,
    ).toEqual({ mode: "self-signed", hosts: ["gw.example.com", "::1"] });
  });

  const table: readonly (readonly [name: string, yaml: string, faults: readonly string[]])[] = [
    ["empty file", "", ["1 the file holds no configuration (kind: Config)"]],
    ["two documents", `${head}---\n${head}`, ["4 a configuration file holds one document; manifests go into files of their own"]],
    ["other kind", "apiVersion: sluice/v1\nkind: Resource", ["2 kind must be 'Config', not 'Resource'"]],
    [
      "other store",
      `${head}controlPlane: { store: mysql://x }`,
      ["3 controlPlane.store must be embedded or postgres://user@host/database"],
    ],
    [
      "password in the store",
      `${head}controlPlane: { store: "postgres://u:hunter2@h/db" }`,
      ["3 controlPlane.store must not hold a password; use PGPASSWORD, a password file or a client certificate"],
    ],
    [
      "password in the store's parameters",
      `${head}controlPlane: { store: "postgres://u@h/db?password=hunter2" }`,
      ["3 controlPlane.store must not hold a password; use PGPASSWORD, a password file or a client certificate"],
    ],
    [
      "listen",
      `${head}controlPlane: { listen: "1234" }`,
      ["3 controlPlane.listen must be host:port, such as 127.0.0.1:6432 or [::1]:6432; port 0 is any free one"],
    ],
    [
      "word as switch",
      `${head}controlPlane: { developmentIssuer: yes }`,
      ["3 controlPlane.developmentIssuer must be true or false, not text"],
    ],
    [
      "plain text beyond the machine",
      `${head}dataPlane:\n  listeners:\n    - { protocol: postgres, listen: "127.0.0.1:1" }\n    - { protocol: postgres, listen: "0.0.0.0:1" }\n  tls: { mode: plaintext-loopback }`,
      [
        "6 dataPlane.listeners[1].listen is not a loopback address, so dataPlane.tls cannot be plaintext-loopback: tokens would cross the network in clear",
      ],
    ],
    [
      "one address twice",
      `${head}dataPlane:\n  listeners:\n    - { protocol: postgres, listen: "127.0.0.1:1" }\n    - { protocol: postgres, listen: "127.0.0.1:1" }`,
      ["6 dataPlane.listeners[1].listen is the address of listener 0 (counted from 0) too"],
    ],
    [
      "TLS mode",
      `${head}dataPlane: { tls: { mode: off } }`,
      ["3 dataPlane.tls.mode must be one of self-signed, plaintext-loopback, not 'off'"],
    ],
    ["half a key pair", `${head}dataPlane: { tls: { certFile: a } }`, ["3 dataPlane.tls lacks the field 'keyFile'"]],
    [
      "network as proxy",
      `${head}dataPlane: { listeners: [{ protocol: postgres, listen: "127.0.0.1:1", proxyProtocolFrom: [10.0.0.0/8] }] }`,
      ["3 dataPlane.listeners[0].proxyProtocolFrom[0] must be an IP address, such as 10.0.0.7 or fd00::7"],
    ],
    [
      "secret without source",
      `${head}agent: { secrets: [{ targets: ["a:1"] }] }`,
      ["3 agent.secrets[0] must name exactly one of env, file, vault, kubernetes and sealed"],
    ],
    [
      "secret itself",
      `${head}agent: { secrets: [{ env: A, value: hunter2, targets: ["a:1"] }] }`,
      ["3 agent.secrets[0] has no field of this name. Fields here are env, file, vault, kubernetes, sealed, targets."],
    ],
    [
      "secret for nobody",
      `${head}agent: { secrets: [{ env: A, targets: [] }] }`,
      ["3 agent.secrets[0].targets must have at least one entry"],
    ],
    [
      "target without port",
      `${head}agent: { secrets: [{ env: A, targets: [db] }] }`,
      ["3 agent.secrets[0].targets[0] must be host:port, in which '*' matches any run of characters"],
    ],
    [
      "nats without servers",
      `${head}events: { bus: nats }`,
      [`3 events needs servers, such as [ "nats://nats.internal:4222" ], for the bus 'nats'`],
    ],
    [
      "password of nats",
      `${head}events: { bus: nats, servers: ["nats://a:hunter2@x:1", "http://x"], replicas: 2 }`,
      [
        "3 events.servers[0] must not hold a user or password; use credentialsFile",
        "3 events.servers[1] must be nats://host:port or tls://host:port",
        "3 events.replicas must be one of 1, 3, 5",
      ],
    ],
    [
      "servers of the embedded bus",
      `${head}events: { servers: ["nats://x"] }`,
      ["3 events.servers belongs to the bus 'nats'; the embedded bus has none"],
    ],
    [
      "object store",
      `${head}recorder: { store: "s3://x" }`,
      ["3 recorder.store must be file:DIRECTORY (relative to the data directory)"],
    ],
    [
      "limits",
      `${head}limits: { sesionsMax: 3, tokenBytesMax: 0 }`,
      ["3 there is no limit of this name. Did you mean 'sessionsMax'?", "3 limits.tokenBytesMax must be at least 1"],
    ],
    ["node without a name", `${head}node: { region: eu }`, ["3 node lacks the field 'name'"]],
    [
      "node names and addresses",
      `${head}node: { name: Gw_1, controlPlanes: [cp] }`,
      [
        "3 node.name must be a name of lower-case letters, digits and '-', at most 63 characters, such as orders-eu",
        "3 node.controlPlanes[0] must be host:port, such as gateway.example.com:6432 or [::1]:6432",
      ],
    ],
    [
      "two ways to join",
      `${head}node: { name: a, join: { tokenFile: a, tokenEnv: B } }`,
      ["3 node.join must name exactly one of tokenFile, tokenEnv and workloadTokenFile"],
    ],
    [
      "join token itself",
      `${head}node: { name: a, join: { token: hunter2 } }`,
      [
        "3 node.join must name exactly one of tokenFile, tokenEnv and workloadTokenFile",
        "3 node.join has no field of this name. Fields here are tokenFile, tokenEnv, workloadTokenFile, caFile.",
      ],
    ],
    [
      "workload token without CA",
      `${head}node: { name: a, join: { workloadTokenFile: t } }`,
      ["3 node.join needs caFile beside workloadTokenFile: nothing else tells which control plane to trust"],
    ],
    [
      "CA beside a join token",
      `${head}node: { name: a, join: { tokenFile: t, caFile: c } }`,
      ["3 node.join.caFile belongs to workloadTokenFile; a join token says itself whom to trust"],
    ],
    [
      "host with a port",
      `${head}controlPlane: { hosts: ["db:80", "a b", ok.example.com] }`,
      [
        "3 controlPlane.hosts[0] must be a host name or IP address without a port, such as gateway.example.com or 10.0.0.7",
        "3 controlPlane.hosts[1] must be a host name or IP address without a port, such as gateway.example.com or 10.0.0.7",
      ],
    ],
    [
      "shared store without a key",
      `${head}controlPlane: { store: "postgres://u@h/db", nodes: { listen: "0.0.0.0:1" } }`,
      [
        "3 controlPlane needs an encryptionKey (file, env or command): the store is a server of its own, and so must be the key to what it holds",
      ],
    ],
    [
      "two encryption keys",
      `${head}controlPlane: { encryptionKey: { file: a, env: hunter2 } }`,
      ["3 controlPlane.encryptionKey must name exactly one of file, env and command"],
    ],
    [
      "token for an address that is discovered",
      `${head}controlPlane:\n  workloads:\n    - { name: a, issuer: "https://x", audience: s, tokenFile: t, role: agent, claims: { sub: b } }`,
      [
        "5 controlPlane.workloads[0] needs jwksUri beside tokenFile: a token goes to an address that is written here, not to one that is discovered",
      ],
    ],
    [
      "workload of any claim, workload twice, keys in clear",
      `${head}controlPlane:\n  workloads:\n    - { name: a, issuer: "http://x", audience: s, role: agent, claims: {} }\n    - { name: a, issuer: "https://x", audience: s, role: control-plane, claims: { sub: b } }`,
      [
        "5 controlPlane.workloads[0].issuer must be https (http only on loopback), unless jwksUri says where its keys are",
        "5 controlPlane.workloads[0].claims must have at least one claim that tells this workload from all others of the issuer, such as sub",
        "6 controlPlane.workloads[1].name has the name 'a' of entry 0 (counted from 0) too",
        "6 controlPlane.workloads[1].role must be one of gateway, agent, recorder, not 'control-plane'",
      ],
    ],
    [
      "leases",
      `${head}controlPlane:\n  lease: { policy: 200h, strict: 0s }`,
      [
        "4 controlPlane.lease.policy must be at least 1s and at most 168h",
        "4 controlPlane.lease.strict must be at least 1s and at most 168h",
      ],
    ],
    [
      "strict lease above the other",
      `${head}controlPlane:\n  lease: { policy: 30m }`,
      ["4 controlPlane.lease has a strict time (1h unless given) longer than the one for all others (4h unless given)"],
    ],
    ["half the links", `${head}dataPlane: { links: { control: "0.0.0.0:1" } }`, ["3 dataPlane.links lacks the field 'sessions'"]],
    [
      "links on a listener's address",
      `${head}dataPlane:\n  listeners: [{ protocol: postgres, listen: "127.0.0.1:1" }]\n  links: { control: "127.0.0.1:1", sessions: "127.0.0.1:2" }`,
      ["5 dataPlane.links.control is the address of listener 0 (counted from 0) too"],
    ],
    [
      "hosts without a certificate",
      `${head}dataPlane: { tls: { mode: plaintext-loopback, hosts: [a] } }`,
      ["3 dataPlane.tls.hosts belongs to a certificate; with plaintext-loopback there is none"],
    ],
    [
      "two sources of one binding",
      `${head}agent: { secrets: [{ sealed: true, vault: a/b, targets: ["a:1"] }] }`,
      ["3 agent.secrets[0] must name exactly one of env, file, vault, kubernetes and sealed"],
    ],
    [
      "paths and names of secrets",
      `${head}agent:\n  secrets:\n    - { vault: /secret/a, targets: ["a:1"] }\n    - { vault: secret/../a, targets: ["a:1"] }\n    - { kubernetes: A/b/c, targets: ["a:1"] }\n    - { sealed: false, targets: ["a:1"] }`,
      [
        "5 agent.secrets[0].vault must be MOUNT/PATH without '/' at its ends (after SERVER: for a server with a name), in which '*' matches any run of characters",
        "6 agent.secrets[1].vault must be MOUNT/PATH without '/' at its ends (after SERVER: for a server with a name), in which '*' matches any run of characters",
        "7 agent.secrets[2].kubernetes must be a secret as NAME or NAMESPACE/NAME, in which '*' matches any run of characters",
        "8 agent.secrets[3].sealed must be true: whatever was sealed to this agent's key",
      ],
    ],
    [
      "Vault in clear, with a password, twice",
      `${head}agent:\n  vaults:\n    - { address: "http://vault:8200", auth: { tokenEnv: A } }\n    - { address: "https://a:hunter2@vault", auth: { token: hunter2 } }`,
      [
        "5 agent.vaults[0].address must be https (http only on loopback), since secrets are fetched from it",
        "6 agent.vaults[1] has the name 'default' of entry 0 (counted from 0) too",
        "6 agent.vaults[1].address must be a URL of scheme, host and port alone, such as https://vault.internal:8200",
        "6 agent.vaults[1].auth must name exactly one of tokenFile, tokenEnv, appRole and kubernetes",
        "6 agent.vaults[1].auth has no field of this name. Fields here are tokenFile, tokenEnv, appRole, kubernetes.",
      ],
    ],
    [
      "telemetry",
      `${head}telemetry: { traces: "collector:4318", sample: 2 }`,
      [
        "3 telemetry.traces must be a URL without user and password, such as http://127.0.0.1:4318/v1/traces",
        "3 telemetry.sample must be at most 1",
      ],
    ],
    [
      "operations",
      `${head}operations: { listen: "9090" }`,
      ["3 operations.listen must be host:port, such as 127.0.0.1:6432 or [::1]:6432; port 0 is any free one"],
    ],
    ["misspelt section", `${head}manifest: [x]`, ["3 the document has no field 'manifest'. Did you mean 'manifests'?"]],
    ["manifests as text", `${head}manifests: ./x`, ["3 manifests must be a list, not text"]],
  ];
  it.each(table)("%s", (_name, text, expected) => {
    const { config, faults } = parse(text);
    expect(faults.map(({ line, message }) => `${line} ${message}`)).toEqual(expected);
    expect(config).toBeUndefined();
    expect(JSON.stringify(faults)).not.toContain("hunter2");
  });

  it("gives a configuration or faults for whatever stands in a section, and never throws", () => {
    const word = fc.constantFrom(
      "a",
      "a:1",
      "[::1]:0",
      "1h",
      "0s",
      "https://x",
      "nats://x:1",
      "mount/path",
      "self-signed",
      "nats",
      "",
    );
    const fields = fc.constantFrom(...fieldNames);
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        word,
        fc.constantFrom(0, 1, 2.5, true, null),
        fc.array(tie("value"), { maxLength: 2 }),
        fc.dictionary(fields, tie("value"), { maxKeys: 5 }),
      ),
    }));
    const sections = fc.constantFrom(...sectionNames);
    fc.assert(
      fc.property(fc.dictionary(sections, value, { maxKeys: 4 }), (shape) => {
        const { config, faults } = parse(JSON.stringify({ apiVersion: "sluice/v1", kind: "Config", ...shape }));
        expect(config === undefined).toBe(faults.length > 0);
        for (const { line, message } of faults) expect([line, message.length > 10]).toEqual([1, true]);
      }),
      { numRuns: 3_000 },
    );
  });
});
