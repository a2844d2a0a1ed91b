import type { Completion } from "../cli/command.ts";
import type { CompletedCommand, CompletionModel } from "./model.ts";

/** The completion script for bash: works with and without the package bash-completion. */
export function bashScript(model: CompletionModel): string {
  const families = model.firstWords.filter(({ seconds }) => seconds.length > 0);
  return `# bash completion for sporectl; made by: sporectl completion bash

# Candidates from a list of words. COMP_WORDS is split at ":" and "=", cur is not.
_sporectl_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }

# Names that exist now; nothing when spored does not run.
_sporectl_names() { _sporectl_words "$("\${words[0]}" __complete "$@" 2>/dev/null)"; }

_sporectl_files() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen "$1" -- "$cur"); }

_sporectl_value() {
  case $1 in
    machines|snapshots|entries) _sporectl_names "$1" ;;
    sources) _sporectl_names sources "\${positional[0]}" ;;
    files) _sporectl_files -f ;;
    directories) _sporectl_files -d ;;
    paths)
      if [[ $cur == [./~]* ]]; then _sporectl_files -f; return; fi
      _sporectl_files -f
      local names=("\${COMPREPLY[@]}")
      [[ $1 == paths && $command == cp ]] || return
      _sporectl_names machines
      compopt -o nospace 2>/dev/null
      COMPREPLY=("\${names[@]}" "\${COMPREPLY[@]/%/:}")
      ;;
    words:*) _sporectl_words "\${1#words:}" ;;
  esac
}

_sporectl() {
  local cur words cword
  COMPREPLY=()
  # Put words back together that were split at ":" and "=".
  local i line=\${COMP_LINE:0:COMP_POINT}
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  cword=$((\${#words[@]} - 1))
  cur=\${words[cword]}
  local prev=\${words[cword - 1]}

  local command="" positional=() value_for="" over=false
  for ((i = 1; i < cword; i++)); do
    local word=\${words[i]}
    if [[ $over == true ]]; then positional+=("$word"); continue; fi
    if [[ $word == -- ]]; then over=true; continue; fi
    if [[ $word == -* ]]; then
      case "$command:$word" in
${[...valueFlags(model)].map((pattern) => `        ${pattern}) i=$((i + 1)) ;;`).join("\n")}
      esac
      continue
    fi
    case $command in
      "") command=$word ;;
      ${families.map(({ word }) => word).join("|")}) command="$command $word" ;;
      *) positional+=("$word") ;;
    esac
  done

  case $command in
    "")
      if [[ $cur == -* ]]; then _sporectl_words "--home --quiet --version --help"
      elif [[ $prev == --home ]]; then _sporectl_value directories
      else _sporectl_words "${model.firstWords.map(({ word }) => word).join(" ")}"; fi ;;
    help) _sporectl_words "${model.firstWords.map(({ word }) => word).join(" ")}" ;;
${families.map(({ word, seconds }) => `    ${word}) _sporectl_words "${seconds.map((second) => second.word).join(" ")}" ;;`).join("\n")}
${model.commands.map(commandCase).join("\n")}
  esac

  # Readline inserts after the last ":" or "=" of a word.
  local head=\${cur%"\${cur##*[:=]}"}
  if [[ -n $head && $COMP_WORDBREAKS == *[:=]* ]]; then COMPREPLY=("\${COMPREPLY[@]#"$head"}"); fi
}

complete -F _sporectl sporectl
`;
}

/** \`command:flag\` patterns of the options whose next word is their value. */
function* valueFlags(model: CompletionModel): Generator<string> {
  for (const { path, options } of model.commands) {
    const flags = options.filter((option) => option.takesValue).flatMap((option) => option.flags);
    if (flags.length > 0) yield flags.map((flag) => `"${path}:${flag}"`).join("|");
  }
  yield '":--home"';
}

function commandCase(command: CompletedCommand): string {
  const values = command.options.filter((option) => option.takesValue);
  const valueCases = values.map(
    (option) => `        ${option.flags.join("|")}) ${valueCall(option.complete)}; return ;;`,
  );
  const flags = command.options.flatMap((option) => option.flags).join(" ");
  const positions = command.args.map((argument, i) => {
    const pattern = argument.variadic ? "*" : String(i);
    return `        ${pattern}) ${valueCall(argument.complete)} ;;`;
  });
  const pass = command.passThrough ? ` && \${#positional[@]} -eq 0` : "";
  return `    "${command.path}")
      case $prev in
${valueCases.join("\n")}
      esac
      if [[ $cur == -* && $over == false${pass} ]]; then _sporectl_words "${flags}"; return; fi
      case \${#positional[@]} in
${positions.join("\n")}
        *) : ;;
      esac ;;`;
}

function valueCall(complete: Completion | undefined): string {
  if (complete === undefined) return ":";
  return typeof complete === "string"
    ? `_sporectl_value ${complete}`
    : `_sporectl_value "words:${complete.join(" ")}"`;
}
