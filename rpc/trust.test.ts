/** Trust crosses as it is or not at all; certificates are judged by authority, time and revocation. */
import { create } from "@bufbuild/protobuf";
import { Role, TrustBundleSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { expect, it } from "vitest";
import { fixedIdentity } from "./identity/live-identity.ts";
import { verifyNode } from "./identity/verify.ts";
import type { NodeRole } from "./nodes.ts";
import { makeTestAuthority, testIdentity } from "./testing.ts";
import { roleFromProto, roleToProto, trustFromProto, trustToProto } from "./trust.ts";

it("crosses whole", async () => {
  const [first, second] = [await makeTestAuthority("First"), await makeTestAuthority("Second")];
  const bundle = { authorities: [second.certificate, first.certificate], revokedSerials: new Set(["ab", "0c"]) };
  expect(trustFromProto(trustToProto(bundle))).toEqual(bundle);
  const roles: NodeRole[] = ["control-plane", "gateway", "agent", "recorder"];
  expect(roles.map((role) => roleFromProto(roleToProto(role)))).toEqual(roles);
  expect([Role.UNSPECIFIED, 99 as Role].map(roleFromProto)).toEqual([undefined, undefined]); // 99: of a newer node
});

it("refuses trust in nobody, in nonsense, in a node", async () => {
  const authority = await makeTestAuthority();
  const node = await authority.signKey(
    { role: "agent", name: "a" },
    (await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"])).publicKey,
  );
  for (const authorities of [[], [new Uint8Array([1, 2, 3])], [node]]) {
    expect(() => trustFromProto(create(TrustBundleSchema, { authorities }))).toThrow(
      expect.objectContaining({ code: "protocol_violation" }),
    );
  }
});

it("judges a node's certificate by authority, time and revocation", async () => {
  const [authority, other] = [await makeTestAuthority(), await makeTestAuthority()];
  const identity = await testIdentity("gateway", "g", {}, authority);
  const { certificateChain } = await authority.issue({ role: "agent", name: "a", labels: { zone: "x" } });
  const verdictOf = (chain: string, nowMs = Date.now()): string => {
    const verdict = verifyNode(Buffer.from(chain), identity, nowMs);
    return verdict.kind === "node" ? `${verdict.node.role} ${verdict.node.name}` : verdict.reason;
  };
  expect(verdictOf(certificateChain)).toBe("agent a");
  expect(verdictOf((await other.issue({ role: "agent", name: "a" })).certificateChain)).toBe("untrusted");
  expect(verdictOf(authority.certificate)).toBe("not_a_node");
  expect(verdictOf(certificateChain, Date.now() + 25 * 3_600_000)).toBe("expired");
  const early = await authority.issue({ role: "agent", name: "a", notBeforeMs: Date.now() + 60_000 });
  expect(verdictOf(early.certificateChain)).toBe("not_yet_valid");
  const { serial } = fixedIdentity({ ...identity.material, certificateChain }).self;
  identity.trust(authority.trust([serial.toUpperCase()]));
  expect(verdictOf(certificateChain)).toBe("revoked");
});
