/** For tests alone: an admin API that answers as told, over real HTTPS with a real CA, and commands run against it. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DescMessage, fromJson, type JsonValue, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { openTestAuthorityFiles } from "@sluice/control-plane/ca/testing.ts";
import { ManifestFaultsSchema } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { runCli } from "./program.ts";
import { type ReadyFile, writeReadyFile } from "./ready-file.ts";
import { createTestContext, type TestContext, type TestContextOptions } from "./testing-context.ts";

export interface Answer {
  readonly status?: number;
  readonly body: unknown;
  readonly raw?: Buffer;
}

export type Answers = Record<string, Answer | ((body: unknown) => Answer)>;

export interface FakeAdmin {
  /** The commands' working directory, with a ready file in its usual place. */
  readonly directory: string;
  /** `https://127.0.0.1:PORT`. */
  readonly address: string;
  readonly caFile: string;
  /** By `<Service>/<Method>`, as JSON of protobuf. To be set by tests. */
  answers: Answers;
  /** What probes hear. */
  probed: { readonly status: number; readonly date?: string };
  calls: { readonly method: string; readonly body: unknown; readonly token: string | undefined }[];
  readyFile(changes?: Partial<ReadyFile>): ReadyFile;
  run(args: readonly string[], options?: Partial<TestContextOptions>): Promise<TestContext & { readonly status: number }>;
  /** Forgets what tests have set. */
  reset(): void;
  close(): Promise<void>;
}

export async function startFakeAdmin(): Promise<FakeAdmin> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-cli-"));
  const authority = await openTestAuthorityFiles(join(directory, "ca"));
  const { caFile } = authority;
  const { certFile, keyFile } = await authority.issueServerCertificate({ name: "admin", hosts: ["127.0.0.1"] });
  const server = createServer({ cert: await readFile(certFile), key: await readFile(keyFile) }, (request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      if (request.method === "GET") {
        response.writeHead(fake.probed.status, { date: fake.probed.date ?? new Date().toUTCString() }).end("{}");
        return;
      }
      const method = (request.url ?? "").replace("/sluice.admin.v1.", "");
      const isStream = request.headers["content-type"] === "application/connect+json";
      const body: unknown = JSON.parse(
        Buffer.concat(parts)
          .subarray(isStream ? 5 : 0)
          .toString("utf8"),
      );
      fake.calls.push({ method, body, token: request.headers.authorization });
      const told = fake.answers[method] ?? { status: 404, body: { code: "unimplemented", message: "no such method" } };
      const answer = typeof told === "function" ? told(body) : told;
      response.writeHead(answer.status ?? 200, { "content-type": isStream ? "application/connect+json" : "application/json" });
      response.end(answer.raw ?? JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo; // of TCP
  const fake: FakeAdmin = {
    directory,
    address: `https://127.0.0.1:${port}`,
    caFile,
    answers: {},
    probed: { status: 200 },
    calls: [],
    readyFile: (changes = {}) => ({
      admin: fake.address,
      adminToken: "admin-token",
      caFile,
      listeners: [{ protocol: "postgres", address: "127.0.0.1:6543" }],
      pid: process.pid,
      ...changes,
    }),
    run: async (args, options = {}) => {
      const context = createTestContext({ workingDirectory: directory, ...options });
      return { ...context, status: await runCli(args, context) };
    },
    reset: () => {
      fake.answers = {};
      fake.calls = [];
      fake.probed = { status: 200 };
    },
    close: async () => {
      server.closeAllConnections();
      server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
  await writeReadyFile(join(directory, ".sluice", "ready.json"), fake.readyFile());
  return fake;
}

/** A failure as the API sends it: Connect's code, ours in the details. */
export function failure(
  status: number,
  code: string,
  fault: Readonly<Record<string, string>>,
  faults?: readonly unknown[],
): Answer {
  const details: { type: string; value: string }[] = [
    { type: FaultSchema.typeName, value: toBase64(FaultSchema, fromJson(FaultSchema, fault)) },
  ];
  if (faults !== undefined) {
    const message = fromJson(ManifestFaultsSchema, { faults: faults as JsonValue }); // tests write JSON
    details.push({ type: ManifestFaultsSchema.typeName, value: toBase64(ManifestFaultsSchema, message) });
  }
  return { status, body: { code, message: fault["message"], details } };
}

/** Messages of a stream, the last one its end. */
export function frames(...messages: readonly unknown[]): Buffer {
  return Buffer.concat(
    messages.map((message, at) => {
      const text = Buffer.from(JSON.stringify(message));
      const head = Buffer.alloc(5);
      head[0] = at === messages.length - 1 ? 2 : 0;
      head.writeUInt32BE(text.length, 1);
      return Buffer.concat([head, text]);
    }),
  );
}

function toBase64<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): string {
  return Buffer.from(toBinary(desc, message)).toString("base64");
}
