/** What is written of a node is read back as it was; anything that is not exactly a node's is none. */
import "reflect-metadata";
import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { Pkcs10CertificateRequest } from "@peculiar/x509";
import fc from "fast-check";
import { expect, it } from "vitest";
import { serverNameOf } from "../nodes.ts";
import { makeTestAuthority } from "../testing.ts";
import { canonicalSerial, makeKeyAndRequest, nodeUri, parseNodeUri, readNodeCertificate, splitPem } from "./node-certificate.ts";

const labels = { region: "eu-1", "team/owner": "pay, ments & \"more\"='x'*(1)!", "": "", ключ: "знач%20" };

it("writes what it reads", () => {
  expect(nodeUri("agent", "agent-1", { b: "2", a: "1 %&=" })).toBe("sluice://agent/agent-1?a=1%20%25%26%3D&b=2");
  expect(nodeUri("gateway", "g", {})).toBe("sluice://gateway/g");
  expect(parseNodeUri(nodeUri("agent", "a", labels))).toEqual({ role: "agent", name: "a", labels });
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme" })), (some) => {
      expect(parseNodeUri(nodeUri("recorder", "r", some))?.labels).toEqual({ ...some });
    }),
  );
  expect(() => nodeUri("agent", "Agent_1", {})).toThrow("DNS label");
});

it("takes no second spelling", () => {
  for (const uri of [
    "",
    "https://agent/a",
    "sluice://admin/a",
    "sluice://agent/A",
    "sluice://agent/-a",
    "sluice://agent/a-",
    `sluice://agent/${"a".repeat(64)}`,
    "sluice://agent/a?",
    "sluice://agent/a/b",
    "sluice://agent/a#f",
    "sluice://agent/a?b=2&a=1",
    "sluice://agent/a?a=1&a=2",
    "sluice://agent/a?a",
    "sluice://agent/a?a=1=2",
    "sluice://agent/a?a=%zz",
    "sluice://agent/a?a=%2d",
    "sluice://agent/a?a=x y",
    " sluice://agent/a",
    "sluice://agent/a\n",
  ]) {
    expect(parseNodeUri(uri), uri).toBeNull();
  }
  expect(parseNodeUri(null)).toBeNull();
});

it("reads a certificate in PEM and DER", async () => {
  const authority = await makeTestAuthority();
  const notBeforeMs = Date.UTC(2030, 0, 1);
  const notAfterMs = Date.UTC(2030, 0, 2);
  const { certificateChain } = await authority.issue({ role: "agent", name: "a1", labels, notBeforeMs, notAfterMs });
  const { raw, serialNumber } = new X509Certificate(certificateChain);
  const expected = {
    role: "agent",
    name: "a1",
    labels,
    serial: serialNumber.toLowerCase(),
    notBeforeMs,
    notAfterMs,
  };
  expect(readNodeCertificate(certificateChain)).toEqual(expected);
  expect(readNodeCertificate(new Uint8Array(raw))).toEqual(expected);
  expect(readNodeCertificate(certificateChain + authority.certificate)).toEqual(expected);
  expect(new X509Certificate(raw).checkHost(serverNameOf("agent", "a1"))).toBe("a1.agent.sluice.internal");
});

it("takes neither an authority's certificate nor a stranger's, nor nonsense", async () => {
  const authority = await makeTestAuthority();
  expect(readNodeCertificate(authority.certificate)).toBeNull();
  expect(readNodeCertificate("nonsense")).toBeNull();
  expect(readNodeCertificate(new Uint8Array([48, 1]))).toBeNull();
});

it("makes a key that is not the last one's, and a request that it signed", async () => {
  const [first, second] = [await makeKeyAndRequest(), await makeKeyAndRequest()];
  const request = new Pkcs10CertificateRequest(Buffer.from(first.certificateRequestDer));
  expect(await request.verify()).toBe(true);
  const publicKey = createPublicKey(createPrivateKey(first.privateKeyPem)).export({ type: "spki", format: "der" });
  expect(Buffer.from(request.publicKey.rawData)).toEqual(publicKey);
  expect(second.privateKeyPem).not.toBe(first.privateKeyPem);
});

it("compares serial numbers in one spelling", () => {
  expect(["00AB", "ab", "0AB", "000ab"].map(canonicalSerial)).toEqual(["ab", "ab", "ab", "ab"]);
  expect(["0", "00", "1", "ABC"].map(canonicalSerial)).toEqual(["00", "00", "01", "0abc"]);
});

it("parts a bundle into its certificates", async () => {
  const [a, b] = [await makeTestAuthority(), await makeTestAuthority()];
  expect(splitPem(`# first\n${a.certificate}\n# second\n${b.certificate}`)).toEqual([a.certificate, b.certificate]);
  expect(splitPem("")).toEqual([]);
});
