import { Argument, Command, CommanderError, Option } from "commander";
import type { ArgumentDefinition, CommandDefinition, CommandGroup, OptionDefinition } from "./command.ts";
import { globalOptions, jsonOption } from "./options.ts";
import { UsageError } from "./usage.ts";

/** What a command line means: a command with its values, or a text to print. */
export type Parsed =
  | {
      kind: "command";
      definition: CommandDefinition;
      args: Record<string, unknown>;
      options: Record<string, unknown>;
    }
  | { kind: "text"; text: string };

export interface Programme {
  groups: readonly CommandGroup[];
  /** Of the groups of two-word commands: `snapshot`. */
  families: Readonly<Record<string, string>>;
  version: string;
  columns: number;
}

/**
 * Reads a command line by the table of commands. Nothing is run.
 * @param argv without the names of interpreter and program
 * @throws SporeletError invalid_argument for a wrong call, with the nearest words
 */
export async function parseCommandLine(argv: readonly string[], programme: Programme): Promise<Parsed> {
  let text = "";
  let parsed: Parsed | undefined;
  const root = buildProgram(programme, (found) => {
    parsed = found;
  });
  configure(root, {
    columns: programme.columns,
    out: (part) => {
      text += part;
    },
  });
  try {
    await root.parseAsync(argv as string[], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0 || error.code === "commander.help") return { kind: "text", text };
    const { explainCommanderError } = await import("./suggest.ts");
    throw explainCommanderError(error, root, argv);
  }
  return parsed ?? { kind: "text", text: root.helpInformation() };
}

/** The commander program for a table of commands. `onCommand` gets what was read. */
function buildProgram(programme: Programme, onCommand: (parsed: Parsed) => void = () => {}): Command {
  const root = new Command("sporectl")
    .description("Freezes microVMs and brings clones of them back in milliseconds.")
    .usage("[options] COMMAND")
    .version(`sporectl ${programme.version}`, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .enablePositionalOptions();
  for (const option of Object.values(globalOptions)) root.addOption(toOption(option));
  const families = new Map<string, Command>();
  for (const group of programme.groups) {
    for (const definition of group.commands) {
      const [first = "", second] = definition.name.split(" ");
      let parent = root;
      if (second !== undefined) {
        parent = families.get(first) ?? addFamily(root, first, programme.families[first] ?? "", group.title);
        families.set(first, parent);
      }
      const command = toCommand(definition, second ?? first, onCommand);
      if (second === undefined) command.helpGroup(`${group.title}:`);
      parent.addCommand(command, { hidden: definition.hidden === true });
    }
  }
  const help = new Command("help").summary("Print help for a command").argument("[COMMAND]", "command");
  root.addHelpCommand(help.helpGroup(`${programme.groups.at(-1)?.title}:`));
  root.addHelpText("after", "\nsporectl COMMAND --help tells more about a command, with examples.");
  return root;
}

function addFamily(root: Command, name: string, summary: string, group: string): Command {
  const family = root
    .command(name)
    .summary(summary)
    .description(`${summary}.`)
    .usage("COMMAND")
    .helpGroup(`${group}:`);
  return family.helpOption("-h, --help", "print help").helpCommand(false);
}

function toCommand(
  definition: CommandDefinition,
  name: string,
  onCommand: (parsed: Parsed) => void,
): Command {
  const { args, options } = definition.signature;
  const command = new Command(name)
    .summary(definition.summary)
    .description(`${definition.summary}.\n\n${unwrapped(definition.description)}`.trimEnd())
    .helpOption("-h, --help", "print help")
    .passThroughOptions(definition.passThrough === true);
  for (const argument of Object.values(args)) command.addArgument(toArgument(argument));
  for (const option of Object.values(options)) command.addOption(toOption(option));
  command.optionsGroup("Global options:");
  for (const option of extraOptions(definition)) command.addOption(toOption(option));
  command.addHelpText("after", () => examplesText(definition));
  return command.action((...received: unknown[]) => {
    const values = received.slice(0, Object.keys(args).length);
    onCommand({
      kind: "command",
      definition,
      args: Object.fromEntries(Object.keys(args).map((key, i) => [key, values[i]])),
      options: valuesOf(definition, command),
    });
  });
}

/** Lines of a paragraph joined: the help wraps them to the terminal. */
export function unwrapped(text: string): string {
  return text.replace(/(?<!\n)\n(?!\n)/g, " ");
}

/** The values of a command's options; a global option counts before the command's name as well as after it. */
function valuesOf(definition: CommandDefinition, command: Command): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, { initial }] of Object.entries({
    ...globalOptions,
    json: jsonOption,
    ...definition.signature.options,
  })) {
    let given: unknown;
    for (let at: Command | null = command; at !== null; at = at.parent) given ??= at.opts()[name];
    values[name] = given ?? initial;
  }
  return values;
}

/** The global options that a command does not define itself. */
export function extraOptions(definition: CommandDefinition): OptionDefinition[] {
  const own = new Set(
    Object.values(definition.signature.options).flatMap((option) => flagNames(option.flags)),
  );
  const extra: OptionDefinition[] = definition.json ? [jsonOption] : [];
  return [...extra, ...Object.values(globalOptions)].filter(
    (option) => !flagNames(option.flags).some((name) => own.has(name)),
  );
}

/** `-n`, `--name` of `-n, --name <value>`. */
export function flagNames(flags: string): string[] {
  return flags.match(/(?<![\w-])--?[A-Za-z][\w-]*/g) ?? [];
}

function toArgument(definition: ArgumentDefinition): Argument {
  const name = definition.variadic ? `${definition.name}...` : definition.name;
  return new Argument(definition.required ? `<${name}>` : `[${name}]`, definition.description);
}

function toOption(definition: OptionDefinition): Option {
  const option = new Option(definition.flags, definition.description);
  const { parse } = definition;
  if (parse !== undefined) {
    option.argParser((value: string, previous: unknown) => {
      try {
        return parse(value, previous ?? definition.initial);
      } catch (error) {
        if (error instanceof UsageError) throw usageErrorOf(option, error);
        throw error;
      }
    });
  }
  return option;
}

function usageErrorOf(option: Option, error: UsageError): CommanderError {
  const flag = option.long ?? option.short ?? option.flags;
  return Object.assign(new CommanderError(2, "sporelet.usage", `${flag}: ${error.message}`), {
    hint: error.hint,
  });
}

function examplesText(definition: CommandDefinition): string {
  if (definition.examples.length === 0) return "";
  const lines = definition.examples.map(([command, effect]) => `  # ${effect}\n  ${command}`);
  return `\nExamples:\n${lines.join("\n\n")}\n`;
}

interface Rendering {
  columns: number;
  out: (text: string) => void;
}

function configure(command: Command, rendering: Rendering): void {
  const width = Math.min(rendering.columns, 100);
  command
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({
      writeOut: rendering.out,
      writeErr: rendering.out,
      getOutHelpWidth: () => width,
      getErrHelpWidth: () => width,
      getOutHasColors: () => false,
      outputError: () => {},
    })
    .configureHelp({
      showGlobalOptions: false,
      subcommandTerm: (sub) => sub.name(),
      argumentTerm: (argument) => argument.name(),
    });
  for (const child of command.commands) configure(child, rendering);
}
