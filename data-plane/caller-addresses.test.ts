/** Which of the promised names a certificate lacks: callers who verify would meet them only at their first connection. */
import type { ListenerConfig } from "@sluice/core/config.ts";
import { makeTestAuthority } from "@sluice/rpc/testing.ts";
import { expect, it } from "vitest";
import { hostsNotCertified } from "./caller-addresses.ts";

const listener = (advertise: string | null): ListenerConfig => ({
  protocol: "postgres",
  listen: { host: "127.0.0.1", port: 0 },
  advertise,
  proxyProtocolFrom: [],
});

it("names what the configuration promises and the certificate does not carry", async () => {
  const authority = await makeTestAuthority();
  const { certificateChain } = await authority.issue({ role: "gateway", name: "g1", hosts: ["db.example.com", "10.0.0.7"] });
  const lacking = (hosts: readonly string[], advertise: string | null): readonly string[] =>
    hostsNotCertified({ listeners: [listener(advertise)], tls: { mode: "self-signed", hosts } }, certificateChain);

  expect(lacking(["db.example.com", "10.0.0.7"], "10.0.0.7:6432")).toEqual([]);
  expect(lacking(["db.example.com", "other.example.com"], "[::1]:6432")).toEqual(["other.example.com", "::1"]);
  // The address listened on is the machine's matter; with a certificate from files so are the names.
  expect(lacking([], null)).toEqual([]);
  expect(
    hostsNotCertified(
      { listeners: [listener("x.example.com:1")], tls: { mode: "files", certFile: "c", keyFile: "k" } },
      certificateChain,
    ),
  ).toEqual([]);
});
