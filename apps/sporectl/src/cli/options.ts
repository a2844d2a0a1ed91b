import type { Completion, OptionDefinition } from "./command.ts";

/** An option without a value; false when not given. */
export function flag(flags: string, description: string): OptionDefinition<boolean> {
  return { flags, description, initial: false };
}

/** A `--no-x` option; its value `x` is true when not given. */
export function negatable(flags: string, description: string): OptionDefinition<boolean> {
  return { flags, description, initial: true };
}

/** An option with a string value; undefined when not given. The last occurrence counts. */
export function text(
  flags: string,
  description: string,
  complete?: Completion,
): OptionDefinition<string | undefined> {
  return { flags, description, initial: undefined, ...(complete && { complete }) };
}

/** An option whose value is parsed; `initial` when not given. The last occurrence counts. */
export function value<T>(
  flags: string,
  description: string,
  parse: (value: string) => T,
  initial: T,
  complete?: Completion,
): OptionDefinition<T> {
  return { flags, description, initial, parse: (given) => parse(given), ...(complete && { complete }) };
}

/** An option that may be given several times; an empty list when not given. */
export function list<T>(
  flags: string,
  description: string,
  parse: (value: string) => T,
  complete?: Completion,
): OptionDefinition<T[]> {
  return {
    flags,
    description,
    initial: [],
    parse: (given, previous) => [...previous, parse(given)],
    ...(complete && { complete }),
  };
}

/** Options of every command. */
export const globalOptions = {
  home: text(
    "--home <dir>",
    "state directory (default: $SPORELET_HOME, else /var/lib/sporelet for root)",
    "directories",
  ),
  quiet: flag("-q, --quiet", "no progress and no notices; results are reduced to identifiers"),
};

/** The option of every command that prints data. */
export const jsonOption = flag("--json", "print data as one JSON document");
