/** Prints the schema for editors: `node manifest/print-schema.ts | biome format --stdin-file-path=x.json > docs/reference/manifest.schema.json`. */
import { editorSchema } from "./json-schema.ts";

process.stdout.write(`${JSON.stringify(editorSchema(), null, 2)}\n`);
