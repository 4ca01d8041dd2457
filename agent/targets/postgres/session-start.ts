/**
 * Asks a fresh session what names mean in it: one query in one round trip, with everything qualified, so that nothing a user made
 * runs. A server that refuses leaves it unknown; an answer out of step means that the connection is of no use.
 * Spec: PostgreSQL documentation, "Simple Query".
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { BodyReader, cstring, encodeMessage, FrameReader } from "@sluice/inspect/wire/postgres/frames.ts";
import type { SessionStart } from "@sluice/rpc/agent-link.ts";
import { nextChunk } from "./next-chunk.ts";
import type { PostgresConnection } from "./open.ts";

/** current_user and session_user are the grammar's own words, not functions that could be shadowed. */
export const SESSION_START_QUERY = "SELECT pg_catalog.current_setting('search_path'), current_user, session_user";

/** The three columns of its row; undefined when it has another shape. */
export function readSessionStart(body: BodyReader): SessionStart | undefined {
  if (body.int16() !== 3) return undefined;
  const [searchPath, currentUser, sessionUser] = [readText(body), readText(body), readText(body)];
  if (searchPath === null || currentUser === null || sessionUser === null) return undefined;
  return { searchPath, currentUser, sessionUser };
}

/** Leaves the connection's stream paused and without listeners of its own. Throws `target_protocol`. */
export async function askSessionStart(
  connection: PostgresConnection,
  frameBytesMax: number,
  signal: AbortSignal,
): Promise<SessionStart | undefined> {
  const { stream } = connection;
  const reader = new FrameReader(frameBytesMax);
  let start: SessionStart | undefined;
  stream.write(encodeMessage("Q", [cstring(SESSION_START_QUERY)]));
  for (;;) {
    const frame = reader.next();
    if (frame === null) {
      reader.push(await nextChunk(stream, signal));
      continue;
    }
    switch (String.fromCharCode(frame.type)) {
      case "D":
        start = readSessionStart(new BodyReader(frame.body));
        break;
      case "E":
      case "T":
      case "C":
      case "N":
      case "S":
      case "A":
        break;
      case "Z":
        if (!reader.empty) stream.unshift(Buffer.from(reader.rest));
        return start;
      default:
        throw new GatewayError("target_protocol", "The database answered a query with an unknown message.");
    }
  }
}

function readText(body: BodyReader): string | null {
  const bytes = body.int32();
  return bytes === -1 ? null : body.bytes(bytes).toString("utf8");
}
