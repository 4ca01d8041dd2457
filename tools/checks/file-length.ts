/** Files stay short enough to be read whole. A longer one says why in its first comment, with the words `Long because`. */

export const LINES_MAX = 450;

/** Returns one sentence a file that is too long without a reason. Takes path and text of source files. */
export function findLongFiles(files: readonly { readonly path: string; readonly text: string }[]): readonly string[] {
  return files.flatMap(({ path, text }) => {
    const lines = text.trimEnd().split("\n").length;
    if (lines <= LINES_MAX || hasReason(text)) return [];
    return [`${path}: ${lines} lines (at most ${LINES_MAX}); split it, or say "Long because …" in its first comment`];
  });
}

/** Source files that people read; what protoc makes, documentation and data are not counted. */
export function isSourceFile(path: string): boolean {
  if (path.startsWith("proto/src/gen/")) return false;
  return /\.(ts|mjs|js|sql)$/.test(path);
}

function hasReason(text: string): boolean {
  const comment = /^(?:#!.*\n)?\s*\/\*\*?([\s\S]*?)\*\//.exec(text);
  return /\blong because\b/i.test(comment?.[1] ?? "");
}
