# Sourced by the set-up scripts: runs long commands as steps with a title, a running clock on a terminal, a
# log, and the log's tail when they fail.
# shellcheck shell=bash
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
log="$top/out/setup.log"
mkdir -p "$top/out"

say() { printf '%s\n' "$*" >&2; }

# step TITLE COMMAND...: run it with its output in the log.
step() {
  local title=$1 started=$SECONDS status=0 pid
  shift
  printf '\n== %s: %s\n' "$title" "$*" >>"$log"
  "$@" >>"$log" 2>&1 </dev/null &
  pid=$!
  # An interrupted set-up ends what it started.
  trap 'kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; exit 130' INT TERM
  if [ -t 2 ]; then
    local frames='|/-\' i=0
    while kill -0 "$pid" 2>/dev/null; do
      printf '\r\033[K  %s %s (%ds)' "${frames:i++%4:1}" "$title" "$((SECONDS - started))" >&2
      sleep 0.2
    done
    printf '\r\033[K' >&2
  fi
  wait "$pid" || status=$?
  trap - INT TERM
  if [ "$status" -ne 0 ]; then
    say "  failed: $title (exit code $status); the end of $log:"
    tail -n 25 "$log" | sed 's/^/    /' >&2
    exit "$status"
  fi
  say "  done: $title ($((SECONDS - started))s)"
}
