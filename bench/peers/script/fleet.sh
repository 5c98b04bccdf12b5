#!/bin/sh
# Runs prepare.sh on nodes, 25 at once:  fleet.sh SSH_CONFIG NODE...
set -eu
config=$1
shift
cd "$(dirname "$0")"
# shellcheck disable=SC2016 # the inner shell's words are its own
printf '%s\n' "$@" |
  xargs -P 25 -I NODE sh -c 'exec ssh -F "$1" "$2" sh -s -- "$2" <prepare.sh' sh "$config" NODE
