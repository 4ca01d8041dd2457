/** Kubernetes as a source: what is read, whose token is used, and what is said when there is no secret. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubernetesConfig } from "@sluice/core/config.ts";
import type { CredentialSpec, SecretRef } from "@sluice/core/snapshot.ts";
import { systemRandom } from "@sluice/core/system.ts";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { makeAuthority, makeServerCertificate, readAuthority } from "../../control-plane/ca/certificates.ts";
import { KubernetesApi } from "../../test/support/kubernetes-api.ts";
import { createTestSources, type TestSources } from "./testing-sources.ts";

const SECRET = "k8s-s3cret-7788";
const ROTATED = "k8s-rotated-9900";
const TOKEN = "eyJhbGciOi.first.1a2b3c";
const NEXT_TOKEN = "eyJhbGciOi.second.4d5e6f";
const encoded = [SECRET, ROTATED].map((text) => Buffer.from(text).toString("base64"));
const ref = (secret: string, key = "password", namespace: string | null = null): SecretRef => ({
  kind: "kubernetes",
  namespace,
  secret,
  key,
});
const spec = (password: SecretRef): CredentialSpec => ({ username: { kind: "value", value: "app" }, password });

let directory: string;
let pem: { readonly certificate: string; readonly privateKey: string };
let api: KubernetesApi;
let address: string;
const told: string[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-kubernetes-test-"));
  const authority = await makeAuthority(Date.now(), systemRandom);
  pem = await makeServerCertificate(await readAuthority(authority), ["127.0.0.1"], Date.now(), systemRandom);
  await writeFile(join(directory, "ca.crt"), authority.certificate);
});
afterAll(() => rm(directory, { recursive: true, force: true }));
beforeEach(async () => {
  api = new KubernetesApi(pem);
  address = await api.listen();
  api.tokens.add(TOKEN);
  api.readable.add("shop");
  api.secrets.set("shop/orders", { username: "ada", password: `${SECRET}\n`, binary: Uint8Array.of(0xff, 0xfe), empty: "" });
  api.secrets.set("shop/none", {});
  await writeFile(join(directory, "token"), TOKEN);
  await writeFile(join(directory, "namespace"), "shop\n");
});
afterEach(() => api.close());

/** Nothing that was said, by errors, their causes or the log, holds a secret. */
afterEach(() => {
  for (const secret of [SECRET, ROTATED, TOKEN, NEXT_TOKEN, ...encoded]) expect(told.join("\n")).not.toContain(secret);
});

function open(config: Partial<KubernetesConfig> = {}, pattern = "*/*"): TestSources {
  const kubernetes = {
    address,
    caFile: join(directory, "ca.crt"),
    tokenFile: join(directory, "token"),
    namespace: "",
    ...config,
  };
  return createTestSources({ secrets: [{ source: { kind: "kubernetes", secret: pattern }, targets: ["*"] }], kubernetes }, told);
}

