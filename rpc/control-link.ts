/**
 * A node's link to the control plane: one stream to each replica, kept alive and made again. What a node must do is told to its
 * handlers, the same thing possibly more than once. Implemented by `rpc/control/link.ts`.
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { BindingsReport } from "./bindings.ts";
import type { DirectoryNode, NodeAddresses } from "./nodes.ts";

export interface ControlLink {
  /** Replicas that have welcomed this node and are heard of. */
  readonly connected: number;
  /** All nodes, as last heard; empty before the first word. */
  readonly directory: readonly DirectoryNode[];
  onDirectory(listener: (nodes: readonly DirectoryNode[]) => void): () => void;
  /** Tells every replica now rather than at the next heartbeat that the status changed. */
  statusChanged(): void;
  /** The outcome of a snapshot that a handler was given. */
  verdict(sequence: bigint, version: string, fault: GatewayError | null): void;
  /** Gateways: there is a caller for this resource and no agent. */
  agentWanted(resource: string): void;
  /** Gateways: columns that classifiers label, to one replica that listens; lost where there is none. */
  boundColumns(report: BindingsReport): void;
  close(): Promise<void>;
}

export interface ControlHandlers {
  readonly hello: () => NodeHello;
  readonly status: () => NodeStatus;
  readonly welcomed?: (welcome: { readonly slot: number; readonly nowMs: number }) => void;
  /** Serialised SignedContent: verified by whoever takes it, with the identity's authorities. */
  readonly snapshot?: (signed: Uint8Array) => void;
  /** A replica that is heard of says which snapshot is the newest. */
  readonly heartbeat?: (snapshotSequence: bigint) => void;
  readonly endSessions?: (command: { readonly commandId: string; readonly sessionId: string; readonly reason: string }) => void;
  /** Takes and gives JSON as rpc/explain.ts says; what it throws goes back as it is. */
  readonly explain?: (requestJson: string) => Promise<string>;
  readonly dialGateway?: (gatewayName: string) => void;
}

export interface NodeHello {
  readonly region: string;
  readonly addresses: NodeAddresses;
  /** Agents: JWK (public) as JSON; empty otherwise. */
  readonly sealingKey: string;
  readonly snapshotSequence: bigint;
}

export interface NodeStatus {
  readonly sessions: number;
  readonly draining: boolean;
  readonly links: readonly { readonly name: string; readonly sessions: number; readonly roundTripUs: number }[];
  readonly spoolBytes: number;
}
