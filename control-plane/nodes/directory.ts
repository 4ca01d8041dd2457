/**
 * All nodes that are known and not gone, as every node is told: from the store, so that it is the same at every replica. Read again a
 * moment after something changed, however many things changed in that moment.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { DirectorySchema } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Changes } from "../store/changes.ts";
import type { Tables } from "../store/tables.ts";
import { directoryNodeToProto } from "./messages.ts";
import { type NodeRow, readNodes } from "./node-store.ts";

/** Agents are not told of each other: there may be hundreds, and none has to do with another. */
export type DirectoryView = "agents" | "others";

export interface Directory {
  readonly nodes: readonly DirectoryNode[];
  readonly messages: Readonly<Record<DirectoryView, MessageInitShape<typeof DirectorySchema>>>;
  /** Called with each view that changed. Returns how to stop. */
  onChange(listener: (view: DirectoryView) => void): () => void;
  close(): Promise<void>;
}

export interface DirectoryOptions {
  readonly db: Kysely<Tables>;
  readonly changes: Changes;
  readonly log: Logger;
}

/** And a millisecond for each node: a large directory is not sent to many nodes ten times a second while they all come back. */
const DEBOUNCE_MS = 100;
/** After the store failed. */
const RETRY_MS = 1_000;

export async function openDirectory(options: DirectoryOptions): Promise<Directory> {
  const directory = new StoredDirectory(options);
  await directory.read();
  return directory;
}

class StoredDirectory implements Directory {
  nodes: readonly DirectoryNode[] = [];
  messages: Directory["messages"] = { agents: { nodes: [] }, others: { nodes: [] } };
  readonly #options: DirectoryOptions;
  readonly #listeners = new Set<(view: DirectoryView) => void>();
  readonly #stop: () => void;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;
  #closed = false;

  constructor(options: DirectoryOptions) {
    this.#options = options;
    this.#stop = options.changes.onChange("nodes", () => this.#readIn(DEBOUNCE_MS + this.nodes.length));
  }

  onChange(listener: (view: DirectoryView) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async read(): Promise<void> {
    const rows = await readNodes(this.#options.db);
    const nodes = rows.filter(({ isKnown }) => isKnown).map(toDirectoryNode);
    const before = this.messages;
    this.nodes = nodes;
    this.messages = {
      others: { nodes: nodes.map(directoryNodeToProto) },
      agents: { nodes: nodes.filter(({ role }) => role !== "agent").map(directoryNodeToProto) },
    };
    for (const view of ["others", "agents"] as const) {
      if (JSON.stringify(before[view]) === JSON.stringify(this.messages[view])) continue;
      for (const listener of this.#listeners) listener(view);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stop();
    clearTimeout(this.#timer);
    await this.#reading;
  }

  #readIn(ms: number): void {
    if (this.#closed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // One after the other, or an older answer could come last.
      this.#reading = (this.#reading ?? Promise.resolve()).then(() => this.#readOrRetry());
    }, ms);
  }

  async #readOrRetry(): Promise<void> {
    try {
      if (!this.#closed) await this.read();
    } catch (error) {
      this.#options.log.warn({ err: error }, "the directory of nodes could not be read; nodes keep the one they have");
      this.#readIn(RETRY_MS);
    }
  }
}

function toDirectoryNode({ role, name, region, addresses, labels, slot, capability, status }: NodeRow): DirectoryNode {
  return { role, name, region, addresses, labels, slot, capability, draining: status.draining };
}
