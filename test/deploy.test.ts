/**
 * The files under deploy/: every configuration is one that Sluice takes, units and compose file give each process the configuration, the
 * secrets and the time that it needs, and the image holds every folder that the command line imports.
 */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { parseConfig } from "@sluice/manifest/config.ts";
import { parseManifests } from "@sluice/manifest/manifests.ts";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { repository } from "./support/sluice.ts";

const read = (file: string): Promise<string> => readFile(path.join(repository, file), "utf8");
const list = async (folder: string, ending: string): Promise<readonly string[]> =>
  (await readdir(path.join(repository, folder))).filter((file) => file.endsWith(ending)).map((file) => `${folder}/${file}`);

async function configOf(file: string): Promise<NonNullable<ReturnType<typeof parseConfig>["config"]>> {
  const { config, faults } = parseConfig(
    { path: file, text: await read(file) },
    { configDirectory: "/etc/sluice", dataDirectory: "/var/lib/sluice" },
  );
  expect(faults, file).toEqual([]);
  return config!; // there is one where there are no faults
}

describe("configurations", async () => {
  const files = [...(await list("deploy/config", ".yaml")), ...(await list("deploy/compose/config", ".yaml"))];

  it("are there for every plane", () => {
    expect(files.length).toBeGreaterThanOrEqual(13);
  });

  it.each(files)("%s is one, with probes", async (file) => {
    const { operations } = await configOf(file);
    expect(operations.listen).toEqual({ host: "127.0.0.1", port: 9464 });
  });
});

describe("units", async () => {
  const units = await list("deploy/systemd", ".service");
  const examples: Readonly<Record<string, string>> = {
    "sluice.service": "all-in-one",
    "sluice-control-plane.service": "control-plane",
    "sluice-gateway.service": "gateway",
    "sluice-agent.service": "agent",
    "sluice-recorder.service": "recorder",
  };

  it("are there for every plane, and for all in one process", () => {
    expect(units.map((unit) => path.basename(unit)).sort()).toEqual(Object.keys(examples).sort());
  });

  it.each(units)("%s gives its process what its configuration asks for", async (file) => {
    const unit = path.basename(file);
    const text = await read(file);
    const example = `deploy/config/${examples[unit]}.yaml`;
    expect(text).toContain(`--config /etc/sluice/${examples[unit]}.yaml `);
    const credentials = [...text.matchAll(/^LoadCredential=([a-z-]+):/gm)].map((match) => match[1] ?? "");
    const asked = [...(await read(example)).matchAll(/\/run\/credentials\/([a-z-]+\.service)\/([a-z-]+)/g)];
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.map((match) => match[1])).toEqual(asked.map(() => unit));
    expect(new Set(asked.map((match) => match[2]))).toEqual(new Set(credentials));
    const { limits } = await configOf(example);
    const stopSeconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1]);
    expect(stopSeconds * 1_000).toBeGreaterThan((limits.drainTimeoutMs ?? 10_000) + 10_000);
  });

  it.each(units)("%s leaves nothing in core files, and no rights", async (file) => {
    const text = await read(file);
    for (const line of [
      "LimitCORE=0",
      "CoredumpFilter=0x0",
      "DynamicUser=yes",
      "NoNewPrivileges=yes",
      "CapabilityBoundingSet=",
      "ProtectSystem=strict",
      "PrivateTmp=yes",
      "SystemCallFilter=@system-service",
    ])
      expect(text.split("\n"), line).toContain(line);
    expect(text).toContain("node --disable-sigusr1 ");
    // V8 compiles while it runs: with this the process would not start.
    expect(text).not.toMatch(/^MemoryDenyWriteExecute=yes/m);
  });
});

interface ComposeService {
  readonly image: string;
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly secrets?: readonly (string | { readonly source: string; readonly target: string })[];
  readonly networks: readonly string[];
  readonly volumes?: readonly string[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
}

interface Compose {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean }>>;
  readonly volumes: Readonly<Record<string, null>>;
  readonly configs: Readonly<Record<string, { readonly file: string }>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
}

