/** An identity provider of a test's own: keys, a JWKS over https, tokens with whatever a test wants in them. */
import { createServer, type Server } from "node:https";
import { readFile } from "node:fs/promises";
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from "jose";
import { makeCertificate } from "./certificates.ts";

export interface Issuer {
  readonly url: string;
  readonly caFile: string;
  /** A token signed with the current key; `claims` override the good ones, undefined leaves one out. */
  token(claims?: Readonly<Record<string, unknown>>, header?: Readonly<Record<string, string>>): Promise<string>;
  /** New keys from now on; the old ones are no longer published. */
  rotate(): Promise<void>;
  requests(): number;
  stop(): Promise<void>;
}

export async function startIssuer(audience: string): Promise<Issuer> {
  const certificate = await makeCertificate("issuer");
  let keyId = 0;
  let privateKey: CryptoKey;
  let keySet = "";
  const rotate = async (): Promise<void> => {
    const pair = await generateKeyPair("ES256", { extractable: true });
    keyId += 1;
    privateKey = pair.privateKey;
    keySet = JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: `k${keyId}`, alg: "ES256", use: "sig" }] });
  };
  await rotate();
  let requests = 0;
  let url = "";
  const server: Server = createServer(
    { cert: await readFile(certificate.certFile), key: await readFile(certificate.keyFile) },
    (request, response) => {
      requests += 1;
      response.setHeader("content-type", "application/json");
      if (request.url === "/.well-known/openid-configuration")
        response.end(JSON.stringify({ issuer: url, jwks_uri: `${url}/keys` }));
      else if (request.url === "/keys") response.end(keySet);
      else {
        response.statusCode = 404;
        response.end("{}");
      }
    },
  );
  await new Promise<void>((resolve) => void server.listen({ host: "127.0.0.1", port: 0 }, () => resolve()));
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("the issuer has no port");
  url = `https://127.0.0.1:${bound.port}`;
  return {
    url,
    caFile: certificate.caFile,
    token: async (claims = {}, header = {}) => {
      const seconds = Math.floor(Date.now() / 1000);
      const all = { iss: url, aud: audience, sub: "grace", groups: ["agents"], iat: seconds, exp: seconds + 300, ...claims };
      const given = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
      return await new SignJWT(given).setProtectedHeader({ alg: "ES256", kid: `k${keyId}`, ...header }).sign(privateKey);
    },
    rotate,
    requests: () => requests,
    stop: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
      await certificate.remove();
    },
  };
}
