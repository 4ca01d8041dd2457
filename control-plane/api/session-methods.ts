/** Methods of the admin API about sessions: the index, replay, verification, kills. */
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter } from "@connectrpc/connect";
import { type ReplayResponseSchema, type SessionSchema, SessionService } from "@sluice/proto/sluice/admin/v1/session_pb.ts";
import type { RecordingReader, ReplayItem } from "@sluice/rpc/recordings.ts";
import type { SessionIndex, SessionSummary } from "../store/session-index.ts";
import { parseKill } from "./node-requests.ts";
import { parseSession, sessionNotFound } from "./requests.ts";
import type { SessionsAdmin } from "./services.ts";

export interface SessionServices {
  readonly sessionIndex: SessionIndex;
  readonly recordings: RecordingReader;
  readonly sessions: SessionsAdmin;
}

/** Items of one message: as many rows as a page holds, and few bytes beyond what one row may have. */
const ITEMS_MAX = 256;
const ITEMS_CHARS_MAX = 256 * 1024;

export function addSessionMethods(router: ConnectRouter, { sessionIndex, recordings, sessions }: SessionServices): void {
  router.service(SessionService, {
    list: async () => ({ sessions: (await sessionIndex.list()).map((session) => toSession(session)) }),
    get: async (request) => {
      const session = await sessionIndex.get(parseSession(request));
      if (session === undefined) throw sessionNotFound();
      return { session: toSession(session) };
    },
    replay: (request, { signal }) => inMessages(recordings.replay(parseSession(request)), signal),
    verify: async (request) => {
      const report = await recordings.verify(parseSession(request));
      return { ...report, records: BigInt(report.records), faults: [...report.faults] };
    },
    kill: async (request) => {
      await sessions.kill(parseKill(request));
      return {};
    },
  });
}

function toSession({
  principal,
  startedAt,
  endedAt,
  closeCode,
  ...session
}: SessionSummary): MessageInitShape<typeof SessionSchema> {
  return {
    ...session,
    principal: { ...principal, groups: [...principal.groups] },
    startedAt: timestampFromDate(new Date(startedAt)),
    ...(endedAt === null ? {} : { endedAt: timestampFromDate(new Date(endedAt)) }),
    ...(closeCode === null ? {} : { closeCode }),
  };
}

/** The reader sets the pace: the next items are read when the former ones are on their way. Ends when the reader has gone. */
async function* inMessages(
  items: AsyncIterable<ReplayItem>,
  signal: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof ReplayResponseSchema>> {
  let batch: JsonObject[] = [];
  let chars = 0;
  for await (const item of items) {
    if (signal.aborted) return;
    const text = JSON.stringify(item);
    batch.push(JSON.parse(text) as JsonObject); // an item is an object; what JSON leaves out, a message may not hold
    chars += text.length;
    if (batch.length < ITEMS_MAX && chars < ITEMS_CHARS_MAX) continue;
    yield { items: batch };
    batch = [];
    chars = 0;
  }
  if (batch.length > 0) yield { items: batch };
}
