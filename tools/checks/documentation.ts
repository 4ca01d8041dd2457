/**
 * Documentation: links inside the project lead somewhere, headings that are linked exist, and no example teaches an
 * unverified connection. Nothing is fetched from the network.
 */
import path from "node:path";

/** Returns one sentence a fault. Takes all documents, and every path of the project. */
export function findDocumentationFaults(
  documents: ReadonlyMap<string, string>,
  projectFiles: ReadonlySet<string>,
): readonly string[] {
  const folders = new Set([...projectFiles].flatMap((file) => foldersOf(file)));
  const faults: string[] = [];
  for (const [file, text] of documents) {
    for (const { target, line } of linksOf(text)) {
      const fault = checkLink(file, target, documents, projectFiles, folders);
      if (fault !== undefined) faults.push(`${file}:${line}: ${fault}`);
    }
    for (const [at, line] of text.split("\n").entries()) {
      if (INSECURE.test(line)) {
        faults.push(`${file}:${at + 1}: shows a connection that does not verify the server; use sslmode=verify-full`);
      }
    }
  }
  return faults;
}

/** A mode that encrypts without verifying hands the token to whoever stands between. */
const INSECURE = /sslmode\s*=\s*'?(?:require|prefer|allow|disable)\b/;

/** Inline links and reference definitions outside code; pictures too. */
export function linksOf(text: string): readonly { readonly target: string; readonly line: number }[] {
  const links: { target: string; line: number }[] = [];
  for (const [at, line] of withoutCode(text).split("\n").entries()) {
    for (const match of line.matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|^\s{0,3}\[[^\]]+\]:\s+(\S+)/g)) {
      const target = match[1] ?? match[2];
      if (target !== undefined) links.push({ target, line: at + 1 });
    }
  }
  return links;
}

/** GitHub's way to make an anchor of a heading: lower case, punctuation dropped, spaces to hyphens, repeats numbered. */
export function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const line of withoutCode(text).split("\n")) {
    const heading = /^#{1,6}\s+(.*?)\s*#*$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const base = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replace(/\s/g, "-");
    let anchor = base;
    for (let n = 1; anchors.has(anchor); n += 1) anchor = `${base}-${n}`;
    anchors.add(anchor);
  }
  return anchors;
}

function checkLink(
  file: string,
  target: string,
  documents: ReadonlyMap<string, string>,
  projectFiles: ReadonlySet<string>,
  folders: ReadonlySet<string>,
): string | undefined {
  if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return undefined;
  const [before = "", anchor] = target.split("#", 2);
  const wanted =
    before === "" ? file : path.posix.normalize(path.posix.join(path.posix.dirname(file), decodeURIComponent(before)));
  const place = wanted.replace(/\/$/, "");
  if (place.startsWith("..")) return `the link ${target} leaves the project`;
  if (!projectFiles.has(place) && !folders.has(place)) return `the link ${target} leads nowhere`;
  const text = documents.get(place);
  if (anchor !== undefined && text !== undefined && !anchorsOf(text).has(anchor)) return `${place} has no heading for #${anchor}`;
  return undefined;
}

/** Fenced blocks and code spans become blank, line by line, so that line numbers stay. */
function withoutCode(text: string): string {
  let fence: string | undefined;
  return text
    .split("\n")
    .map((line) => {
      const mark = /^\s*(```+|~~~+)/.exec(line)?.[1];
      if (fence !== undefined) {
        if (mark !== undefined && mark.startsWith(fence)) fence = undefined;
        return "";
      }
      if (mark !== undefined) {
        fence = mark;
        return "";
      }
      return line.replace(/`[^`]*`/g, "");
    })
    .join("\n");
}

function foldersOf(file: string): readonly string[] {
  const parts = file.split("/").slice(0, -1);
  return parts.map((_, at) => parts.slice(0, at + 1).join("/"));
}
