/** A real nats-server with JetStream, on loopback, in a directory of its own; killed and started again by its process id alone. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export interface Nats {
  readonly url: string;
  /** `SIGKILL` by default; resolves when the process is gone. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again at the same place, with what it had on disk. */
  start(): Promise<void>;
  /** Stops it and removes its files. */
  stop(): Promise<void>;
}

export interface NatsOptions {
  /** Where JetStream keeps its files; a new one without it. Removed by `stop`. */
  readonly directory?: string;
  /** Further arguments: TLS, configuration. */
  readonly arguments?: readonly string[];
  readonly scheme?: "nats" | "tls";
}

/** Debian's place for it, unless it is elsewhere on the path. */
const PROGRAM = "/usr/sbin/nats-server";
const START_TIMEOUT_MS = 15_000;

export async function startNats(options: NatsOptions = {}): Promise<Nats> {
  const port = await freePort();
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "sluice-nats-")));
  let child: ChildProcess | null = null;
  const start = async (): Promise<void> => {
    const args = ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", directory, ...(options.arguments ?? [])];
    const started = spawn(PROGRAM, args, { stdio: "ignore" });
    child = started;
    let failure: Error | null = null;
    started.on("error", (error) => (failure = error));
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await greets(port))) {
      if (failure !== null) throw failure;
      if (started.exitCode !== null || performance.now() > deadline) throw new Error("nats-server did not start");
      await delay(20);
    }
  };
  const kill = async (signal: NodeJS.Signals = "SIGKILL"): Promise<void> => {
    const running = child;
    child = null;
    if (running === null || running.exitCode !== null || running.signalCode !== null) return;
    const gone = once(running, "exit");
    running.kill(signal);
    await gone;
  };
  await start();
  return {
    url: `${options.scheme ?? "nats"}://127.0.0.1:${port}`,
    kill,
    start,
    stop: async () => {
      await kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}

/** It speaks first, once it serves. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.setTimeout(1_000, () => socket.destroy());
    socket.once("data", (bytes) => {
      resolve(bytes.toString("latin1").startsWith("INFO"));
      socket.destroy();
    });
    socket.once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
}
