/** A process that makes a big catalog, writes its bytes to standard output and ends: its memory is not the gateway's. */
import { encodeCatalog } from "@sluice/rpc/encoded-catalog.ts";
import { bigCatalog, makeBigCatalog } from "../test/support/big-catalog.ts";

const { bytes } = await encodeCatalog(makeBigCatalog(bigCatalog));
process.stdout.write(bytes);
