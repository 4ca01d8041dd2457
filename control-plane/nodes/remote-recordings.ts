/** Recordings kept by recorders in other processes, asked over mTLS. Each recorder is asked in turn until one has the recording. */
import type { DescMethod } from "@bufbuild/protobuf";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { RecordingService } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { GrpcChannel } from "@sluice/rpc/grpc.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { RecordingReader, ReplayItem, VerifyReport } from "@sluice/rpc/recordings.ts";
import type { Logger } from "pino";

export interface RemoteRecordingsOptions {
  readonly identity: NodeIdentity;
  /** All nodes, as known now. */
  readonly nodes: () => readonly DirectoryNode[];
  readonly limits: Limits;
  readonly log: Logger;
}

export interface RemoteRecordings extends RecordingReader {
  close(): void;
}

/** A recording of a day reads in well under this. */
const VERIFY_DEADLINE_MS = 60_000;

export function createRemoteRecordings(options: RemoteRecordingsOptions): RemoteRecordings {
  const channels = new Map<string, GrpcChannel>();

  const channelTo = (name: string, address: string): GrpcChannel => {
    const key = `${name} ${address}`;
    let channel = channels.get(key);
    if (channel === undefined) {
      const { identity, log, limits } = options;
      channel = dialGrpc(
        { address, role: "recorder", name },
        { identity, log, limits, messageBytesMax: limits.nodeMessageBytesMax },
      );
      channels.set(key, channel);
    }
    return channel;
  };
  const recorders = (): readonly GrpcChannel[] => {
    const found = options.nodes().flatMap(({ role, name, addresses }) => {
      return role === "recorder" && addresses.control !== null ? [{ name, address: addresses.control }] : [];
    });
    const inUse = new Set(found.map(({ name, address }) => `${name} ${address}`));
    for (const [key, channel] of channels) {
      if (inUse.has(key)) continue;
      channel.close();
      channels.delete(key);
    }
    if (found.length > 0) return found.map(({ name, address }) => channelTo(name, address));
    throw new GatewayError("node_unreachable", "No recorder is connected, so recordings cannot be read.", {
      hint: "`sluice nodes list` shows whether one is away.",
    });
  };

  return {
    replay: (sessionId) => replay(recorders, sessionId),
    verify: async (sessionId) => {
      return await fromAny(recorders(), async (channel) => {
        const { report } = await channel.unary(
          RecordingService.method.verify,
          { sessionId },
          { deadlineMs: VERIFY_DEADLINE_MS, idempotent: true },
        );
        return parseJson(report) as VerifyReport; // written by our own recorder, whose certificate was checked
      });
    },
    close: () => {
      for (const channel of channels.values()) channel.close();
      channels.clear();
    },
  };
}

async function* replay(
  recorders: () => readonly GrpcChannel[],
  sessionId: SessionId,
): AsyncGenerator<ReplayItem, void, undefined> {
  const stop = new AbortController();
  try {
    const opened = await fromAny(recorders(), async (channel) => {
      const stream = channel.serverStream(
        RecordingService.method.replay satisfies DescMethod,
        { sessionId },
        { signal: stop.signal },
      );
      const answers = stream[Symbol.asyncIterator]();
      return { answers, first: await answers.next() }; // the first answer tells whether this one has it
    });
    for (let next = opened.first; next.done !== true; next = await opened.answers.next()) {
      for (const item of next.value.items) yield parseJson(item) as ReplayItem; // as above
    }
  } finally {
    stop.abort();
  }
}

/** The first that has it. When none has: what the last said, but a recorder that could not be asked may have it. */
async function fromAny<Result>(
  channels: readonly GrpcChannel[],
  ask: (channel: GrpcChannel) => Promise<Result>,
): Promise<Result> {
  let failure: GatewayError | undefined;
  for (const channel of channels) {
    try {
      return await ask(channel);
    } catch (thrown) {
      const error = toGatewayError(thrown);
      if (failure === undefined || failure.code === "not_found") failure = error;
    }
  }
  throw failure ?? new GatewayError("not_found", "There is no recording of this session.");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new GatewayError("internal", "The recorder's answer cannot be read.", { cause });
  }
}
