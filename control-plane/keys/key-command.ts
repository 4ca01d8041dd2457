/**
 * Lets a program (in front of a KMS) wrap the keys that encrypt ours: each secret has a data key of its own, which the program
 * wraps and unwraps. The operation is its last argument; base64 goes in and out. Its output on stderr is not read: it may say anything.
 */
import { spawn } from "node:child_process";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import { type KeyEncryption, otherSource, seal, unseal } from "./envelope.ts";

export interface KeyCommandOptions {
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly timeoutMs: number;
  readonly random: Random;
}

const KEY_BYTES = 32;
/** A KMS adds a few hundred bytes to a key. */
const OUTPUT_BYTES_MAX = 16_384;

export function commandEncryption(options: KeyCommandOptions): KeyEncryption {
  const { command, random } = options;
  const name = `the command ${command[0]}`;
  return {
    name,
    wrap: async (secret, purpose) => {
      const key = random.bytes(KEY_BYTES);
      const wrapped = await run(options, "wrap", key);
      return `v1.command.${wrapped.toString("base64url")}.${seal(key, secret, purpose, random).toString("base64url")}`;
    },
    unwrap: async (text, purpose) => {
      const [version, kind, wrapped, sealed, ...rest] = text.split(".");
      if (version !== "v1" || kind !== "command" || wrapped === undefined || sealed === undefined || rest.length > 0) {
        throw otherSource(name);
      }
      const key = await run(options, "unwrap", Buffer.from(wrapped, "base64url"));
      if (key.length !== KEY_BYTES) throw failed(name, "unwrap", `answered ${key.length} bytes instead of ${KEY_BYTES}`);
      return unseal(key, Buffer.from(sealed, "base64url"), purpose);
    },
  };
}

async function run({ command, timeoutMs }: KeyCommandOptions, operation: "wrap" | "unwrap", input: Uint8Array): Promise<Buffer> {
  const [program = "", ...givenArguments] = command;
  const name = `the command ${program}`;
  const child = spawn(program, [...givenArguments, operation], {
    stdio: ["pipe", "pipe", "ignore"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  const chunks: Buffer[] = [];
  let size = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size > OUTPUT_BYTES_MAX) child.kill("SIGKILL");
    else chunks.push(chunk);
  });
  child.stdin.on("error", () => undefined); // a program that does not read its input says so by its status
  child.stdin.end(`${Buffer.from(input).toString("base64")}\n`);
  const outcome = await new Promise<string>((resolve) => {
    child.once("error", (error: NodeJS.ErrnoException) => resolve(`could not be started (${error.code ?? error.name})`));
    child.once("close", (status, signal) => {
      if (size > OUTPUT_BYTES_MAX) resolve("said too much");
      else if (signal !== null) resolve(`was ended by ${signal}; it has ${timeoutMs} ms`);
      else resolve(status === 0 ? "" : `ended with status ${status}`);
    });
  });
  const text = Buffer.concat(chunks).toString("latin1").trim();
  if (outcome !== "") throw failed(name, operation, outcome);
  if (text === "" || !/^[A-Za-z0-9+/_\s-]+={0,2}$/.test(text)) throw failed(name, operation, "did not answer in base64");
  return Buffer.from(text, "base64");
}

function failed(name: string, operation: string, what: string): GatewayError {
  return new GatewayError("config_invalid", `Keys of the store cannot be read or made: ${name} ${what} at "${operation}".`, {
    hint: "controlPlane.encryptionKey names it. It gets the operation (wrap or unwrap) as last argument, base64 on stdin, and answers base64.",
  });
}
