/**
 * Texts from the target that belong to no row: notices, notifications, reported settings. What may hold protected values leaves
 * without its text; a setting that changes how statements are read ends the session.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { ExpectedAnswer } from "./answers.ts";
import type { Frame } from "./frames.ts";
import { readErrorFields, readParameterStatus } from "./messages.ts";
import type { RelayState } from "./relay-state.ts";
import { emptiedNotification, scrubbed, speaksOfStatementOnly } from "./scrub.ts";

/** Settings under which a text means what was judged. A target that reports another value reads statements differently than we do. */
const fixedSettings: Readonly<Record<string, string>> = { client_encoding: "UTF8", standard_conforming_strings: "on" };

/** Settings as the target reports them before the first statement. Throws `target_protocol` for one that would change what texts mean. */
export function requireFixedSettings(parameters: readonly (readonly [name: string, value: string])[]): void {
  for (const [name, value] of parameters) {
    if (!Object.hasOwn(fixedSettings, name) || fixedSettings[name] === value) continue;
    throw new GatewayError("target_protocol", `The database began with ${name} at another value than ${fixedSettings[name]}.`, {
      hint: `Statements would mean something else than is judged. Ask the platform team to leave ${name} at ${fixedSettings[name]} for the account and the database.`,
    });
  }
}

const NOTHING = Buffer.alloc(0);
const NO_FIELDS: ReadonlyMap<string, string> = new Map();

/** Whether an error's or notice's text may hold protected values. `head`: the answer it belongs to. */
export function isWithheld(state: RelayState, head: ExpectedAnswer | undefined, fields: ReadonlyMap<string, string>): boolean {
  if (head === undefined) return !state.judge.notificationsClear;
  if (head.scrub) return true;
  const runs = head.kind === "query" || head.kind === "execute" || head.kind === "sync";
  // Deferred checks and triggers speak of earlier statements of the transaction.
  return runs && state.touched && !speaksOfStatementOnly(fields.get("C") ?? "");
}

export function releasedNotice(state: RelayState, frame: Frame): Buffer {
  const fields = readErrorFields(frame.body);
  return isWithheld(state, state.answers.head, fields) ? scrubbed("N", fields) : frame.bytes;
}

export function releasedNotification(state: RelayState, frame: Frame): Buffer {
  return state.judge.notificationsClear ? frame.bytes : emptiedNotification(frame.body);
}

/** Reported settings that take any text: code that a statement runs may set them to what it read. */
const freeSettings: ReadonlySet<string> = new Set(["application_name", "search_path"]);

/** Empty: the caller is not told. Throws `denied` when the setting may not have this value. */
export function releasedStatus(state: RelayState, frame: Frame): Buffer {
  const [name, value] = readParameterStatus(frame.body);
  const { head } = state.answers;
  if (freeSettings.has(name) && head !== undefined && isWithheld(state, head, NO_FIELDS)) return NOTHING;
  const wanted = Object.hasOwn(fixedSettings, name) ? fixedSettings[name] : undefined;
  if (wanted === undefined || wanted === value) return frame.bytes;
  throw new GatewayError(
    "denied",
    `The setting ${name} was changed, so that statements would mean something else than was judged.`,
    {
      hint: `The session ends. Leave ${name} at ${wanted}.`,
    },
  );
}
