#!/bin/sh
# Runs a command each time this machine has become a new clone, with the new generation id as its last argument:
#
#   on-generation.sh pkill -HUP myserver
#
# It comes a moment after the clone's programs go on. What must not be late is a hook (after-resume.d), which is
# waited for before the machine is ready, or looks at /run/sporelet/generation-id itself.
set -eu
directory=${SPORELET_RUN:-/run/sporelet}
known=$(cat "$directory/generation-id")
while :; do
  # Opened before the id is looked at: a generation that begins after that ends what is read from it, and one that began
  # before, while the command ran for instance, is seen by its id.
  exec 3<"$directory/next-generation"
  id=$(cat "$directory/generation-id")
  if [ "$id" = "$known" ]; then
    cat <&3
    continue
  fi
  known=$id
  "$@" "$id" || echo "on-generation: $* ended with $?" >&2
done
