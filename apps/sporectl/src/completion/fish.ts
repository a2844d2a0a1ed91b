import type { Completion } from "../cli/command.ts";
import type { CompletedCommand, CompletionModel } from "./model.ts";

/** The completion script for fish. */
export function fishScript(model: CompletionModel): string {
  const families = model.firstWords.filter(({ seconds }) => seconds.length > 0);
  const valueFlags = new Set(
    model.commands.flatMap(({ options }) =>
      options.filter((option) => option.takesValue).flatMap((option) => option.flags),
    ),
  );
  return `# fish completion for sporectl; made by: sporectl completion fish

# The words before the cursor that are neither options nor their values.
function __sporectl_positional
    set -l skip 0
    for word in (commandline -opc)[2..]
        if test $skip = 1
            set skip 0
        else if contains -- $word ${[...valueFlags].join(" ")}
            set skip 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

# Whether the command is the one named, with so many arguments after it; "any" for any number.
function __sporectl_at
    set -l words (__sporectl_positional)
    set -l path (string split ' ' -- $argv[1])
    set -l length (count $path)
    test "$words[1..$length]" = "$argv[1]"; or return 1
    test "$argv[2]" = any; or test (math (count $words) - $length) = "$argv[2]"
end

function __sporectl_none
    test (count (__sporectl_positional)) = 0
end

function __sporectl_family
    test "$(__sporectl_positional)" = $argv[1]
end

# Names that exist now; nothing when spored does not run.
function __sporectl_names
    command sporectl __complete $argv 2>/dev/null
end

complete -c sporectl -f
complete -c sporectl -n __sporectl_none -l version -s V -d 'print the version'
${model.firstWords.map(({ word, summary }) => `complete -c sporectl -n __sporectl_none -a ${word} -d ${quote(summary)}`).join("\n")}
${families.flatMap(({ word, seconds }) => seconds.map((second) => `complete -c sporectl -n '__sporectl_family ${word}' -a ${second.word} -d ${quote(second.summary)}`)).join("\n")}

${model.commands.map(commandLines).join("\n\n")}
`;
}

function commandLines(command: CompletedCommand): string {
  const options = command.options.map((option) => {
    const names = option.flags
      .map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`))
      .join(" ");
    const value = option.takesValue ? ` -r ${values(option.complete, command)}` : "";
    return `complete -c sporectl -n '__sporectl_at "${command.path}" any' ${names}${value} -d ${quote(option.description)}`;
  });
  const args = command.args
    .map((argument, i) => ({ ...argument, position: argument.variadic ? "any" : String(i) }))
    .filter(({ complete }) => complete !== undefined)
    .map(
      ({ complete, position }) =>
        `complete -c sporectl -n '__sporectl_at "${command.path}" ${position}' ${values(complete, command)}`,
    );
  return [...options, ...args].join("\n");
}

function values(complete: Completion | undefined, command: CompletedCommand): string {
  if (complete === undefined) return "-f";
  if (typeof complete !== "string") return `-f -a '${complete.join(" ")}'`;
  switch (complete) {
    case "machines":
    case "snapshots":
    case "entries":
      return `-f -a '(__sporectl_names ${complete})'`;
    case "sources":
      return "-f -a '(__sporectl_names sources (__sporectl_positional)[2])'";
    case "directories":
      return "-f -a '(__fish_complete_directories)'";
    case "paths":
      return command.path === "cp"
        ? "-F -a '(__sporectl_names machines | string replace -r \\'$\\' :)'"
        : "-F";
    case "files":
      return "-F";
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
