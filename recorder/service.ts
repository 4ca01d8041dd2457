/** The recorder's service for the control plane: replays and verifications. Never serves anybody else, and hands items on as they are read. */
import { GatewayError } from "@sluice/core/errors.ts";
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";
import { RecordingService } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import { implement } from "@sluice/rpc/grpc/server.ts";
import type { ServedService } from "@sluice/rpc/grpc.ts";
import type { RecordingReader } from "@sluice/rpc/recordings.ts";

/** Items of one message: enough that their number does not matter, few enough that a reader sees the first soon. Characters of JSON. */
const MESSAGE_CHARS = 128 * 1024;

export function recordingService(reader: RecordingReader): ServedService {
  return implement(
    RecordingService,
    {
      replay: (request) => replay(reader, wanted(request.sessionId)),
      verify: async (request) => ({ report: JSON.stringify(await reader.verify(wanted(request.sessionId))) }),
    },
    ["control-plane"],
  );
}

async function* replay(reader: RecordingReader, sessionId: SessionId): AsyncGenerator<{ items: string[] }, void, undefined> {
  let items: string[] = [];
  let chars = 0;
  for await (const item of reader.replay(sessionId)) {
    const text = JSON.stringify(item);
    if (chars > 0 && chars + text.length > MESSAGE_CHARS) {
      yield { items };
      items = [];
      chars = 0;
    }
    items.push(text);
    chars += text.length;
  }
  if (items.length > 0) yield { items };
}

function wanted(text: string): SessionId {
  const sessionId = parseSessionId(text);
  if (sessionId === undefined) throw new GatewayError("not_found", "There is no such session.");
  return sessionId;
}
