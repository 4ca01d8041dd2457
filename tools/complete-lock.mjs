/**
 * Completes package-lock.json with the optional packages of other platforms. Some registries serve only what the asking machine
 * can install; npm then leaves the rest out of the lock file, and `npm ci` refuses it everywhere. Run after changing dependencies:
 * `node tools/complete-lock.mjs`. It changes nothing but the missing entries, whose version is the one their owner pins. With `--check`
 * it changes nothing at all and fails when an entry is missing: `npm test` asks so.
 */
import { readFileSync, writeFileSync } from "node:fs";

const file = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(file, "utf8"));
let added = 0;

for (const [path, owner] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(owner.optionalDependencies ?? {})) {
    if (isThere(path, name) || !/^\d+\.\d+\.\d+/.test(version)) continue;
    const platform = platformOf(name);
    if (platform === undefined) continue;
    lock.packages[`node_modules/${name}`] = { version, ...platform, ...(owner.dev ? { dev: true } : {}), optional: true };
    added += 1;
  }
}
if (!process.argv.includes("--check")) {
  lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);
  console.log(`${added} entries added`);
} else if (added > 0) {
  console.error(
    `package-lock.json lacks ${added} packages of other platforms, so npm ci refuses it: run node tools/complete-lock.mjs`,
  );
  process.exitCode = 1;
}

/** Found from the owner's folder upwards, as Node resolves. */
function isThere(path, name) {
  for (let from = path; ; from = from.slice(0, Math.max(0, from.lastIndexOf("/node_modules/")))) {
    if (lock.packages[`${from === "" ? "" : `${from}/`}node_modules/${name}`] !== undefined) return true;
    if (from === "") return false;
  }
}

/** From the platform in the package's name; undefined when it names none. */
function platformOf(name) {
  const words = name.split(/[/-]/);
  const os = ["android", "darwin", "freebsd", "linux", "openharmony", "win32", "aix", "netbsd", "openbsd", "sunos"].find((one) =>
    words.includes(one),
  );
  const named = ["arm64", "aarch64", "x64", "ia32", "arm", "armv7", "ppc64", "riscv64", "s390x", "loong64", "mips64el"].find(
    (one) => words.includes(one),
  );
  // npm knows these two by other names.
  const cpu = named === "aarch64" ? "arm64" : named === "armv7" ? "arm" : named;
  if (words.includes("wasm32")) return { cpu: ["wasm32"] };
  if (os === undefined || cpu === undefined) return undefined;
  const musl = words.some((word) => word.startsWith("musl"));
  const gnu = words.some((word) => word.startsWith("gnu"));
  return { cpu: [cpu], os: [os], ...(os === "linux" && (musl || gnu) ? { libc: [musl ? "musl" : "glibc"] } : {}) };
}
