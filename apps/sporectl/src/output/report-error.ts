import type { SporeletError } from "@sporelet/errors";
import { usageOperation } from "../cli/usage.ts";
import { displayWidth, printable, type Style } from "./style.ts";

const logTailLines = 30;

/**
 * An error as a person reads it: what failed and why, the tail of the log that explains it under a rule, and
 * what to do.
 * @returns lines
 */
export function errorLines(error: SporeletError, style: Style, columns = 80): string[] {
  const isUsage = error.operation === usageOperation && error.code === "invalid_argument";
  const message = isUsage ? `${error.subject}: ${error.reason}` : error.message;
  const lines = [`${style.red(style.bold("error:"))} ${printable(message)}`];
  const log = error.log === undefined ? [] : printable(error.log).trimEnd().split("\n");
  if (error.log !== undefined && error.log.trim() !== "") {
    const shown = log.slice(-logTailLines);
    const title = shown.length < log.length ? `── last ${shown.length} of ${log.length} lines ` : "── log ";
    const width = Math.max(displayWidth(title), Math.min(columns, 80) - 2);
    lines.push(`  ${style.dim(title + "─".repeat(width - displayWidth(title)))}`);
    lines.push(...shown.map((line) => `  ${line}`.trimEnd()));
    lines.push(`  ${style.dim("─".repeat(width))}`);
  }
  if (error.hint !== undefined) lines.push(`${style.cyan("hint:")} ${printable(error.hint)}`);
  return lines;
}

/** The same as data, for `--json`: `{"error":{"code","message","operation","subject","reason","hint","log"}}`. */
export function errorDocument(error: SporeletError): unknown {
  return { error: { code: error.code, message: error.message, ...error.toJSON() } };
}

/** Stack and causes of an error, for SPORELET_DEBUG. */
export function errorTrace(error: unknown): string {
  const parts: string[] = [];
  for (
    let at: unknown = error;
    at !== undefined && parts.length < 10;
    at = at instanceof Error ? at.cause : undefined
  ) {
    parts.push(at instanceof Error ? (at.stack ?? String(at)) : String(at));
  }
  return parts.join("\ncaused by: ");
}
