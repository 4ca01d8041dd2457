/**
 * Denials that no policy has to write: forms through which a protected value would get past its mask. They apply only to a
 * principal for whom something is protected, but for session settings, which would make the analysis itself wrong.
 */
import type { StatementModel } from "../sql/model.ts";
import type { DecideInput } from "./input.ts";
import { type Protection, UNKNOWN_ORIGIN } from "./protection.ts";
import { changesReading, declarable, guardedSettings } from "./session-settings.ts";

export interface Denial {
  readonly rule: string;
  readonly reason: string;
  readonly hint: string;
}

const ASK = "Ask the platform team if your work needs this.";

/** All built-in denials that this statement meets, the most telling first. Reasons name relations and forms, never values. */
export function builtinDenials(input: DecideInput, protection: Protection): readonly Denial[] {
  const { statement } = input;
  const always = [sessionSetting(statement, protection)];
  const guards = protection.protects
    ? [
        sessionLost(statement),
        undecided(statement),
        escapeFunction(statement),
        protectedCatalog(statement),
        protectedDdl(statement, protection),
        protectedWriteFlow(statement, protection),
        protectedInfluence(statement, protection),
        protectedExpression(statement, protection),
      ]
    : [];
  return [...always, ...guards, copyOutMasked(input, protection)].filter((denial) => denial !== undefined);
}

/** A name may mean any relation then, one that the session has made for itself too. */
function sessionLost({ lost, reaches }: StatementModel): Denial | undefined {
  if (lost === undefined || reaches.length === 0) return undefined;
  return {
    rule: "builtin/session-lost",
    reason: `It cannot be known any more what names mean in this session, since it ran ${list(lost)}.`,
    hint: "Connect again, or send DISCARD ALL outside a transaction.",
  };
}

function undecided({ undecided }: StatementModel): Denial | undefined {
  if (undecided.length === 0) return undefined;
  return {
    rule: "builtin/undecided",
    reason: `It cannot be known what ${list(undecided)} does with protected data.`,
    hint: "Leave it out, or ask the platform team to declare the function safe (inspection.safeFunctions of the resource).",
  };
}

function escapeFunction({ escapes }: StatementModel): Denial | undefined {
  if (escapes.length === 0) return undefined;
  return {
    rule: "builtin/escape-function",
    reason: `${list(escapes)} can carry protected data past its mask.`,
    hint: "Read the columns you need with a plain SELECT.",
  };
}

function protectedCatalog({ sensitiveCatalogs }: StatementModel): Denial | undefined {
  if (sensitiveCatalogs.length === 0) return undefined;
  return {
    rule: "builtin/protected-catalog",
    reason: `${list(sensitiveCatalogs)} can hold samples of protected columns or other sessions' statements.`,
    hint: ASK,
  };
}

function protectedDdl({ relations }: StatementModel, protection: Protection): Denial | undefined {
  const changed = relations
    .filter(({ name, access }) => access === "ddl" && protection.relations.has(name))
    .map(({ name }) => name);
  if (changed.length === 0) return undefined;
  return {
    rule: "builtin/protected-ddl",
    reason: `${list(changed)} has columns that are masked for you, so you may not change its definition or rights.`,
    hint: "Let somebody who may see the columns make this change.",
  };
}

function protectedWriteFlow({ writeFlows }: StatementModel, protection: Protection): Denial | undefined {
  const flowing = writeFlows.filter((column) => column === UNKNOWN_ORIGIN || protection.columns.has(column));
  if (flowing.length === 0) return undefined;
  return {
    rule: "builtin/protected-write-flow",
    reason: `The statement copies ${named(flowing)} to where it would no longer be masked.`,
    hint: "Leave the masked columns out of what is written, or write into a temporary table: it stays masked for you there.",
  };
}

