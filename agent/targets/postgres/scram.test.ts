/** SCRAM against the RFC's vector and against servers that lie; password preparation against RFC 4013's examples. */
import { pbkdf2Sync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { ScramKeyCache } from "./scram-keys.ts";
import { saslPrepare } from "./saslprep.ts";
import { ScramClient, scramKeysOf } from "./scram.ts";

const ITERATIONS_MAX = 10_000;
/** RFC 7677, section 3. */
const vector = {
  nonce: "rOprNGfwEbeRWgbNEkqO",
  serverFirst: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
  clientFinal: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
  serverFinal: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

function client(nonce: string = vector.nonce): ScramClient {
  return new ScramClient(nonce, { kind: "impossible" }, ITERATIONS_MAX, "user");
}

describe("ScramClient", () => {
  test("the RFC's exchange", () => {
    const scram = client();
    expect(scram.clientFirst()).toBe("n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    const challenge = scram.readServerFirst(vector.serverFirst);
    expect(challenge).toEqual({ salt: Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64"), iterations: 4096 });
    const keys = scramKeysOf(pbkdf2Sync("pencil", challenge.salt, challenge.iterations, 32, "sha256"));
    expect(scram.verifyServerFinal(vector.serverFinal)).toBe(false); // before our own proof there is nothing to check
    expect(scram.clientFinal(keys)).toBe(vector.clientFinal);
    expect(scram.verifyServerFinal(vector.serverFinal)).toBe(true);
    expect(scram.verifyServerFinal(`${vector.serverFinal},x=y`)).toBe(true);
    for (const lie of ["v=", "v=AAAA", "e=invalid-proof", "", vector.serverFinal.replace("6rri", "6rrj")]) {
      expect(scram.verifyServerFinal(lie)).toBe(false);
    }
  });

  test("says in its first message what channel binding it has, and binds it in its last", () => {
    const endPointHash = Buffer.alloc(32, 7);
    const bound = new ScramClient("abc", { kind: "bound", endPointHash }, ITERATIONS_MAX);
    expect(bound.clientFirst()).toBe("p=tls-server-end-point,,n=,r=abc");
    const { salt, iterations } = bound.readServerFirst("r=abcdef,s=AAAA,i=1");
    const final = bound.clientFinal(scramKeysOf(pbkdf2Sync("p", salt, iterations, 32, "sha256")));
    const binding = Buffer.concat([Buffer.from("p=tls-server-end-point,,"), endPointHash]).toString("base64");
    expect(final.startsWith(`c=${binding},r=abcdef,p=`)).toBe(true);
    expect(new ScramClient("abc", { kind: "unoffered" }, ITERATIONS_MAX).clientFirst()).toBe("y,,n=,r=abc");
  });

  test.each([
    ["another nonce", "r=xyz,s=AAAA,i=4096"],
    ["only our nonce", "r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096"],
    ["no salt", "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096"],
    ["no iterations", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=0"],
    ["too many iterations", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=10001"],
    ["a number that is none", "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4e3"],
    ["a mandatory extension", "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096"],
    ["nothing", ""],
  ])("refuses a first message with %s", (_, text) => {
    expect(() => client().readServerFirst(text)).toThrow(expect.objectContaining({ code: "target_protocol" }));
  });
});

describe("ScramKeyCache", () => {
  const random = { bytes: (count: number) => new Uint8Array(count).fill(1) };
  const challenge = { salt: Buffer.from("salt"), iterations: 5 };

  test("derives once for the same password and challenge, anew for any other", async () => {
    const cache = new ScramKeyCache(random, 10);
    const [first, second] = await Promise.all([cache.keysFor("p", challenge), cache.keysFor("p", challenge)]);
    expect(second).toBe(first);
    expect(first).toEqual(scramKeysOf(pbkdf2Sync("p", "salt", 5, 32, "sha256")));
    for (const other of [
      await cache.keysFor("q", challenge),
      await cache.keysFor("p", { ...challenge, iterations: 6 }),
      await cache.keysFor("p", { ...challenge, salt: Buffer.from("pepper") }),
    ]) {
      expect(other).not.toEqual(first);
    }
  });

  test("forgets the one that was not used for the longest time", async () => {
    const cache = new ScramKeyCache(random, 2);
    const a = await cache.keysFor("a", challenge);
    const b = await cache.keysFor("b", challenge);
    expect(await cache.keysFor("a", challenge)).toBe(a);
    await cache.keysFor("c", challenge);
    expect(await cache.keysFor("a", challenge)).toBe(a);
    expect(await cache.keysFor("b", challenge)).not.toBe(b);
  });
});

describe("saslPrepare", () => {
  test.each([
    ["ASCII stays, controls too", "pen\u0007cil ", "pen\u0007cil "],
    ["RFC 4013: soft hyphen goes", "I\u00adX", "IX"],
    ["RFC 4013: case stays", "USER\u00ad", "USER"],
    ["RFC 4013: NFKC of a", "\u00aa", "a"],
    ["RFC 4013: NFKC of IX", "\u2168", "IX"],
    ["a wide space becomes a space", "a\u3000b", "a b"],
    ["composition", "u\u0308", "\u00fc"],
    ["RFC 4013: a prohibited character leaves it as it is", "\u00aa\u0007", "\u00aa\u0007"],
    ["RFC 4013: mixed directions leave it as it is", "\u0627\u0031\u00aa", "\u0627\u0031\u00aa"],
    ["right to left throughout", "\u0627\ufb50\u0628", "\u0627\u0671\u0628"],
    ["nothing left leaves it as it is", "\u00ad", "\u00ad"],
    ["emoji", "p\u{1f600}", "p\u{1f600}"],
  ])("%s", (_, password, prepared) => {
    expect(saslPrepare(password)).toBe(prepared);
  });
});
