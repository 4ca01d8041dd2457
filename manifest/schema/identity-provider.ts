/** JSON Schema of kind IdentityProvider: whose tokens are accepted. */
import { absolutePath, manifestOf, plainText, type Schema, texts } from "./words.ts";

/** Asymmetric only (RFC 7518, RFC 8037): with HMAC or `none` whoever can verify a token could make one. */
export const tokenAlgorithms = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
] as const;
export const defaultTokenAlgorithms: readonly string[] = ["RS256", "ES256", "PS256", "EdDSA"];

const url: Schema = {
  type: "string",
  maxLength: 1_024,
  pattern: "^https?://[^\\s\\u0000-\\u001f]+$",
  "x-says": "a URL such as https://login.example.com",
  "x-check": "keyUrl",
};

export const identityProviderSchema: Schema = manifestOf(
  "IdentityProvider",
  {
    type: "object",
    properties: {
      issuer: { ...url, description: "Exactly as the `iss` claim has it." },
      audiences: texts,
      algorithms: {
        type: "array",
        items: {
          enum: tokenAlgorithms,
          "x-says": `a signature algorithm with a public key (${tokenAlgorithms.join(", ")}); none and HMAC are never accepted`,
        },
        minItems: 1,
        uniqueItems: true,
        default: defaultTokenAlgorithms,
      },
      jwksUri: { ...url, description: "Discovered from the issuer when absent." },
      caFile: absolutePath,
      groupsClaim: { ...plainText, default: "groups" },
    },
    required: ["issuer", "audiences"],
    additionalProperties: false,
  },
  "An OpenID Connect issuer whose tokens are accepted.",
);
