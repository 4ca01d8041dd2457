/**
 * From manifest files to a snapshot that gateways will take: parsed, conditions and patterns compiled, the development issuer
 * added. Pure. Every fault of every step is reported with its place; with any there is no snapshot.
 */
import { createHash } from "node:crypto";
import { toGatewayError } from "@sluice/core/errors.ts";
import type { IdentityProviderSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { compileDetector } from "@sluice/inspect/dlp/detect.ts";
import { compileSnapshot } from "@sluice/inspect/policy/compile.ts";
import { type ManifestSet, parseManifests } from "@sluice/manifest/manifests.ts";
import type { ManifestFile } from "../interface.ts";

export interface ManifestFault {
  readonly file: string;
  /** From 1; 0 when it has no place. */
  readonly line: number;
  readonly column?: number;
  readonly message: string;
}

export interface CheckedManifests {
  /** Undefined when there is any fault. */
  readonly snapshot: Snapshot | undefined;
  readonly faults: readonly ManifestFault[];
}

export function checkManifests(files: readonly ManifestFile[], development: IdentityProviderSpec | undefined): CheckedManifests {
  const set = parseManifests(files);
  const faults: ManifestFault[] = set.faults.map(({ file, line, column, message }) => ({
    file,
    line,
    ...(column === undefined ? {} : { column }),
    message,
  }));
  // Only a set that parses is worth compiling: its snapshot is empty otherwise.
  if (faults.length === 0) faults.push(...compileFaults(set), ...developmentFaults(set, development));
  if (faults.length > 0) return { snapshot: undefined, faults };
  return { snapshot: withDevelopmentIssuer(set.snapshot, development), faults };
}

/** One line a fault, as compilers write them. */
export function showFault(fault: ManifestFault): string {
  return `${fault.file}:${fault.line}: ${fault.message}`;
}

function compileFaults(set: ManifestSet): readonly ManifestFault[] {
  const faults: ManifestFault[] = [];
  const report = (kind: string, name: string, path: readonly (string | number)[], message: string): void => {
    const { file, line, column } = set.locate(kind, name, path) ?? { file: `${kind} ${name}`, line: 0, column: 0 };
    faults.push({ file, line, column, message });
  };
  for (const { kind, name, path, message } of compileSnapshot(set.snapshot).faults) report(kind, name, path, message);
  for (const classifier of set.snapshot.classifiers) {
    if (classifier.values === undefined) continue;
    try {
      compileDetector(classifier.entity, classifier.values);
    } catch (error) {
      const { message, hint } = toGatewayError(error);
      const field = classifier.values.kind === "builtin" ? "detector" : "pattern";
      report("Classifier", classifier.name, ["spec", "values", field], hint === undefined ? message : `${message} ${hint}`);
    }
  }
  return faults;
}

/** The development issuer's name and address are its own: a manifest must not stand in for it. */
function developmentFaults(set: ManifestSet, development: IdentityProviderSpec | undefined): readonly ManifestFault[] {
  if (development === undefined) return [];
  return set.snapshot.identityProviders
    .filter(({ name, issuer }) => name === development.name || issuer === development.issuer)
    .map((provider) => {
      const { file, line, column } = set.locate("IdentityProvider", provider.name, ["metadata", "name"]) ?? {
        file: "",
        line: 0,
        column: 0,
      };
      const message = `IdentityProvider '${provider.name}' collides with the built-in development issuer; rename it, or set controlPlane.developmentIssuer: false`;
      return { file, line, column, message };
    });
}

/** The version is a content hash: with other content it must be another one. */
function withDevelopmentIssuer(snapshot: Snapshot, development: IdentityProviderSpec | undefined): Snapshot {
  if (development === undefined) return snapshot;
  const digest = createHash("sha256").update(snapshot.version).update(JSON.stringify(development)).digest("hex");
  return { ...snapshot, version: digest.slice(0, 16), identityProviders: [...snapshot.identityProviders, development] };
}
