/**
 * From manifest files to a snapshot that gateways will take: parsed, conditions and patterns compiled, the development issuer
 * added. Pure. Every fault of every step is reported with its place; with any there is no snapshot.
 */
import { createHash } from "node:crypto";
import { toGatewayError } from "@sluice/core/errors.ts";
import type { IdentityProviderSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { compileDetector } from "@sluice/inspect/dlp/detect.ts";
import { compileSnapshot } from "@sluice/inspect/policy/compile.ts";
import { compileCondition } from "@sluice/inspect/policy/conditions.ts";
import { sortFaults } from "@sluice/manifest/fault.ts";
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

/**
 * `development`: the built-in issuers of all replicas that have one; added to the snapshot. `set`: these very files, where they were
 * parsed before.
 */
export function checkManifests(
  files: readonly ManifestFile[],
  development: readonly IdentityProviderSpec[],
  set: ManifestSet = parseManifests(files),
): CheckedManifests {
  const faults: ManifestFault[] = set.faults.map(({ file, line, column, message }) => ({
    file,
    line,
    ...(column === undefined ? {} : { column }),
    message,
  }));
  // A set with faults has an empty snapshot: what its conditions and patterns say is then read from the documents as written.
  if (faults.length === 0) faults.push(...compileFaults(set), ...developmentFaults(set, development));
  else faults.push(...faultsAsWritten(set, faults));
  if (faults.length > 0) {
    const order = files.map((file) => file.path);
    return { snapshot: undefined, faults: sortFaults(faults, order) };
  }
  return { snapshot: withDevelopmentIssuers(set.snapshot, development), faults };
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
      const field = classifier.values.kind === "builtin" ? "detector" : "pattern";
      report("Classifier", classifier.name, ["spec", "values", field], sentenceOf(error));
    }
  }
  return faults;
}

function sentenceOf(error: unknown): string {
  const { message, hint } = toGatewayError(error);
  return hint === undefined ? message : `${message} ${hint}`;
}

/**
 * Faults of conditions and patterns in documents that have other faults too, so that an author sees all of them at once. Nothing is
 * said of a place where `known` has a fault already.
 */
function faultsAsWritten(set: ManifestSet, known: readonly ManifestFault[]): readonly ManifestFault[] {
  const taken = new Set(known.map(placeOf));
  return set.documents.flatMap(({ kind, name }) =>
    (kind === "Policy" ? conditionsOf(set, name) : patternsOf(set, kind, name)).flatMap(({ path, fault }) => {
      const place = set.locate(kind, name, path);
      if (place === undefined || taken.has(placeOf(place))) return [];
      const message = fault();
      return message === undefined ? [] : [{ file: place.file, line: place.line, column: place.column, message }];
    }),
  );
}

/** A text that must compile, and how to learn what is wrong with it. */
interface ToCompile {
  readonly path: readonly (string | number)[];
  readonly fault: () => string | undefined;
}

function conditionsOf(set: ManifestSet, policy: string): readonly ToCompile[] {
  const rules = set.valueAt("Policy", policy, ["spec", "rules"]);
  if (!Array.isArray(rules)) return [];
  return rules.flatMap((_, index): readonly ToCompile[] => {
    const field = (name: string): unknown => set.valueAt("Policy", policy, ["spec", "rules", index, name]);
    const when = field("when");
    if (typeof when !== "string") return [];
    const fault = (): string | undefined => {
      const result = compileCondition(when, field("effect") === "allow");
      return result.ok ? undefined : `rule '${String(field("name"))}': ${result.message}`;
    };
    return [{ path: ["spec", "rules", index, "when"], fault }];
  });
}

function patternsOf(set: ManifestSet, kind: string, name: string): readonly ToCompile[] {
  const path = ["spec", "values", "pattern"];
  const pattern = set.valueAt(kind, name, path);
  if (kind !== "Classifier" || typeof pattern !== "string") return [];
  const fault = (): string | undefined => {
    try {
      compileDetector(String(set.valueAt(kind, name, ["spec", "entity"])), { kind: "pattern", pattern, context: [] });
      return undefined;
    } catch (error) {
      return sentenceOf(error);
    }
  };
  return [{ path, fault }];
}

function placeOf({ file, line, column }: { readonly file: string; readonly line: number; readonly column?: number }): string {
  return `${file}:${line}:${column ?? 0}`;
}

/** The development issuer's name and address are its own: a manifest must not stand in for it. */
function developmentFaults(set: ManifestSet, development: readonly IdentityProviderSpec[]): readonly ManifestFault[] {
  return set.snapshot.identityProviders
    .filter(({ name, issuer }) => development.some((own) => own.name === name || own.issuer === issuer))
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
function withDevelopmentIssuers(snapshot: Snapshot, development: readonly IdentityProviderSpec[]): Snapshot {
  if (development.length === 0) return snapshot;
  const digest = createHash("sha256").update(snapshot.version).update(JSON.stringify(development)).digest("hex");
  return { ...snapshot, version: digest.slice(0, 16), identityProviders: [...snapshot.identityProviders, ...development] };
}
