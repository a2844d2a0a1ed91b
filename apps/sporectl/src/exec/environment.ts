import { readFileSync } from "node:fs";
import path from "node:path";
import { SporeletError } from "@sporelet/errors";
import type { Context } from "../cli/context.ts";
import { collectVariables, parseEnvFile } from "../cli/parse.ts";
import { UsageError, usageError } from "../cli/usage.ts";

/**
 * The variables of `--env-file` and `-e`; a later file wins over an earlier one, `-e` over all files.
 * @throws SporeletError invalid_argument for a malformed variable, not_found for a missing file
 */
export function environmentOf(
  context: Context,
  variables: readonly string[],
  files: readonly string[],
): Record<string, string> {
  const { cwd, env } = context.io;
  let at = "-e";
  try {
    const collected: Record<string, string> = {};
    for (const file of files) {
      at = `--env-file ${file}`;
      Object.assign(collected, parseEnvFile(read(path.resolve(cwd, file)), env));
    }
    at = "-e";
    return Object.assign(collected, collectVariables(variables, env));
  } catch (error) {
    if (error instanceof UsageError) throw usageError(context.command, `${at}: ${error.message}`, error.hint);
    throw error;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "path" in error) delete error.path;
    throw SporeletError.from(error, { operation: "read the environment file", subject: file });
  }
}

/** -t with -i needs a terminal to read from, as `docker exec -it` does. */
export function checkTerminal(context: Context, options: { interactive: boolean; tty: boolean }): void {
  if (options.tty && options.interactive && context.io.stdin.isTTY !== true) {
    throw usageError(
      context.command,
      "-t with -i needs a terminal, and standard input is none",
      "leave out -t",
    );
  }
}
