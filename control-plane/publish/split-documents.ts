/**
 * Cuts a manifest file into its YAML documents without understanding them, so that each can be stored by itself and replaced by
 * name. A line that begins with `---` (or `...`) and white space ends a document wherever it stands: block scalars cannot hold it.
 * Spec: YAML 1.2.2, section 9.1.2 (document markers).
 */
import type { ManifestFile } from "../interface.ts";

export interface DocumentText {
  readonly path: string;
  /** Line of the file on which `text` begins; the first is 1. */
  readonly line: number;
  /** Without the marker. */
  readonly text: string;
}

/** Every document of the file that holds more than comments, in order. */
export function splitDocuments(file: ManifestFile): readonly DocumentText[] {
  const documents: DocumentText[] = [];
  let lines: string[] = [];
  let begin = 1;
  const finish = (nextBegin: number): void => {
    if (lines.some((line) => !/^\s*(#.*)?$/.test(line)))
      documents.push({ path: file.path, line: begin, text: `${lines.join("\n")}\n` });
    lines = [];
    begin = nextBegin;
  };
  for (const [at, line] of file.text.split(/\r?\n/).entries()) {
    const marker = /^(---|\.\.\.)(?=\s|$)(.*)$/.exec(line);
    if (marker === null) {
      // Directives belong to the parser's defaults; a document is stored without them.
      if (!line.startsWith("%") || lines.length > 0) lines.push(line);
      else begin = at + 2;
      continue;
    }
    finish(at + 1);
    // What follows the marker on its line is content (`--- {kind: Policy}`); spaces keep its columns.
    lines.push(`   ${marker[2] ?? ""}`.trimEnd());
  }
  finish(0);
  return documents.map((document) => withoutTrailingSpace(document));
}

/** A file that holds this document alone at its own lines, so that faults in it are reported where it was written. */
export function asFile(document: DocumentText): ManifestFile {
  return { path: document.path, text: "\n".repeat(document.line - 1) + document.text };
}

function withoutTrailingSpace(document: DocumentText): DocumentText {
  return { ...document, text: `${document.text.trimEnd()}\n` };
}
