/**
 * A catalog on its way from an agent: pieces of zstd-compressed JSON, collected within a bound. The same pieces as last time give
 * the same object again, so that a catalog that is polled and has not changed costs no parsing.
 */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";
import type { Catalog } from "@sluice/core/catalog.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Protocol } from "@sluice/core/snapshot.ts";

const decompress = promisify(zstdDecompress);

/** Resources and databases remembered by digest; the catalogs themselves are kept by who uses them. */
const REMEMBERED_MAX = 4_096;

export class CatalogDecoder {
  readonly #bytesMax: number;
  readonly #last = new Map<string, { readonly digest: string; readonly catalog: WeakRef<Catalog> }>();

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** `key` names what it is a catalog of. Throws `catalog_unavailable`. */
  async decode(key: string, pieces: readonly Uint8Array[], protocol: Protocol): Promise<Catalog> {
    const hash = createHash("sha256");
    for (const piece of pieces) hash.update(piece);
    const digest = hash.digest("base64");
    const last = this.#last.get(key);
    const same = last?.digest === digest ? last.catalog.deref() : undefined;
    if (same !== undefined) return same;
    const catalog = await this.#parse(pieces, protocol);
    this.#last.delete(key);
    this.#last.set(key, { digest, catalog: new WeakRef(catalog) });
    const [oldest] = this.#last.keys();
    if (this.#last.size > REMEMBERED_MAX && oldest !== undefined) this.#last.delete(oldest);
    return catalog;
  }

  async #parse(pieces: readonly Uint8Array[], protocol: Protocol): Promise<Catalog> {
    let value: unknown;
    try {
      const bytes = await decompress(Buffer.concat(pieces), { maxOutputLength: this.#bytesMax });
      value = JSON.parse(bytes.toString("utf8"));
    } catch (cause) {
      throw unreadable(cause);
    }
    if (!isCatalog(value, protocol)) throw unreadable();
    return value;
  }
}

/** The outline. What is inside comes from code of ours, over a connection whose other end has proved itself. */
function isCatalog(value: unknown, protocol: Protocol): value is Catalog {
  if (typeof value !== "object" || value === null) return false;
  const catalog: Readonly<Record<string, unknown>> = { ...value };
  const lists = ["relations", "functions", "builtinFunctions", "userOperators", "userTypes"];
  return (
    typeof catalog["epoch"] === "string" &&
    catalog["protocol"] === protocol &&
    typeof catalog["serverVersion"] === "number" &&
    lists.every((list) => Array.isArray(catalog[list]))
  );
}

function unreadable(cause?: unknown): GatewayError {
  return new GatewayError("catalog_unavailable", "The agent sent a structure of the database that cannot be read.", {
    cause,
    hint: "The agent may be of another version; ask the platform team to look at the gateway's log.",
  });
}