describe("the compose file", async () => {
  const compose = parse(await read("deploy/compose/compose.yaml"), { merge: true }) as Compose; // what is used of it is looked at
  const ours = Object.entries(compose.services).filter(([, service]) => service.image.startsWith("sluice:"));

  it("has two control planes, three gateways, two agents, a recorder, NATS and PostgreSQL", () => {
    expect(ours.map(([name]) => name).sort()).toEqual(
      "agent-1 agent-2 control-plane-1 control-plane-2 gateway-1 gateway-2 gateway-3 recorder".split(" "),
    );
    expect(Object.keys(compose.services)).toEqual(expect.arrayContaining(["nats", "postgres", "orders-db"]));
  });

  it.each(ours)("gives %s its own configuration, the secrets in it, and no rights", async (name, service) => {
    const source = service.configs?.find(({ target }) => target === "/etc/sluice/config.yaml")?.source ?? "";
    expect(compose.configs[source]).toEqual({ file: `./config/${name}.yaml` });
    const file = `deploy/compose/config/${name}.yaml`;
    await configOf(file);
    const given = (service.secrets ?? []).map((secret) => (typeof secret === "string" ? secret : secret.target));
    const asked = [...(await read(file)).matchAll(/\/run\/secrets\/([a-z-]+)/g)].map((match) => match[1] ?? "");
    expect(given).toEqual(expect.arrayContaining(asked));
    expect(service).toMatchObject({ read_only: true, cap_drop: ["ALL"] });
  });

  it("refers only to what is there, keeps every node's data, and lets only agents reach the target", async () => {
    for (const [name, service] of Object.entries(compose.services)) {
      for (const network of service.networks) expect(Object.keys(compose.networks), name).toContain(network);
      for (const secret of service.secrets ?? [])
        expect(Object.keys(compose.secrets), name).toContain(typeof secret === "string" ? secret : secret.source);
      for (const { source } of service.configs ?? []) expect(Object.keys(compose.configs), name).toContain(source);
      for (const volume of service.volumes ?? []) expect(Object.keys(compose.volumes), name).toContain(volume.split(":")[0]);
    }
    for (const [name] of ours) expect(Object.keys(compose.volumes)).toContain(name);
    for (const { file } of Object.values(compose.configs)) expect(await read(path.join("deploy/compose", file))).not.toBe("");
    const onTargets = Object.entries(compose.services).filter(([, service]) => service.networks.includes("targets"));
    expect(onTargets.map(([name]) => name).sort()).toEqual(["agent-1", "agent-2", "orders-db"]);
  });

  it("declares what Sluice takes", async () => {
    const file = "deploy/compose/manifests/orders.yaml";
    expect(parseManifests([{ path: file, text: await read(file) }]).faults).toEqual([]);
  });

  it("has a script that makes every secret", async () => {
    const script = await read("deploy/compose/join.sh");
    for (const name of Object.keys(compose.secrets).filter((secret) => !secret.startsWith("join-")))
      expect(script).toContain(`make_secret ${name} `);
    const joining = Object.keys(compose.secrets).filter((secret) => secret.startsWith("join-"));
    const nodes = /for node in (.+); do/.exec(script)?.[1]?.split(" ") ?? [];
    expect(nodes.map((node) => `join-${node}`).sort()).toEqual(joining.sort());
  });
});

describe("the image", () => {
  it("holds every workspace that the command line needs, and none that only tests", async () => {
    const containerfile = await read("deploy/container/Containerfile");
    const { workspaces } = JSON.parse(await read("package.json")) as { workspaces: readonly string[] }; // our own
    const [install = "", image = ""] = containerfile.split(/^FROM .*(?<!AS dependencies)$/m);
    for (const workspace of workspaces) {
      expect(install, workspace).toContain(`COPY ${workspace}/package.json ${workspace}/`);
      const runs = workspace !== "test" && workspace !== "bench";
      expect(image.includes(`COPY ${workspace}/ ${workspace}/`), workspace).toBe(runs);
    }
    expect(image).toMatch(/^USER 10001:10001$/m);
  });

  it("has the Node that the project has", async () => {
    const { dependencies } = JSON.parse(await read("package.json")) as { dependencies: { node: string } }; // our own
    const bases = [...(await read("deploy/container/Containerfile")).matchAll(/^FROM (\S+)/gm)].map((match) => match[1]);
    const base = `docker.io/library/node:${dependencies.node}-bookworm-slim`;
    expect(bases).toEqual([base, base]);
  });
});
