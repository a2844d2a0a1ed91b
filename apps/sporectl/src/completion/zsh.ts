import type { Completion } from "../cli/command.ts";
import type { CompletedCommand, CompletedOption, CompletionModel } from "./model.ts";

/** The completion script for zsh, a file named _sporectl in fpath. */
export function zshScript(model: CompletionModel): string {
  const families = model.firstWords.filter(({ seconds }) => seconds.length > 0);
  const plain = model.commands.filter(({ path }) => !path.includes(" "));
  return `#compdef sporectl
# zsh completion for sporectl; made by: sporectl completion zsh

_sporectl_names() {
  local -a names
  names=("\${(@f)$(_call_program names \${(q)program} __complete "$@" 2>/dev/null)}")
  names=(\${names:#})
  compadd -a names
}
_sporectl_machines() { _sporectl_names machines }
_sporectl_snapshots() { _sporectl_names snapshots }
_sporectl_entries() { _sporectl_names entries }
_sporectl_sources() { _sporectl_names sources "\${line[1]}" }
_sporectl_paths() {
  if [[ $words[1] == cp ]]; then
    local -a names
    names=("\${(@f)$(_call_program names \${(q)program} __complete machines 2>/dev/null)}")
    names=(\${names:#})
    compadd -S '' -- \${names/%/:}
  fi
  _files
}

_sporectl() {
  local context state state_descr curcontext="$curcontext" ret=1 program=$words[1]
  local -a line
  typeset -A opt_args
  _arguments -C \\
    '--home=[state directory]:directory:_directories' \\
    '(-q --quiet)'{-q,--quiet}'[no progress and no notices]' \\
    '(-V --version)'{-V,--version}'[print the version]' \\
    '(-h --help)'{-h,--help}'[print help]' \\
    '1:command:->command' \\
    '*::argument:->argument' && ret=0
  case $state in
    command)
      local -a commands=(
${model.firstWords.map(({ word, summary }) => `        ${quote(`${word}:${summary}`)}`).join("\n")}
      )
      _describe -t commands command commands && ret=0 ;;
    argument)
      case $words[1] in
${plain.map((command) => `        ${command.path})\n${argumentsCall(command, 10)} && ret=0 ;;`).join("\n")}
${families.map((family) => familyCase(family.word, family.seconds, model)).join("\n")}
      esac ;;
  esac
  return ret
}

if [[ $funcstack[1] == _sporectl ]]; then _sporectl "$@"; else compdef _sporectl sporectl; fi
`;
}

function familyCase(
  word: string,
  seconds: { word: string; summary: string }[],
  model: CompletionModel,
): string {
  const commands = model.commands.filter(({ path }) => path.startsWith(`${word} `));
  return `        ${word})
          if ((CURRENT == 2)); then
            local -a commands=(
${seconds.map((second) => `              ${quote(`${second.word}:${second.summary}`)}`).join("\n")}
            )
            _describe -t commands command commands && ret=0
          else
            shift words
            ((CURRENT--))
            case $words[1] in
${commands.map((command) => `              ${command.path.split(" ")[1]})\n${argumentsCall(command, 16)} && ret=0 ;;`).join("\n")}
            esac
          fi ;;`;
}

function argumentsCall(command: CompletedCommand, indent: number): string {
  const specs = [
    ...command.options.map(optionSpec),
    ...command.args.map((argument, i) => argumentSpec(argument, i, command.passThrough)),
  ];
  const pad = " ".repeat(indent);
  return `${pad}_arguments -S -s ${specs.join(` \\\n${pad}  `)}`;
}

function optionSpec({ flags, description, takesValue, repeats, complete }: CompletedOption): string {
  const text = `[${escaped(description)}]${takesValue ? `:value:${action(complete)}` : ""}`;
  const [first = "", second] = flags;
  if (second === undefined) return `${repeats ? "'*'" : ""}${first}${takesValue ? "=" : ""}${quote(text)}`;
  const exclusive = repeats ? "'*'" : `'(${first} ${second})'`;
  const names = takesValue ? `{${first}+,${second}=}` : `{${first},${second}}`;
  return `${exclusive}${names}${quote(text)}`;
}

function argumentSpec(
  argument: CompletedCommand["args"][number],
  index: number,
  passThrough: boolean,
): string {
  const name = escaped(argument.name);
  if (argument.variadic && passThrough) return quote(`*::${name}:_normal`);
  if (argument.name === "CMD") return quote("*:::command:_normal");
  return quote(`${argument.variadic ? "*" : index + 1}:${name}:${action(argument.complete)}`);
}

function action(complete: Completion | undefined): string {
  if (complete === undefined) return " ";
  if (typeof complete !== "string") return `(${complete.join(" ")})`;
  if (complete === "files") return "_files";
  return complete === "directories" ? "_directories" : `_sporectl_${complete}`;
}

/** Colons and brackets mean something in specs. */
function escaped(text: string): string {
  return text.replace(/[[\]:\\]/g, "\\$&");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