function protectedInfluence({ influences }: StatementModel, protection: Protection): Denial | undefined {
  const beyond = influences.filter(({ column, form }) => {
    if (column !== UNKNOWN_ORIGIN && !protection.columns.has(column)) return false;
    const allowed = protection.influenceOf(column);
    return allowed === "deny" || (allowed === "equality" && (form !== "equality" || column === UNKNOWN_ORIGIN));
  });
  if (beyond.length === 0) return undefined;
  const columns = beyond.map(({ column }) => column);
  const none = columns.some((column) => protection.influenceOf(column) === "deny");
  return {
    rule: "builtin/protected-influence",
    reason: `The statement filters, joins, sorts or groups by ${named(columns)}, which would tell about masked values.`,
    hint: none
      ? "Use other columns for that."
      : "Compare a masked column only with '=' and one whole value, or use other columns.",
  };
}

/** The same rule: what fails, multiplies or is skipped for some values answers a question about them as a filter would. */
function protectedExpression({ tells }: StatementModel, protection: Protection): Denial | undefined {
  const beyond = (tells ?? []).filter(
    (column) => (column === UNKNOWN_ORIGIN || protection.columns.has(column)) && protection.influenceOf(column) !== "allow",
  );
  if (beyond.length === 0) return undefined;
  return {
    rule: "builtin/protected-influence",
    reason: `The statement computes from ${named(beyond)} what may fail or be left out for some values, which would tell about them.`,
    hint: "Leave out conversions, arithmetic and conditional calls on masked columns; their result is masked anyway.",
  };
}

/** COPY data is masked as results are, as long as it is known which columns it has and how they are written. */
function copyOutMasked({ statement }: DecideInput, protection: Protection): Denial | undefined {
  if (statement.copy !== "out" || !(protection.protects || protection.scansValues)) return undefined;
  const known = statement.columnsKnown && statement.columns !== null;
  if (known && statement.copyForm !== undefined) return undefined;
  return {
    rule: "builtin/copy-out-masked",
    reason: known
      ? "The options of this COPY write rows in a way that cannot be masked."
      : "COPY TO would send columns that cannot be known without the masks that apply to you.",
    hint: known
      ? "Use the formats text, csv or binary with UTF8, and a NULL text without a backslash other than \\N."
      : "Use SELECT instead; psql writes the result of one to a file with \\g FILE.",
  };
}

/** Settings that change how the server reads a text: with them the analysis would speak of another statement. */
function sessionSetting({ settings }: StatementModel, protection: Protection): Denial | undefined {
  for (const { name, value } of settings) {
    const setting = name.toLowerCase();
    if (setting === "*") {
      return {
        rule: "builtin/session-setting",
        reason: "The name of a setting that is computed may be one that decides how statements are read.",
        hint: "Name the setting by a plain constant, or use SET.",
      };
    }
    if (changesReading(setting, value)) {
      return {
        rule: "builtin/session-setting",
        reason: `${setting} decides how statements are read, so it cannot be changed here.`,
        hint: setting === "client_encoding" ? "Use UTF8." : "Leave the setting as it is.",
      };
    }
    if (setting.startsWith("sluice.") && !declarable.includes(setting)) {
      return {
        rule: "builtin/session-setting",
        reason: `${setting} is set by the gateway alone.`,
        hint: `Settings of your own are ${declarable.join(", ")}.`,
      };
    }
    const guarded = protection.protects ? guardedSettings.get(setting) : undefined;
    if (guarded !== undefined) {
      return {
        rule: "builtin/session-setting",
        reason: `${setting} would change ${guarded}, on a resource with columns that are masked for you.`,
        hint: ASK,
      };
    }
  }
  return undefined;
}

/** More names than this make a sentence nobody reads. */
const NAMES_MAX = 5;

function list(names: readonly string[]): string {
  const unique = [...new Set(names)].sort();
  const rest = unique.length - NAMES_MAX;
  return rest > 0 ? `${unique.slice(0, NAMES_MAX).join(", ")} and ${rest} more` : unique.join(", ");
}

function named(columns: readonly string[]): string {
  return columns.includes(UNKNOWN_ORIGIN) ? "data whose origin cannot be known" : list(columns);
}
