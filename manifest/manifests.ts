/**
 * Manifests to a snapshot: all files at once, every fault at once, each with file and line. Pure. It never gives part of a
 * set: with any fault the snapshot is empty, which denies everything.
 */
import { createHash } from "node:crypto";
import { assertNever } from "@sluice/core/assert-never.ts";
import { didYouMean } from "@sluice/core/did-you-mean.ts";
import type { ClassifierSpec, IdentityProviderSpec, PolicySpec, ResourceSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { classifierOf, identityProviderOf, policyOf } from "./documents.ts";
import { type Fault, type Position, showPath, sortFaults, type ValuePath } from "./fault.ts";
import { manifestSchemas } from "./json-schema.ts";
import { resourceOf } from "./resource-document.ts";
import { entity } from "./schema/words.ts";
import type { ClassifierShape, Envelope, IdentityProviderShape, PolicyShape, ResourceShape } from "./shapes.ts";
import { type Validator, validatorOf } from "./validation.ts";
import { readYaml, type SourceDocument, type SourceFile } from "./yaml-source.ts";

export type { Fault } from "./fault.ts";
export type { SourceFile } from "./yaml-source.ts";

/** Kinds that this version applies. */
export type ManifestKind = "Resource" | "Classifier" | "Policy" | "IdentityProvider";

export interface ManifestDocument {
  readonly kind: ManifestKind;
  readonly name: string;
  readonly file: string;
  readonly line: number;
}

export interface Location extends Position {
  readonly file: string;
}

export interface ManifestSet {
  /** Everything the files declare; empty when there is any fault. */
  readonly snapshot: Snapshot;
  /** Every document whose kind and name could be read, in the order of the files. */
  readonly documents: readonly ManifestDocument[];
  readonly faults: readonly Fault[];
  /** Where a value stands, for faults that are found later; the nearest place around it when it does not exist itself. */
  locate(kind: string, name: string, path: ValuePath): Location | undefined;
  /** What was written at a path of a document, whatever else is wrong with it; undefined where there is nothing. */
  valueAt(kind: string, name: string, path: ValuePath): unknown;
}

/** Reads and checks all files as one set. Never throws for anything a file holds. */
export function parseManifests(files: readonly SourceFile[]): ManifestSet {
  const collector = new Collector();
  for (const file of files) {
    const { documents, faults } = readYaml(file);
    collector.faults.push(...faults);
    for (const document of documents) collector.take(document);
  }
  collector.checkTogether();
  const faults = sortFaults(
    collector.faults,
    files.map((file) => file.path),
  );
  const { sources } = collector;
  return {
    snapshot: faults.length === 0 ? snapshotOf(collector.parts) : emptySnapshot,
    documents: collector.documents,
    faults,
    locate: (kind, name, path) => {
      const source = sources.get(`${kind}/${name}`);
      return source === undefined ? undefined : { file: source.file, ...source.positionOf(path) };
    },
    valueAt: (kind, name, path) => valueAt(sources.get(`${kind}/${name}`)?.value, path),
  };
}

type Parts = Pick<Snapshot, "resources" | "classifiers" | "policies" | "identityProviders">;

/** Known from the design, not built yet: said so, rather than taken for a misspelling. */
const laterKinds: readonly string[] = ["Workload", "Budget", "ReviewRoute", "EventSink"];
const kinds: readonly ManifestKind[] = ["Resource", "Classifier", "Policy", "IdentityProvider"];
const validators: Readonly<Record<ManifestKind, Validator>> = {
  Resource: validatorOf(manifestSchemas.Resource),
  Classifier: validatorOf(manifestSchemas.Classifier),
  Policy: validatorOf(manifestSchemas.Policy),
  IdentityProvider: validatorOf(manifestSchemas.IdentityProvider),
};

class Collector {
  readonly faults: Fault[] = [];
  readonly documents: ManifestDocument[] = [];
  readonly sources = new Map<string, SourceDocument>();
  readonly #resources: ResourceSpec[] = [];
  readonly #classifiers: ClassifierSpec[] = [];
  readonly #policies: PolicySpec[] = [];
  readonly #identityProviders: IdentityProviderSpec[] = [];
  /** Classifiers whose entity could be read although something else in them is wrong: no second fault for who refers to them. */
  readonly #entities = new Set<string>();

  get parts(): Parts {
    return {
      resources: this.#resources,
      classifiers: this.#classifiers,
      policies: this.#policies,
      identityProviders: this.#identityProviders,
    };
  }

  take(source: SourceDocument): void {
    const kind = this.#kindOf(source);
    if (kind === undefined) return;
    const name = textAt(source.value, ["metadata", "name"]);
    const report = (path: ValuePath, message: string): void => {
      this.faults.push({ file: source.file, ...source.positionOf(path), kind, ...(name === undefined ? {} : { name }), message });
    };
    if (name !== undefined) this.#register(source, kind, name, report);
    if (kind === "Classifier") this.#entities.add(textAt(source.value, ["spec", "entity"]) ?? "");
    const schemaFaults = validators[kind](source.value);
    for (const { path, message } of schemaFaults) report(path, message);
    if (schemaFaults.length === 0) this.#build(kind, source.value);
  }

  /** Checks that need all documents. */
  checkTogether(): void {
    for (const { kind, name } of this.documents) {
      const source = this.sources.get(`${kind}/${name}`);
      if (kind === "Policy" && source !== undefined) this.#checkEntities(name, source);
    }
    this.#checkIssuers();
  }

  #kindOf(source: SourceDocument): ManifestKind | undefined {
    const kind = textAt(source.value, ["kind"]);
    const known = kinds.find((one) => one === kind);
    if (known !== undefined) return known;
    const fault = (path: ValuePath, message: string): void => {
      this.faults.push({ file: source.file, ...source.positionOf(path), message });
    };
    if (kind === undefined) {
      fault(
        [],
        `a manifest is a mapping with the fields apiVersion, kind, metadata and spec; kind is one of ${kinds.join(", ")}`,
      );
    } else if (laterKinds.includes(kind)) {
      fault(["kind"], `kind ${kind} is not supported by this version`);
    } else if (kind === "Config") {
      fault(["kind"], "kind Config belongs into the file given with --config, not among manifests");
    } else {
      const guess = didYouMean(kind, kinds);
      const help = guess === undefined ? `Kinds are ${kinds.join(", ")}.` : `Did you mean '${guess}'?`;
      fault(["kind"], `this kind is not known. ${help}`);
    }
    return undefined;
  }

  #register(source: SourceDocument, kind: ManifestKind, name: string, report: (path: ValuePath, message: string) => void): void {
    const key = `${kind}/${name}`;
    const first = this.sources.get(key);
    if (first !== undefined) {
      const { line } = first.positionOf(["metadata", "name"]);
      report(["metadata", "name"], `${kind} '${name}' is declared already at ${first.file}:${line}`);
      return;
    }
    this.sources.set(key, source);
    this.documents.push({ kind, name, file: source.file, line: source.positionOf([]).line });
  }

  #build(kind: ManifestKind, value: unknown): void {
    // The schema of the kind has accepted the value: the shapes say in types what the schemas say in data.
    switch (kind) {
      case "Resource":
        this.#resources.push(resourceOf(value as Envelope<ResourceShape>));
        return;
      case "Classifier":
        this.#classifiers.push(classifierOf(value as Envelope<ClassifierShape>));
        return;
      case "Policy":
        this.#policies.push(policyOf(value as Envelope<PolicyShape>));
        return;
      case "IdentityProvider":
        this.#identityProviders.push(identityProviderOf(value as Envelope<IdentityProviderShape>));
        return;
      default:
        assertNever(kind);
    }
  }

  /** Looks at what was written, whatever else is wrong with it. */
  #checkEntities(name: string, source: SourceDocument): void {
    listAt(source.value, ["spec", "rules"]).forEach((rule, index) => {
      if (textAt(rule, ["effect"]) !== "mask") return;
      listAt(rule, ["entities"]).forEach((entity, at) => {
        if (typeof entity !== "string" || !entityName.test(entity) || this.#entities.has(entity)) return;
        const path = ["spec", "rules", index, "entities", at];
        const guess = didYouMean(entity, this.#entities);
        const help = guess === undefined ? "Declare a Classifier for it." : `Did you mean '${guess}'?`;
        this.#fault("Policy", name, source, path, `${showPath(path)}: no classifier gives the entity ${entity}. ${help}`);
      });
    });
  }

  #checkIssuers(): void {
    const issuers = new Map<string, string>();
    for (const { kind, name } of this.documents) {
      const source = this.sources.get(`${kind}/${name}`);
      const issuer = textAt(source?.value, ["spec", "issuer"]);
      if (kind !== "IdentityProvider" || source === undefined || issuer === undefined) continue;
      const first = issuers.get(issuer);
      if (first === undefined) issuers.set(issuer, name);
      else {
        const message = `spec.issuer is the issuer of IdentityProvider '${first}' too; one issuer, one provider`;
        this.#fault(kind, name, source, ["spec", "issuer"], message);
      }
    }
  }

  #fault(kind: ManifestKind, name: string, source: SourceDocument, path: ValuePath, message: string): void {
    this.faults.push({ file: source.file, ...source.positionOf(path), kind, name, message });
  }
}

