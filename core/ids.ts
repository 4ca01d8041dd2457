/**
 * Branded identifiers. An id of one thing cannot be passed where an id of another is wanted.
 * Ids are opaque, url-safe and carry no data about a person or a target.
 */
import type { Random } from "./random.ts";

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

export type SessionId = Branded<"SessionId">;
export type DecisionId = Branded<"DecisionId">;
export type GatewayId = Branded<"GatewayId">;
/** A content hash of a catalog: two equal epochs mean equal catalogs. */
export type CatalogEpoch = Branded<"CatalogEpoch">;

/** 128 bits are enough that two ids never meet; base64url without padding gives 22 characters. */
const ID_BYTES = 16;

export function newSessionId(random: Random): SessionId {
  return `s_${encodeId(random)}` as SessionId; // minted here and nowhere else
}

export function newDecisionId(random: Random): DecisionId {
  return `d_${encodeId(random)}` as DecisionId; // minted here and nowhere else
}

export function newGatewayId(random: Random): GatewayId {
  return `g_${encodeId(random)}` as GatewayId; // minted here and nowhere else
}

/** Takes an id a person or file gave; undefined when it is not shaped like a session id (so it is safe in file names). */
export function parseSessionId(text: string): SessionId | undefined {
  return /^s_[A-Za-z0-9_-]{22}$/.test(text) ? (text as SessionId) : undefined; // shape checked beside it
}

function encodeId(random: Random): string {
  return Buffer.from(random.bytes(ID_BYTES)).toString("base64url");
}
