import { nearest, type SporeletError } from "@sporelet/errors";
import type { Command, CommanderError } from "commander";
import { usageError } from "./usage.ts";

/**
 * Says what is wrong with a command line, in the house's form, with the nearest words that exist.
 * @param argv without the names of interpreter and program
 */
export function explainCommanderError(
  error: CommanderError,
  root: Command,
  argv: readonly string[],
): SporeletError {
  const command = commandOf(root, argv);
  const name = fullName(command);
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? "";
  switch (error.code) {
    case "commander.unknownCommand": {
      const candidates = command.commands.filter((child) => !isHidden(child)).map((child) => child.name());
      return usageError(
        name,
        `there is no command ${quoted}`,
        suggestion(quoted, candidates) ?? `${name} --help lists the commands`,
      );
    }
    case "commander.unknownOption": {
      const flags = command.options.flatMap((option) => (option.long == null ? [] : [option.long]));
      // Two dashes only: with one, every letter is near to every other.
      const near = quoted.startsWith("--") ? suggestion(quoted.replace(/=.*/, ""), flags) : undefined;
      return usageError(name, `there is no option ${quoted}`, near ?? otherOptions(command, name));
    }
    case "commander.missingArgument":
      return usageError(name, `${quoted} is missing`);
    case "commander.optionMissingArgument":
      return usageError(name, `option ${quoted} needs a value`);
    case "commander.excessArguments":
      return usageError(name, excess(error, command));
    default: {
      const { hint } = error as CommanderError & { hint?: string };
      return usageError(name, error.message.replace(/^error: /, ""), hint);
    }
  }
}

function excess(error: CommanderError, command: Command): string {
  const got = /but got (\d+)/.exec(error.message)?.[1] ?? "more";
  const taken = command.registeredArguments.length;
  return `it takes ${taken === 0 ? "no arguments" : taken === 1 ? "one argument" : `${taken} arguments`}, not ${got}`;
}

function otherOptions(command: Command, name: string): string {
  const takesCommand = command.registeredArguments.some((argument) => argument.name() === "CMD");
  return takesCommand
    ? `put -- before a command that has options of its own; ${name} --help lists those of sporectl`
    : `${name} --help lists the options`;
}

function suggestion(given: string, candidates: string[]): string | undefined {
  const near = nearest(given, candidates);
  // Two letters that changed places count as two edits, too many for a short word.
  const letters = (word: string) => [...word].sort().join("");
  if (near.length === 0)
    near.push(...candidates.filter((candidate) => letters(candidate) === letters(given)));
  return near.length === 0 ? undefined : `did you mean ${near.join(" or ")}?`;
}

/** The command that a command line reached before it went wrong. */
function commandOf(root: Command, argv: readonly string[]): Command {
  let command = root;
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? "";
    if (word === "--") break;
    if (word.startsWith("-")) {
      const option = command.options.find((candidate) => candidate.short === word || candidate.long === word);
      if (option?.required) i += 1;
      continue;
    }
    const child: Command | undefined = command.commands.find((candidate) => candidate.name() === word);
    if (child === undefined) break;
    command = child;
  }
  return command;
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

function isHidden(command: Command): boolean {
  return (command as unknown as { _hidden?: boolean })._hidden === true || command.name().startsWith("__");
}
