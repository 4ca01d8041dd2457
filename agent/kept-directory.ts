/**
 * Where the gateways are, as last heard: kept on disk so that an agent that starts while no control plane answers finds them. Not a
 * matter of trust: a gateway proves who it is by its certificate wherever it is dialled.
 */
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { Logger } from "pino";
import { replaceFile } from "./replace-file.ts";

type Control = Pick<ControlLink, "directory" | "onDirectory" | "statusChanged">;

/** Stands for the control link, which comes after the parts that use it: its first word tells of them. */
export class KeptDirectory implements Control {
  readonly #file: string;
  readonly #log: Pick<Logger, "warn">;
  readonly #listeners = new Set<(nodes: readonly DirectoryNode[]) => void>();
  #link: Control | undefined;
  #kept: readonly DirectoryNode[];
  #writing: Promise<void> = Promise.resolve();
  #wanted: string | undefined;

  /** A file that is missing or damaged counts as empty. */
  static async open(file: string, log: Pick<Logger, "warn">): Promise<KeptDirectory> {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    return new KeptDirectory(file, parseGateways(await readFile(file, "utf8").catch(() => "[]")), log);
  }

  private constructor(file: string, kept: readonly DirectoryNode[], log: Pick<Logger, "warn">) {
    this.#file = file;
    this.#kept = kept;
    this.#log = log;
  }

  /** Once. */
  attach(link: Control): void {
    this.#link = link;
    link.onDirectory((nodes) => {
      this.#keep(nodes.filter(({ role }) => role === "gateway"));
      for (const listener of this.#listeners) listener(nodes);
    });
  }

  get directory(): readonly DirectoryNode[] {
    const heard = this.#link?.directory ?? [];
    return heard.length > 0 ? heard : this.#kept;
  }

  onDirectory(listener: (nodes: readonly DirectoryNode[]) => void): () => void {
    const own = (nodes: readonly DirectoryNode[]): void => listener(nodes);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  statusChanged(): void {
    this.#link?.statusChanged();
  }

  /** Resolves when the last word is on disk. */
  async close(): Promise<void> {
    await this.#writing;
  }

  #keep(gateways: readonly DirectoryNode[]): void {
    // That a gateway drains is true for now only.
    const lasting = gateways.map((gateway) => ({ ...gateway, draining: false }));
    const text = `${JSON.stringify(lasting)}\n`;
    if (text === `${JSON.stringify(this.#kept)}\n`) return;
    this.#kept = lasting;
    const first = this.#wanted === undefined;
    this.#wanted = text;
    if (first) this.#writing = this.#writing.then(() => this.#write());
  }

  async #write(): Promise<void> {
    const text = this.#wanted;
    this.#wanted = undefined;
    if (text === undefined) return;
    try {
      await replaceFile(this.#file, Buffer.from(text));
    } catch (error) {
      this.#log.warn({ err: error }, "where the gateways are could not be kept on disk");
    }
  }
}

function parseGateways(text: string): readonly DirectoryNode[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value.filter(isGateway) : [];
  } catch {
    return [];
  }
}

/** What the tunnel reads of a node. */
function isGateway(value: unknown): value is DirectoryNode {
  if (typeof value !== "object" || value === null) return false;
  const { role, name, addresses, labels } = value as Partial<DirectoryNode>; // each is looked at
  return (
    role === "gateway" &&
    typeof name === "string" &&
    typeof labels === "object" &&
    labels !== null &&
    typeof addresses === "object" &&
    addresses !== null &&
    [addresses.control, addresses.sessions].every((address) => address === null || typeof address === "string")
  );
}
