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
import { isCatalog, isOfBoundedSize } from "./catalog-shape.ts";

const decompress = promisify(zstdDecompress);

/** Resources and databases remembered by digest; the catalogs themselves are kept by who uses them. */
const REMEMBERED_MAX = 4_096;

export class CatalogDecoder {
  readonly #bytesMax: number;
  readonly #rowsMax: number;
  /** One after the other: each may take the memory of a whole catalog, and as many may be on their way as there are databases. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #last = new Map<string, { readonly digest: string; readonly catalog: WeakRef<Catalog> }>();

  constructor(bytesMax: number, rowsMax: number) {
    this.#bytesMax = bytesMax;
    this.#rowsMax = rowsMax;
  }

  /** `key` names what it is a catalog of. Throws `catalog_unavailable`. */
  async decode(key: string, pieces: readonly Uint8Array[], protocol: Protocol): Promise<Catalog> {
    const hash = createHash("sha256");
    for (const piece of pieces) hash.update(piece);
    const digest = hash.digest("base64");
    const last = this.#last.get(key);
    const same = last?.digest === digest ? last.catalog.deref() : undefined;
    if (same !== undefined) return same;
    const parsing = this.#turn.then(() => this.#parse(pieces, protocol));
    this.#turn = parsing.catch(() => undefined); // who asked is told
    const catalog = await parsing;
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
      if (!isOfBoundedSize(bytes, this.#rowsMax)) throw new Error("it holds more values than any catalog");
      value = JSON.parse(bytes.toString("utf8"));
    } catch (cause) {
      throw unreadable(cause);
    }
    if (!isCatalog(value, protocol, this.#rowsMax)) throw unreadable();
    return value;
  }
}

function unreadable(cause?: unknown): GatewayError {
  return new GatewayError("catalog_unavailable", "The agent sent a structure of the database that cannot be read.", {
    cause,
    hint: "The agent may be of another version; ask the platform team to look at the gateway's log.",
  });
}