describe("Kubernetes secrets", () => {
  test("a storm of logins, with both parts, is one request; a rotation is seen after a short while", async () => {
    const { resolve, advance, sources } = open();
    const both = { username: ref("orders", "username"), password: ref("orders") };
    const all = await Promise.all(Array.from({ length: 20 }, () => resolve(both)));
    expect(all).toEqual(Array.from({ length: 20 }, () => ({ user: "ada", password: SECRET })));
    expect(api.requests).toEqual(["GET /api/v1/namespaces/shop/secrets/orders"]);
    api.secrets.set("shop/orders", { username: "ada", password: ROTATED });
    expect(await resolve(both)).toEqual({ user: "ada", password: SECRET });
    advance(1_000);
    sources.invalidate(both);
    expect(await resolve(both)).toEqual({ user: "ada", password: ROTATED });
    api.secrets.set("shop/orders", { username: "ada", password: SECRET });
    advance(5_000);
    expect(await resolve(both)).toEqual({ user: "ada", password: SECRET });
    expect(api.requests.length).toBe(3);
  });

  test("the token is read at each request", async () => {
    const { resolve, advance } = open();
    await resolve(spec(ref("orders")));
    api.tokens.clear();
    api.tokens.add(NEXT_TOKEN);
    await writeFile(join(directory, "token"), `${NEXT_TOKEN}\n`);
    advance(5_000);
    expect(await resolve(spec(ref("orders")))).toMatchObject({ password: SECRET });
  });

  test("of another namespace, where the configuration says so or the credential does", async () => {
    api.readable.add("other");
    api.secrets.set("other/orders", { password: ROTATED });
    expect(await open().resolve(spec(ref("orders", "password", "other")))).toMatchObject({ password: ROTATED });
    expect(await open({ namespace: "other" }).resolve(spec(ref("orders")))).toMatchObject({ password: ROTATED });
  });

  test.each([
    ["no such key", ref("orders", "pass"), "Kubernetes secret orders (key pass) is missing or empty"],
    ["no own key of an object", ref("orders", "constructor"), "is missing or empty"],
    ["no key at all", ref("none"), "is missing or empty"],
    ["an empty one", ref("orders", "empty"), "is missing or empty"],
    ["bytes that are no text", ref("orders", "binary"), "holds is not text"],
    ["no such secret", ref("absent"), "There is no Kubernetes secret shop/absent"],
    ["another namespace", ref("orders", "password", "kube-system"), "does not let the agent read the secret kube-system/orders"],
    ["a name upwards", ref(".."), "names a Kubernetes secret that cannot exist"],
    ["a namespace upwards", ref("orders", "password", ".."), "names a Kubernetes secret that cannot exist"],
    ["a name that is a path", ref("../../../pods"), "names a Kubernetes secret that cannot exist"],
  ])("%s", async (_name, wanted, text) => {
    expect(await open().failure(spec(wanted))).toContain(text);
  });

  test("a token that is not accepted, none at all, no namespace", async () => {
    const { failure } = open();
    api.tokens.clear();
    expect(await failure(spec(ref("orders")))).toContain("does not accept the agent's token");
    await rm(join(directory, "token"));
    expect(await failure(spec(ref("orders")))).toContain(`cannot read its token for the Kubernetes API from ${directory}`);
    await rm(join(directory, "namespace"));
    expect(await failure(spec(ref("orders")))).toContain("cannot read its namespace for the Kubernetes API");
  });

  test("nobody there, and nowhere to look", async () => {
    await api.close();
    expect(await open().failure(spec(ref("orders")))).toContain("cannot reach its Kubernetes API");
    await api.listen(); // so that the end of the test finds something to close
    const { failure } = createTestSources({ secrets: [{ source: { kind: "kubernetes", secret: "*/*" }, targets: ["*"] }] }, told);
    expect(await failure(spec(ref("orders", "password", "shop")))).toContain("has no server for its Kubernetes secret");
  });

  test("whatever it answers, no word of it is told", async () => {
    const { failure, advance } = open();
    const [base64 = ""] = encoded;
    const bodies = fc.constantFrom<unknown>(
      SECRET,
      [SECRET],
      { kind: SECRET },
      { kind: "Secret", data: SECRET },
      { kind: "Secret", data: { password: SECRET } },
      { kind: "Secret", data: { password: [base64] } },
      { kind: "Secret", data: { [base64]: base64 } },
      { kind: "Secret", data: { password: Buffer.from(`${SECRET}\0`).toString("base64") } },
      { kind: "Status", message: SECRET },
    );
    await fc.assert(
      fc.asyncProperty(bodies, fc.constantFrom(200, 302, 401, 403, 404, 429, 500), async (body, status) => {
        api.override = { status, text: JSON.stringify(body) };
        advance(60_000);
        await failure(spec(ref("orders")));
      }),
      { numRuns: 80 },
    );
  });
});

describe("what is bound", () => {
  test.each([
    ["orders", ref("orders"), true],
    ["shop/orders", ref("orders"), true],
    ["orders", ref("orders", "password", "shop"), true],
    ["ord*", ref("orders"), true],
    ["orders", ref("orders", "password", "other"), false],
    ["*", ref("orders", "password", "other"), false],
    ["other/*", ref("orders"), false],
    ["order", ref("orders"), false],
  ])("%s", async (pattern, wanted, isBound) => {
    const made = open({}, pattern);
    api.readable.add("other");
    if (isBound) expect(await made.resolve(spec(wanted))).toMatchObject({ password: SECRET });
    else {
      expect(await made.failure(spec(wanted))).toContain("is not bound to this resource's target");
      expect(api.requests).toEqual([]);
    }
  });
});
