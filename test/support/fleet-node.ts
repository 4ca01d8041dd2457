/**
 * One process of an installation, `sluice ROLE …` as in production: started, stopped, killed and started again at its place, with what
 * it wrote kept to be searched.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { access, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { repository } from "./sluice.ts";

export const launcher: string = join(repository, "cli/bin/sluice.mjs");
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

export type FleetRole = "control-plane" | "data-plane" | "agent" | "recorder";

/** What the ready file of a process says, as far as tests need it. */
export interface NodeReady {
  readonly pid: number;
  readonly caFile: string;
  readonly listeners: readonly { readonly protocol: string; readonly address: string }[];
  readonly admin?: string;
  readonly adminToken?: string;
  readonly operations?: string;
}

export interface FleetNode {
  readonly role: FleetRole;
  readonly name: string;
  readonly dataDirectory: string;
  readonly readyFile: string;
  /** Of its last start; throws while it does not run. */
  readonly ready: NodeReady;
  readonly running: boolean;
  /** Everything that all its processes have written. */
  output(): string;
  start(): Promise<void>;
  /** SIGTERM; resolves with the exit status. */
  stop(): Promise<number>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

export class NodeProcess implements FleetNode {
  readonly role: FleetRole;
  readonly name: string;
  readonly dataDirectory: string;
  readonly readyFile: string;
  readonly #directory: string;
  readonly #config: string;
  readonly #environment: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  #exited: Promise<number> = Promise.resolve(0);
  #ready: NodeReady | undefined;
  #written = "";

  constructor(role: FleetRole, name: string, directory: string, config: string, environment: Readonly<Record<string, string>>) {
    this.role = role;
    this.name = name;
    this.#directory = directory;
    this.dataDirectory = join(directory, "data");
    this.readyFile = join(directory, "ready.json");
    this.#config = config;
    this.#environment = environment;
  }

  get ready(): NodeReady {
    if (this.#ready === undefined) throw new Error(`${this.name} does not run`);
    return this.#ready;
  }

  get running(): boolean {
    return this.#ready !== undefined;
  }

  output(): string {
    return this.#written;
  }

  async start(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o711 });
    const configFile = join(this.#directory, "config.yaml");
    await writeFile(configFile, this.#config);
    await rm(this.readyFile, { force: true });
    const args = [launcher, this.role, "--config", configFile, "--data-dir", this.dataDirectory, "--ready-file", this.readyFile];
    const child = spawn(process.execPath, args, {
      cwd: this.#directory,
      env: { ...process.env, ...this.#environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        this.#written += chunk.toString("utf8");
      });
    }
    let status: number | undefined;
    this.#exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        status = code ?? (signal === null ? 1 : 128);
        if (this.#child === child) this.#ready = undefined;
        resolve(status);
      });
    });
    for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline; ) {
      if (status !== undefined) throw new Error(`${this.name} ended with status ${status}; it wrote:\n${this.#written}`);
      if (await exists(this.readyFile)) {
        this.#ready = JSON.parse(await readFile(this.readyFile, "utf8")) as NodeReady; // written by the product
        return;
      }
      await delay(50);
    }
    child.kill("SIGKILL");
    throw new Error(`${this.name} was not ready within ${START_TIMEOUT_MS} ms; it wrote:\n${this.#written}`);
  }

  async stop(): Promise<number> {
    process.kill(this.ready.pid, "SIGTERM");
    const status = await Promise.race([this.#exited, delay(STOP_TIMEOUT_MS, "late" as const, { ref: false })]);
    if (status === "late") throw new Error(`${this.name} did not end within 20 s of SIGTERM; it wrote:\n${this.#written}`);
    return status;
  }

  async kill(): Promise<void> {
    if (this.#ready !== undefined) process.kill(this.#ready.pid, "SIGKILL");
    else this.#child?.kill("SIGKILL");
    await this.#exited;
  }
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
