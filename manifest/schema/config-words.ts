/** Pieces that several sections of a configuration share, as JSON Schema data. */
import { plainText, type Schema } from "./words.ts";

/** Relative to the configuration file. */
export const file: Schema = { ...plainText, description: "Relative to this file." };

export const listenAddress: Schema = {
  ...plainText,
  "x-check": "listenAddress",
  description: "host:port; port 0 is any free one.",
};

/** Told to others in place of what was listened on. */
export const advertisedAddress: Schema = { ...plainText, "x-check": "reachableAddress", description: "host:port." };

/** Of certificates: names and addresses without ports. */
export const hosts: Schema = {
  type: "array",
  items: {
    type: "string",
    maxLength: 253,
    pattern: "^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*)$",
    "x-says": "a host name or IP address without a port, such as gateway.example.com or 10.0.0.7",
  },
  uniqueItems: true,
  maxItems: 100,
};

/** Written into URLs segment by segment: nothing in it may mean something else there. */
export const vaultMount: Schema = {
  type: "string",
  maxLength: 256,
  pattern: "^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$",
  "x-says": "the path where an engine or a method is mounted, such as secret or team/kv, without '/' at its ends",
};