/** As the schema has it: what does not fit has a fault of its own already. */
const entityName = new RegExp(String(entity["pattern"]));

/** Hash of the content, whatever the order of files, documents, fields and rules, and however it was written. */
function snapshotOf(parts: Parts): Snapshot {
  const byName = (a: { readonly name: string }, b: { readonly name: string }): number => (a.name < b.name ? -1 : 1);
  const sorted: Parts = {
    resources: parts.resources.toSorted(byName),
    classifiers: parts.classifiers.toSorted(byName),
    policies: parts.policies.toSorted(byName),
    identityProviders: parts.identityProviders.toSorted(byName),
  };
  // Rules keep the order of the document in the snapshot, so that faults found later can be placed; for the hash it is nothing.
  const hashed = { ...sorted, policies: sorted.policies.map((policy) => ({ ...policy, rules: policy.rules.toSorted(byName) })) };
  const version = createHash("sha256").update(canonicalJson(hashed)).digest("hex").slice(0, VERSION_CHARS);
  return { version, ...sorted };
}

/** 64 bits: snapshots of one installation are few. */
const VERSION_CHARS = 16;

const emptySnapshot: Snapshot = snapshotOf({ resources: [], classifiers: [], policies: [], identityProviders: [] });

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (typeof item !== "object" || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function listAt(value: unknown, path: readonly string[]): readonly unknown[] {
  const found = valueAt(value, path);
  return Array.isArray(found) ? found : [];
}

function textAt(value: unknown, path: readonly string[]): string | undefined {
  const found = valueAt(value, path);
  return typeof found === "string" ? found : undefined;
}

function valueAt(value: unknown, path: ValuePath): unknown {
  let found = value;
  for (const key of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined;
    found = (found as Record<string, unknown>)[key]; // own key of an object, just tested
  }
  return found;
}
