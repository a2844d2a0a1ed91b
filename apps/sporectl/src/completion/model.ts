import type { CommandDefinition, CommandGroup, Completion } from "../cli/command.ts";
import { extraOptions, flagNames } from "../cli/program.ts";

/** What a shell needs to know of one command. */
export interface CompletedCommand {
  /** `snapshot create` */
  path: string;
  summary: string;
  options: CompletedOption[];
  args: { name: string; variadic: boolean; complete: Completion | undefined }[];
  /** What follows the first argument is a command line of its own. */
  passThrough: boolean;
}

export interface CompletedOption {
  /** `-n`, `--count` */
  flags: string[];
  description: string;
  takesValue: boolean;
  /** May be given several times. */
  repeats: boolean;
  complete: Completion | undefined;
}

/** A first word: a command, or what several commands share. */
interface FirstWord {
  word: string;
  summary: string;
  /** Second words, when several share it. */
  seconds: { word: string; summary: string }[];
}

export interface CompletionModel {
  firstWords: FirstWord[];
  commands: CompletedCommand[];
}

/** Walks the table of commands. */
export function completionModel(
  groups: readonly CommandGroup[],
  families: Readonly<Record<string, string>>,
): CompletionModel {
  const definitions = groups.flatMap((group) => group.commands).filter((definition) => !definition.hidden);
  const firstWords: FirstWord[] = [];
  for (const definition of definitions) {
    const [word = "", second] = definition.name.split(" ");
    let first = firstWords.find((candidate) => candidate.word === word);
    if (first === undefined) {
      first = {
        word,
        summary: second === undefined ? definition.summary : (families[word] ?? ""),
        seconds: [],
      };
      firstWords.push(first);
    }
    if (second !== undefined) first.seconds.push({ word: second, summary: definition.summary });
  }
  firstWords.push({ word: "help", summary: "Print help for a command", seconds: [] });
  return { firstWords, commands: definitions.map(completedCommand) };
}

function completedCommand(definition: CommandDefinition): CompletedCommand {
  const { args, options } = definition.signature;
  const all = [...Object.values(options), ...extraOptions(definition)];
  const help: CompletedOption = {
    flags: ["-h", "--help"],
    description: "print help",
    takesValue: false,
    repeats: false,
    complete: undefined,
  };
  return {
    path: definition.name,
    summary: definition.summary,
    passThrough: definition.passThrough === true,
    args: Object.values(args).map(({ name, variadic, complete }) => ({ name, variadic, complete })),
    options: [
      ...all.map((option) => ({
        flags: flagNames(option.flags),
        description: option.description,
        takesValue: option.flags.includes("<"),
        repeats: Array.isArray(option.initial),
        complete: option.complete,
      })),
      help,
    ],
  };
}
