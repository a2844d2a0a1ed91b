import type { Context } from "./context.ts";

/** What the shell completes an option's or an argument's value with; a list: these words. */
export type Completion =
  | "machines"
  | "snapshots"
  | "entries"
  | "files"
  | "directories"
  | "paths"
  | "sources"
  | readonly string[];

/** One option of a command. `T` is the type of its value in the action; `initial` is what it is when not given. */
export interface OptionDefinition<T = unknown> {
  /** `-n, --name <value>`, as commander reads it. */
  flags: string;
  description: string;
  initial: T;
  /** Turns one occurrence into the value; `previous` is what earlier occurrences made. Throws a UsageError. */
  parse?(value: string, previous: T): T;
  complete?: Completion;
}

/** One positional argument. `T` is the type of its value in the action. */
export interface ArgumentDefinition<T = unknown> {
  /** Upper case, as in the usage line. */
  name: string;
  description: string;
  required: boolean;
  /** Takes all that follow. */
  variadic: boolean;
  complete?: Completion;
  /** Never set: carries the type. */
  type?: T;
}

type OptionDefinitions = Record<string, OptionDefinition>;
type ArgumentDefinitions = Record<string, ArgumentDefinition>;

/** The values of a set of arguments or options, as an action sees them. */
export type Values<D> = {
  readonly [K in keyof D]: D[K] extends OptionDefinition<infer T> | ArgumentDefinition<infer T> ? T : never;
};

/** What a command takes: its part of the definition that the types of its action follow from. */
export interface Signature<
  A extends ArgumentDefinitions = ArgumentDefinitions,
  O extends OptionDefinitions = OptionDefinitions,
> {
  /** In the order of the command line. */
  args: A;
  options: O;
}

/** Does the work of a command. @returns the exit code; undefined means 0. */
export type Action<S extends Signature> = (
  context: Context,
  args: Values<S["args"]>,
  options: Values<S["options"]>,
) => Promise<number | undefined>;

export interface CommandDefinition<S extends Signature = Signature> {
  /** One word, or two for a command of a group: `snapshot create`. */
  name: string;
  /** One line without a full stop, for the list of commands. */
  summary: string;
  /** Paragraphs of the long help. */
  description: string;
  signature: S;
  /** Command line, and what it does. */
  examples: readonly (readonly [command: string, effect: string])[];
  /** Whether it prints data and takes `--json`. Default: false. */
  json?: boolean;
  /** Options after the first argument are left to a command that follows. Default: false. */
  passThrough?: boolean;
  /** Not shown in the help, the reference and the completion. Default: false. */
  hidden?: boolean;
  /** Loads the action, so that a command pays for its own imports only. */
  load: () => Promise<{ action: Action<S> }>;
}

/** Commands that are listed together. */
export interface CommandGroup {
  title: string;
  commands: readonly CommandDefinition[];
}

/** Checks a definition against its action, and hides their types from the table. */
export function defineCommand<S extends Signature>(definition: CommandDefinition<S>): CommandDefinition {
  return definition as unknown as CommandDefinition;
}
