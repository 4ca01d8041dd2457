/** A Kubernetes API for tests that gives out secrets: bearer tokens, permissions, and refusals as `Status` objects. */
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";

export class KubernetesApi {
  readonly requests: string[] = [];
  /** By `NAMESPACE/NAME`; values as they are, before base64. */
  readonly secrets: Map<string, Readonly<Record<string, string | Uint8Array>>> = new Map();
  /** Tokens that are accepted. */
  readonly tokens: Set<string> = new Set();
  /** Namespaces whose secrets may be read. */
  readonly readable: Set<string> = new Set();
  override: { readonly status: number; readonly text: string } | undefined;
  readonly #server: Server;

  constructor(options: { readonly certificate: string; readonly privateKey: string }) {
    this.#server = createServer({ cert: options.certificate, key: options.privateKey }, (request, response) => {
      this.requests.push(`${request.method ?? ""} ${request.url ?? ""}`);
      const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
      const [status, body] =
        this.override === undefined
          ? this.#answer(request.url ?? "", token)
          : ([this.override.status, this.override.text] as const);
      const text = typeof body === "string" ? body : JSON.stringify(body);
      response.writeHead(status, { "content-type": "application/json" }).end(text);
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`; // of TCP
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(url: string, token: string): readonly [status: number, body: unknown] {
    if (!this.tokens.has(token)) return refusal(401, "Unauthorized", "Unauthorized");
    const [, namespace = "", name = ""] = /^\/api\/v1\/namespaces\/([^/]+)\/secrets\/([^/]+)$/.exec(url) ?? [];
    if (namespace === "") return refusal(404, "NotFound", "the server could not find the requested resource");
    if (!this.readable.has(namespace)) {
      const account = "system:serviceaccount:sluice:agent";
      return refusal(403, "Forbidden", `secrets "${name}" is forbidden: User "${account}" cannot get resource "secrets"`);
    }
    const data = this.secrets.get(`${namespace}/${name}`);
    if (data === undefined) return refusal(404, "NotFound", `secrets "${name}" not found`);
    const encoded = Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")] as const);
    return [
      200,
      {
        kind: "Secret",
        apiVersion: "v1",
        metadata: { name, namespace },
        ...(encoded.length === 0 ? {} : { data: Object.fromEntries(encoded) }),
        type: "Opaque",
      },
    ];
  }
}

function refusal(code: number, reason: string, message: string): readonly [status: number, body: unknown] {
  return [code, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code }];
}
