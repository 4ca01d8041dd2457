import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseConfig } from "./config.ts";

const directories = { configDirectory: "/etc/sluice", dataDirectory: "/var/lib/sluice" };
const head = "apiVersion: sluice/v1\nkind: Config\n";
const parse = (text: string): ReturnType<typeof parseConfig> => parseConfig({ path: "config.yaml", text }, directories);

describe("parseConfig", () => {
  it("takes the documented example", () => {
    const text = readFileSync(new URL("../test/fixtures/config.yaml", import.meta.url), "utf8");
    const { config, faults } = parse(text);
    expect(faults).toEqual([]);
    expect(config).toEqual({
      controlPlane: { store: { kind: "embedded" }, listen: { host: "127.0.0.1", port: 0 }, developmentIssuer: true },
      dataPlane: {
        listeners: [{ protocol: "postgres", listen: { host: "127.0.0.1", port: 0 }, proxyProtocolFrom: [] }],
        tls: { mode: "self-signed" },
      },
      agent: { secrets: [{ source: { kind: "env", name: "ORDERS_PASSWORD" }, targets: ["127.0.0.1:*"] }] },
      events: { bus: "embedded" },
      recorder: { directory: "/var/lib/sluice/recordings" },
      limits: {},
      manifests: ["/etc/sluice/manifests"],
    });
  });

  it("has a default for everything", () => {
    expect(parse(head).config).toEqual({
      controlPlane: { store: { kind: "embedded" }, listen: { host: "127.0.0.1", port: 0 }, developmentIssuer: true },
      dataPlane: { listeners: [], tls: { mode: "self-signed" } },
      agent: { secrets: [] },
      events: { bus: "embedded" },
      recorder: { directory: "/var/lib/sluice/recordings" },
      limits: {},
      manifests: [],
    });
  });

  it("takes everything that can be said, with paths made absolute", () => {
    const { config, faults } = parse(`${head}
controlPlane: { store: "postgres://sluice@db.internal/sluice", listen: "[::1]:8443", developmentIssuer: false }
dataPlane:
  listeners: [{ protocol: postgres, listen: "0.0.0.0:6432", proxyProtocolFrom: [10.0.0.7, "fd00::7"] }]
  tls: { certFile: tls/cert.pem, keyFile: /secrets/key.pem }
agent: { secrets: [{ file: orders.password, targets: ["*.internal:5432"] }] }
recorder: { store: "file:/recordings" }
limits: { sessionsMax: 12 }
manifests: [a.yaml, ../b]
`);
    expect(faults).toEqual([]);
    expect(config).toEqual({
      controlPlane: {
        store: { kind: "postgres", url: "postgres://sluice@db.internal/sluice" },
        listen: { host: "::1", port: 8443 },
        developmentIssuer: false,
      },
      dataPlane: {
        listeners: [
          { protocol: "postgres", listen: { host: "0.0.0.0", port: 6432 }, proxyProtocolFrom: ["10.0.0.7", "fd00::7"] },
        ],
        tls: { mode: "files", certFile: "/etc/sluice/tls/cert.pem", keyFile: "/secrets/key.pem" },
      },
      agent: { secrets: [{ source: { kind: "file", path: "/etc/sluice/orders.password" }, targets: ["*.internal:5432"] }] },
      events: { bus: "embedded" },
      recorder: { directory: "/recordings" },
      limits: { sessionsMax: 12 },
      manifests: ["/etc/sluice/a.yaml", "/etc/b"],
    });
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
      ["3 agent.secrets[0] must name exactly one of env and file"],
    ],
    [
      "secret itself",
      `${head}agent: { secrets: [{ env: A, value: hunter2, targets: ["a:1"] }] }`,
      ["3 agent.secrets[0] has no field of this name. Fields here are env, file, targets."],
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
      "nats",
      `${head}events: { bus: nats, servers: ["nats://x"] }`,
      ["3 the event bus 'nats' is not available yet; use embedded"],
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
    ["misspelt section", `${head}manifest: [x]`, ["3 the document has no field 'manifest'. Did you mean 'manifests'?"]],
    ["manifests as text", `${head}manifests: ./x`, ["3 manifests must be a list, not text"]],
  ];
  it.each(table)("%s", (_name, text, expected) => {
    const { config, faults } = parse(text);
    expect(faults.map(({ line, message }) => `${line} ${message}`)).toEqual(expected);
    expect(config).toBeUndefined();
    expect(JSON.stringify(faults)).not.toContain("hunter2");
  });
});
