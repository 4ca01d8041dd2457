/**
 * Stands for the control link while the parts that use it are made: the link's first word says where they listen, so they come
 * first. What is said before there is a link is not lost to anybody: its first word and status say it all.
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { BindingsReport } from "@sluice/rpc/bindings.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";

type Used = Pick<ControlLink, "directory" | "onDirectory" | "agentWanted" | "statusChanged" | "verdict" | "boundColumns">;

export class LateControlLink implements Used {
  #link: ControlLink | undefined;
  readonly #listeners = new Set<(nodes: readonly DirectoryNode[]) => void>();

  /** Once. */
  attach(link: ControlLink): void {
    this.#link = link;
    link.onDirectory((nodes) => {
      for (const listener of this.#listeners) listener(nodes);
    });
  }

  get directory(): readonly DirectoryNode[] {
    return this.#link?.directory ?? [];
  }

  onDirectory(listener: (nodes: readonly DirectoryNode[]) => void): () => void {
    const own = (nodes: readonly DirectoryNode[]): void => listener(nodes);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  agentWanted(resource: string): void {
    this.#link?.agentWanted(resource);
  }

  statusChanged(): void {
    this.#link?.statusChanged();
  }

  boundColumns(report: BindingsReport): void {
    this.#link?.boundColumns(report);
  }

  verdict(sequence: bigint, version: string, fault: GatewayError | null): void {
    this.#link?.verdict(sequence, version, fault);
  }
}
