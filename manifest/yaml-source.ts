/**
 * YAML text to plain values that remember where they stood. Strict: one meaning per text, so no tags, no duplicate keys, only
 * words as keys; aliases are expanded within a bound. Spec: https://yaml.org/spec/1.2.2/, core schema.
 */
import { defaultLimits } from "@sluice/core/limits.ts";
import { isAlias, isMap, isScalar, isSeq, LineCounter, type ParsedNode, parseAllDocuments } from "yaml";
import type { Fault, Position, ValuePath } from "./fault.ts";

export interface SourceFile {
  /** As shown in messages; nothing is read from it. */
  readonly path: string;
  readonly text: string;
}

export interface SourceDocument {
  readonly file: string;
  /** Objects have no prototype, so that no key is special. */
  readonly value: unknown;
  /** Where a value stands (for a mapping entry: its key), or the nearest value around it that exists. */
  positionOf(path: ValuePath): Position;
}

/** Reads all documents of one file; empty ones are left out. A document with faults has no value and is left out too. */
export function readYaml(file: SourceFile): { readonly documents: readonly SourceDocument[]; readonly faults: readonly Fault[] } {
  const lines = new LineCounter();
  const faults: Fault[] = [];
  const documents: SourceDocument[] = [];
  const at = (offset: number): Position => positionAt(lines, offset);
  const parsed = parseAllDocuments(file.text, { lineCounter: lines, prettyErrors: false, version: "1.2", schema: "core" });
  for (const document of parsed) {
    const problems = [...document.errors, ...document.warnings];
    for (const { message, pos, code } of problems) {
      faults.push({ file: file.path, ...at(pos[0]), message: `not valid YAML: ${yamlMessage(code, message)}` });
    }
    if (problems.length > 0 || document.contents === null) continue;
    const reader = new NodeReader();
    const value = reader.read(document.contents, "", 0);
    for (const { offset, message } of reader.problems) faults.push({ file: file.path, ...at(offset), message });
    if (reader.problems.length > 0 || value === null) continue;
    documents.push({ file: file.path, value, positionOf: (path) => at(reader.offsetOf(path)) });
  }
  return { documents, faults };
}

/** Pointer in the form that schema errors use (RFC 6901). */
export function pointerOf(path: ValuePath): string {
  return path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

function positionAt(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

function yamlMessage(code: string, message: string): string {
  if (code === "DUPLICATE_KEY") return "a key stands twice in the same mapping; only one can be meant";
  if (code === "TAB_AS_INDENT") return "tabs cannot indent; use spaces";
  if (code === "TAG_RESOLVE_FAILED") return "tags (words that start with '!') are not used here";
  // What follows a colon repeats the file, which could be a secret in the wrong place.
  const said = message.replace(/:\s.*$/s, "").replaceAll(/"[^"]*"/g, "a text");
  return said.charAt(0).toLowerCase() + said.slice(1);
}

class NodeReader {
  readonly problems: { readonly offset: number; readonly message: string }[] = [];
  readonly #offsets = new Map<string, number>();
  readonly #anchors = new Map<string, ParsedNode>();
  #nodes = 0;
  #stopped = false;
  #expanding = false;

  offsetOf(path: ValuePath): number {
    for (let length = path.length; length >= 0; length--) {
      const offset = this.#offsets.get(pointerOf(path.slice(0, length)));
      if (offset !== undefined) return offset;
    }
    return 0;
  }

  read(node: ParsedNode | null, pointer: string, depth: number): unknown {
    if (node === null || this.#stopped) return null;
    const offset = node.range[0];
    if (!this.#offsets.has(pointer)) this.#offsets.set(pointer, offset);
    this.#nodes += 1;
    if (this.#nodes > defaultLimits.manifestNodesMax || depth > defaultLimits.manifestDepthMax) {
      this.#stopped = true; // said once, and nothing more is read: an alias bomb would go on for long
      this.#fault(offset, "the document is too large or too deep, or its aliases refer to each other");
      return null;
    }
    if (isAlias(node)) return this.#expand(node.source, offset, pointer, depth);
    // Anchors count from where they stand in the text, not from where an alias repeats them.
    if (node.anchor !== undefined && !this.#expanding) this.#anchors.set(node.anchor, node);
    if (isScalar(node)) return this.#scalar(node.value, offset);
    if (isSeq(node)) return node.items.map((item, index) => this.read(item, `${pointer}/${index}`, depth + 1));
    if (!isMap(node)) return null;
    const value: Record<string, unknown> = Object.create(null) as Record<string, unknown>; // a fresh object without prototype
    for (const { key, value: item } of node.items) {
      const name = isScalar(key) && typeof key.value === "string" ? key.value : undefined;
      if (name === undefined) {
        this.#fault(key?.range?.[0] ?? offset, "a key must be a word; put it in quotes");
        continue;
      }
      const child = `${pointer}${pointerOf([name])}`;
      this.#offsets.set(child, key?.range?.[0] ?? offset);
      value[name] = this.read(item, child, depth + 1);
    }
    return value;
  }

  /** In place of the library's own search, which goes through the whole document for each alias. */
  #expand(anchor: string, offset: number, pointer: string, depth: number): unknown {
    const target = this.#anchors.get(anchor);
    if (target === undefined) {
      this.#fault(offset, "this alias names no anchor before it");
      return null;
    }
    const outer = this.#expanding;
    this.#expanding = true;
    const value = this.read(target, pointer, depth + 1);
    this.#expanding = outer;
    return value;
  }

  #scalar(value: unknown, offset: number): unknown {
    if (value === null || typeof value === "string" || typeof value === "boolean") return value;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    this.#fault(offset, "this value is neither text, number, true, false nor null");
    return null;
  }

  #fault(offset: number, message: string): void {
    this.problems.push({ offset, message });
  }
}
