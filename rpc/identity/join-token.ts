/**
 * What a process enrols with: `sluice-join.v1.` and base64url of JSON {id, secret, authority}. The authority's fingerprint lets it
 * know the control plane before it says the secret. Must never appear in an error or a log.
 */
import { readFile } from "node:fs/promises";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { JoinSource } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { StrangerTrust } from "../grpc/connector.ts";
import { splitPem } from "./node-certificate.ts";

const PREFIX = "sluice-join.v1.";

export interface JoinToken {
  readonly id: string;
  readonly secret: string;
  /** Hex SHA-256 of the certificate of the authority that the control plane's own must chain to. */
  readonly authority: string;
}

export function encodeJoinToken(token: JoinToken): string {
  const { id, secret, authority } = token;
  return `${PREFIX}${Buffer.from(JSON.stringify({ id, secret, authority })).toString("base64url")}`;
}

/** Null when it is not one; the text itself must not be shown. */
export function parseJoinToken(text: string): JoinToken | null {
  if (!text.startsWith(PREFIX)) return null;
  try {
    const value: unknown = JSON.parse(Buffer.from(text.slice(PREFIX.length), "base64url").toString("utf8"));
    if (typeof value !== "object" || value === null) return null;
    const { id, secret, authority } = value as Readonly<Record<string, unknown>>; // an object, each field looked at below
    if (typeof id !== "string" || typeof secret !== "string" || typeof authority !== "string") return null;
    return id !== "" && secret !== "" && /^[0-9a-f]{64}$/.test(authority) ? { id, secret, authority } : null;
  } catch {
    return null;
  }
}

/** What is sent, and whom it may be sent to. */
export interface JoinCredential {
  readonly kind: "joinToken" | "workloadToken";
  readonly token: string;
  readonly trust: StrangerTrust;
}

/** Read afresh for each enrolment: platforms replace their tokens. Throws `config_invalid`. */
export async function readJoinCredential(
  join: JoinSource,
  readEnvironment: (name: string) => string | undefined,
): Promise<JoinCredential> {
  switch (join.kind) {
    case "tokenFile":
      return joinTokenOf((await read(join.path, "join token")).trim(), `The file ${join.path}`);
    case "tokenEnv": {
      const text = readEnvironment(join.name)?.trim();
      if (text === undefined || text === "") {
        throw new GatewayError("config_invalid", `The variable ${join.name} for the join token is not set.`, {
          hint: howToGetOne,
        });
      }
      return joinTokenOf(text, `The variable ${join.name}`);
    }
    case "workload": {
      const [token, pem] = await Promise.all([read(join.path, "workload token"), read(join.caFile, "control plane's authority")]);
      if (splitPem(pem).length === 0) {
        throw new GatewayError("config_invalid", `The file ${join.caFile} holds no certificate in PEM.`, {
          hint: "node.join.caFile must hold the installation's authority: `sluice ca list` names it, ca.pem holds it.",
        });
      }
      return { kind: "workloadToken", token: token.trim(), trust: { kind: "authorities", pem } };
    }
    default:
      return assertNever(join);
  }
}

const howToGetOne = "Make one with `sluice nodes join-token create` and put it there; it is needed for the first start only.";

function joinTokenOf(text: string, where: string): JoinCredential {
  const parsed = parseJoinToken(text);
  if (parsed === null) {
    throw new GatewayError("config_invalid", `${where} does not hold a join token: one begins with ${PREFIX}`, {
      hint: howToGetOne,
    });
  }
  return { kind: "joinToken", token: text, trust: { kind: "fingerprint", fingerprint: parsed.authority } };
}

async function read(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new GatewayError("config_invalid", `The file ${path} for the ${what} cannot be read.`, { hint: howToGetOne, cause });
  }
}
