import type { CommandDefinition, CommandGroup, OptionDefinition } from "../cli/command.ts";
import { extraOptions, unwrapped } from "../cli/program.ts";

/** The pages of docs/cli, by file name, made from the table of commands. */
export function referencePages(groups: readonly CommandGroup[]): Map<string, string> {
  const shown = groups.map(({ title, commands }) => ({
    title,
    commands: commands.filter((command) => !command.hidden),
  }));
  const pages = new Map([["README.md", indexPage(shown)]]);
  for (const { commands } of shown)
    for (const command of commands) pages.set(fileOf(command), commandPage(command));
  return pages;
}

function fileOf({ name }: CommandDefinition): string {
  return `sporectl-${name.replace(" ", "-")}.md`;
}

function indexPage(groups: readonly CommandGroup[]): string {
  const lists = groups.map(({ title, commands }) => {
    const lines = commands.map(
      (command) => `- [\`sporectl ${command.name}\`](${fileOf(command)}): ${command.summary}`,
    );
    return `## ${title}\n\n${lines.join("\n")}`;
  });
  return `${head}# sporectl

Freezes microVMs and brings clones of them back in milliseconds.

Results go to standard output, everything else to standard error. \`--json\` prints one JSON document, also
when the command fails: \`{"error": {"code", "message", "operation", "subject", "reason", "hint", "log"}}\`,
while the same goes to standard error for people. The [exit codes](../exit-codes.md) tell what kind of failure
it was.

| variable | meaning |
| --- | --- |
| \`SPORELET_HOME\` | state directory; default: \`/var/lib/sporelet\` for root, else \`$XDG_DATA_HOME/sporelet\` |
| \`NO_COLOR\` | no colour on a terminal either |
| \`SPORELET_DEBUG\` | the stack and the causes of an error |
| \`SPORELET_SPORED\` | the program that is started as spored |

${lists.join("\n\n")}
`;
}

const head = "<!-- Made from the table of commands: tools/check-cli-reference --write -->\n\n";

function commandPage(command: CommandDefinition): string {
  const { args, options } = command.signature;
  const parts = [
    `${head}# sporectl ${command.name}\n\n${command.summary}.`,
    `\`\`\`text\n${usage(command)}\n\`\`\``,
    unwrapped(command.description),
  ];
  const argRows = Object.values(args).map(
    ({ name, description }) => `| \`${cell(name)}\` | ${cell(description)} |`,
  );
  if (argRows.length > 0) parts.push(`## Arguments\n\n| argument | |\n| --- | --- |\n${argRows.join("\n")}`);
  const own = Object.values(options);
  if (own.length > 0) parts.push(`## Options\n\n${optionTable(own)}`);
  parts.push(`## Global options\n\n${optionTable(extraOptions(command))}`);
  const examples = command.examples.map(([line, effect]) => `${effect}:\n\n\`\`\`sh\n${line}\n\`\`\``);
  if (examples.length > 0) parts.push(`## Examples\n\n${examples.join("\n\n")}`);
  return `${parts.join("\n\n")}\n`;
}

function usage({ name, signature, passThrough }: CommandDefinition): string {
  const words = Object.values(signature.args).map((argument) => {
    const word = argument.variadic ? `${argument.name}...` : argument.name;
    const dashes = argument.name === "CMD" && !passThrough ? "-- " : "";
    return argument.required ? word : `[${dashes}${word}]`;
  });
  return ["sporectl", name, "[options]", ...words].join(" ");
}

function optionTable(options: readonly OptionDefinition[]): string {
  const rows = options.map(({ flags, description }) => `| \`${cell(flags)}\` | ${cell(description)} |`);
  return `| option | |\n| --- | --- |\n${rows.join("\n")}`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}
