/**
 * Ends sessions wherever they run: a command is stored, every replica tells all its gateways, and a gateway that comes back within a
 * minute is told as well. Telling twice means the same twice.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import { type Kysely, sql } from "kysely";
import type { Logger } from "pino";
import type { SessionsAdmin } from "../api/services.ts";
import type { Changes } from "../store/changes.ts";
import type { Tables } from "../store/tables.ts";
import type { ConnectedNode } from "./connected-node.ts";

export interface EndSession {
  readonly commandId: string;
  readonly sessionId: string;
  /** A sentence for the caller. */
  readonly reason: string;
}

export interface SessionCommands {
  readonly admin: SessionsAdmin;
  /** For a gateway that has just connected. */
  tellRecent(node: ConnectedNode): Promise<void>;
  /** For a gateway in the same process. Returns how to stop. */
  onEndSession(listener: (command: EndSession) => void): () => void;
  close(): void;
}

export interface SessionCommandsOptions {
  readonly db: Kysely<Tables>;
  readonly changes: Changes;
  readonly random: Random;
  readonly log: Logger;
  /** Connected to this replica. */
  readonly nodes: () => Iterable<ConnectedNode>;
}

/** Topic of `store/changes.ts`; the payload is the command's id. */
const TOPIC = "commands";
const KIND = "end-session";
/** How long a command is kept for gateways that come back. */
const KEPT_S = 60;
const REASON_CHARS_MAX = 500;

export function createSessionCommands({ db, changes, random, log, nodes }: SessionCommandsOptions): SessionCommands {
  const listeners = new Set<(command: EndSession) => void>();
  const told = new Set<string>();

  const recent = async (): Promise<readonly EndSession[]> => {
    const rows = await db
      .selectFrom("commands")
      .select(["id", "body"])
      .where("kind", "=", KIND)
      .where("created_at", ">", sql<Date>`clock_timestamp() - ${KEPT_S} * interval '1 second'`)
      .orderBy("created_at")
      .execute();
    // Written below and nowhere else.
    return rows.map(({ id, body }) => ({ commandId: id, ...(body as Omit<EndSession, "commandId">) }));
  };
  const spread = async (): Promise<void> => {
    try {
      const commands = await recent();
      for (const node of nodes()) tell(node, commands);
      for (const command of commands) tellListeners(command);
    } catch (error) {
      log.error({ err: error }, "a command to end sessions could not be read; gateways connected here may not hear of it");
    }
  };
  const tellListeners = (command: EndSession): void => {
    if (listeners.size === 0 || told.has(command.commandId)) return;
    if (told.size >= TOLD_MAX) told.clear();
    told.add(command.commandId);
    for (const listener of listeners) listener(command);
  };
  const stop = changes.onChange(TOPIC, () => void spread());

  return {
    admin: {
      kill: async ({ sessionId, reason, author }) => {
        const row = await db.selectFrom("sessions").select("state").where("id", "=", sessionId).executeTakeFirst();
        if (row?.state === "ended") {
          throw new GatewayError("not_found", "This session has ended.", {
            hint: "`sluice sessions list` shows which ones run.",
          });
        }
        const id = `c_${Buffer.from(random.bytes(16)).toString("base64url")}`;
        const body = JSON.stringify({ sessionId, reason: reason.slice(0, REASON_CHARS_MAX) });
        await db.transaction().execute(async (transaction) => {
          await transaction
            .deleteFrom("commands")
            .where("created_at", "<", sql<Date>`clock_timestamp() - 10 * ${KEPT_S} * interval '1 second'`)
            .execute();
          await transaction.insertInto("commands").values({ id, kind: KIND, body, author }).execute();
          await changes.notify(transaction, TOPIC, id);
        });
        log.info({ session: sessionId, author, command: id }, "a session is being ended");
        // The index lags behind, more so without the bus or the recorder: that must not keep anybody from ending a session.
        if (row === undefined) {
          throw new GatewayError("not_found", "No session of this id is listed; the gateways were told to end it all the same.", {
            hint: "One that has only just begun is listed a moment later. `sluice sessions list` shows which ones run.",
          });
        }
      },
    },
    tellRecent: async (node) => tell(node, await recent()),
    onEndSession: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close: stop,
  };
}

const TOLD_MAX = 10_000;

function tell(node: ConnectedNode, commands: readonly EndSession[]): void {
  if (node.certificate.role !== "gateway") return;
  for (const command of commands) {
    if (node.toldCommands.has(command.commandId)) continue;
    if (node.toldCommands.size >= TOLD_MAX) node.toldCommands.clear();
    node.toldCommands.add(command.commandId);
    if (node.outbox.command({ case: "endSessions", value: command })) continue;
    // It must not go on with a session that was ended: it connects again and is told then.
    node.end(
      new GatewayError("node_unreachable", "This gateway does not keep up with its control stream.", { hint: "Connect again." }),
    );
    return;
  }
}
