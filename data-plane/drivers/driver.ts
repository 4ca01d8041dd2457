/** What every protocol's driver takes and gives: one accepted connection, served to its end. */
import type { Socket } from "node:net";
import type { Protocol } from "@sluice/core/snapshot.ts";
import type { GatewayParts } from "../gateway-parts.ts";

export interface AcceptedConnection {
  readonly socket: Socket;
  /** The peer's address, or what a trusted load balancer says it is. */
  readonly clientAddress: string;
  /** Bytes that came with the load balancer's header. */
  readonly early: Buffer;
}

/** Serves one connection. Never rejects; the socket is destroyed when it resolves. */
export type Driver = (parts: GatewayParts, connection: AcceptedConnection) => Promise<void>;

export type DriverTable = Readonly<Record<Protocol, Driver>>;
