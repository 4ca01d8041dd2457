/**
 * What an apply changes: documents are merged by kind and name into what is stored. Pure; says nothing about whether the result
 * is valid. Documents that the configuration names are a set: one that is no longer among them goes. Documents sent through the
 * API stay until they are replaced.
 */
import type { DocumentText } from "./split-documents.ts";

export type Origin = "config" | "apply";

export interface NamedDocument extends DocumentText {
  readonly kind: string;
  readonly name: string;
}

export interface StoredDocument extends NamedDocument {
  readonly origin: Origin;
}

export interface Change {
  readonly kind: string;
  readonly name: string;
  readonly change: "created" | "updated" | "unchanged" | "removed";
}

export interface ApplyPlan {
  /** Stored documents that stay as they are. */
  readonly kept: readonly StoredDocument[];
  /** New revisions to write: content or origin differs from what is stored. */
  readonly written: readonly (NamedDocument & { readonly change: "created" | "updated" })[];
  /** The same as stored but for where it stands: no new revision, or replicas with other paths would write one at each start. */
  readonly moved: readonly NamedDocument[];
  readonly removed: readonly StoredDocument[];
  /** For the answer: what was given in its order, then what was removed. */
  readonly changes: readonly Change[];
}

export function planApply(incoming: readonly NamedDocument[], stored: readonly StoredDocument[], origin: Origin): ApplyPlan {
  const given = new Set(incoming.map((document) => keyOf(document)));
  const before = new Map(stored.map((document) => [keyOf(document), document]));
  const others = stored.filter((document) => !given.has(keyOf(document)));
  const removed = origin === "config" ? others.filter((document) => document.origin === "config") : [];
  const kept = others.filter((document) => !removed.includes(document));
  const written: (NamedDocument & { readonly change: "created" | "updated" })[] = [];
  const moved: NamedDocument[] = [];
  const changes = incoming.map((document): Change => {
    const { kind, name } = document;
    const former = before.get(keyOf(document));
    if (former === undefined) {
      written.push({ ...document, change: "created" });
      return { kind, name, change: "created" };
    }
    const same = former.text === document.text;
    if (!same || former.origin !== origin) written.push({ ...document, change: "updated" });
    // Messages must point to where the document stands now.
    else if (former.path !== document.path || former.line !== document.line) moved.push(document);
    return { kind, name, change: same ? "unchanged" : "updated" };
  });
  return {
    kept,
    written,
    moved,
    removed,
    changes: [...changes, ...removed.map(({ kind, name }): Change => ({ kind, name, change: "removed" }))],
  };
}

function keyOf(document: { readonly kind: string; readonly name: string }): string {
  return `${document.kind}/${document.name}`;
}
