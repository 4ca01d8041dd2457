/** Says what a verification found, the same for one recording of an installation and for files. It must never call an open recording whole. */
import type { CommandContext } from "../context.ts";
import { visible } from "./table.ts";

type Report = Readonly<Record<string, unknown>>;

/** Prints for people, faults to standard error. Returns whether the recording is whole, untouched and complete. */
export function printVerifyReport(report: Report, context: CommandContext): boolean {
  const ok = report["ok"] === true;
  context.out(`${cell(report["sessionId"])}: ${verdictOf(ok, report["state"])}\n`);
  context.out(`${cell(report["chunks"])} chunks, ${cell(report["records"])} records, head ${cell(report["head"])}\n`);
  for (const fault of Array.isArray(report["faults"]) ? report["faults"] : []) context.err(`fault: ${visible(cell(fault))}\n`);
  return ok;
}

function verdictOf(ok: boolean, state: unknown): string {
  if (state === "open") return "OPEN: whole so far, but not closed, so nobody can tell whether its end is missing";
  if (state === "lost") return "LOST: whole so far, but its gateway died before it ended, so nobody knows what came after";
  return ok ? "whole and untouched" : "BROKEN";
}

function cell(value: unknown): string {
  if (typeof value === "string") return value === "" ? "-" : value;
  return typeof value === "number" ? String(value) : "-";
}
