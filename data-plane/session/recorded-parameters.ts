/**
 * Bound values as a recording keeps them: what the caller sent, except where a detector recognises it or the statement compares
 * protected columns, since a hit would then confirm a value.
 */
import type { Detector } from "@sluice/inspect/dlp/detect.ts";
import { redactText } from "@sluice/inspect/dlp/redact-text.ts";
import type { BoundValue } from "@sluice/inspect/wire/judgement.ts";

/** Characters of one value that are kept; a bulk insert's values are data, not evidence of a decision. */
const VALUE_CHARACTERS_MAX = 256;

export function recordedParameters(
  values: readonly BoundValue[],
  detectors: readonly Detector[],
  withhold: boolean,
): readonly (string | null)[] {
  return values.map(({ format, bytes }) => {
    if (bytes === null) return null;
    if (withhold) return "[withheld]";
    if (format === "binary") return `[binary, ${bytes.length} bytes]`;
    const text = redactText(bytes.toString("utf8"), detectors);
    return text.length > VALUE_CHARACTERS_MAX ? `${text.slice(0, VALUE_CHARACTERS_MAX)}… [${text.length} characters]` : text;
  });
}
