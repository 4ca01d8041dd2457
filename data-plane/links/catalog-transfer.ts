/**
 * What an agent sent as a catalog, made a catalog or refused: unpacked within bounds, parsed, its shape checked. Takes as long as the
 * catalog is big, so it runs in the thread that keeps catalogs and nowhere else.
 */
import type { Catalog } from "@sluice/core/catalog.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Protocol } from "@sluice/core/snapshot.ts";
import { decompressCatalog } from "@sluice/rpc/encoded-catalog.ts";
import { isCatalog, isOfBoundedSize } from "./catalog-shape.ts";

export interface CatalogBounds {
  readonly bytesMax: number;
  readonly rowsMax: number;
}

/** Throws `catalog_unavailable`. */
export function decodeCatalog(bytes: Uint8Array, protocol: Protocol, { bytesMax, rowsMax }: CatalogBounds): Catalog {
  let value: unknown;
  try {
    const json = decompressCatalog(bytes, bytesMax);
    if (!isOfBoundedSize(json, rowsMax)) throw new Error("it holds more values than any catalog");
    value = JSON.parse(json.toString("utf8"));
  } catch (cause) {
    throw unreadable(cause);
  }
  if (!isCatalog(value, protocol, rowsMax)) throw unreadable();
  return value;
}

function unreadable(cause?: unknown): GatewayError {
  return new GatewayError("catalog_unavailable", "The agent sent a structure of the database that cannot be read.", {
    cause,
    hint: "The agent may be of another version; ask the platform team to look at the gateway's log.",
  });
}
