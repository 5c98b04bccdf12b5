#!/bin/sh
# From bare machines to verified nodes: three virtual ones, each with a kernel of its own.
# Needs what `make demo` installs; leaves no process and no file behind but the cached image.
set -eu

lab=$(mktemp -d)/lab
inventory=$lab/inventory.yaml

finish() {
  nodeprep lab down --dir "$lab" >/dev/null 2>&1 || :
  rm -f "${lab%/lab}/again"
  rmdir "${lab%/lab}" 2>/dev/null || :
}
trap finish EXIT
trap 'exit 130' INT TERM

show() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@"
}

# Runs a command that must end with the given status: 1 says "not as wanted", and is right here.
show_status() {
  wanted=$1
  shift
  status=0
  show "$@" || status=$?
  printf '(exit status %d)\n' "$status"
  [ "$status" -eq "$wanted" ]
}

say() {
  printf '\n\033[1;34m== %s\033[0m\n' "$*"
}

say 'Three bare machines'
show nodeprep lab up --dir "$lab" --nodes 3

say 'What is missing, and what would be done about it'
show_status 1 nodeprep verify --quiet -i "$inventory" --limit node1
show_status 1 nodeprep plan -i "$inventory"

say 'One command makes them ready'
show nodeprep apply -i "$inventory"

say 'Another proves it'
show nodeprep verify -i "$inventory"

say 'Running either again changes nothing'
show nodeprep apply -i "$inventory" >"${lab%/lab}/again"
cat "${lab%/lab}/again"
grep -q "^0 changes made" "${lab%/lab}/again"

say 'A reboot loses nothing'
show nodeprep lab reboot --dir "$lab" node2
show nodeprep verify --quiet -i "$inventory" --limit node2
show nodeprep lab ssh --dir "$lab" node2 -- \
  'lsmod | grep -E "^(ip_vs|br_netfilter)"; grep -H . /proc/sys/net/bridge/bridge-nf-call-iptables'

say 'And the machines are gone'
show nodeprep lab down --dir "$lab"
for process in /proc/[0-9]*/cmdline; do
  case $(tr '\0' ' ' <"$process" 2>/dev/null) in
    *"$lab"*)
      echo "left behind: $process" >&2
      exit 1
      ;;
  esac
done
