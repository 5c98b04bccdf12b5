#!/bin/sh
# A roll over serving nodes: three of them, a real control plane, 50 new connections a second each.
# iptables -> ipvs -> iptables -> nftables -> ipvs, and not one connection fails. For nftables, which
# Debian's kube-proxy 1.20 lacks, a stand-in does what a newer one does in the kernel.
set -eu

lab=$(mktemp -d)/lab
inventory=$lab/inventory.yaml
nodes='node1 node2 node3'
XDG_STATE_HOME=${lab%/lab}/state
export XDG_STATE_HOME

finish() {
  nodeprep lab down --dir "$lab" >/dev/null 2>&1 || :
  rm -rf -- "${lab%/lab}"
}
trap finish EXIT
trap 'exit 130' INT TERM

show() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@"
}

say() {
  printf '\n\033[1;34m== %s\033[0m\n' "$*"
}

on() {
  node=$1
  shift
  nodeprep lab ssh --dir "$lab" "$node" -- "$*"
}

# The inventory says what the nodes should be; `apply` prepares them for it and leaves a serving
# kube-proxy alone: it is then "not as wanted" (1) until it is switched.
prepare_for() {
  sed -i "s/mode: .*/mode: $1/" "$inventory"
  nodeprep apply -i "$inventory" >"${lab%/lab}/apply" || [ $? -eq 1 ] ||
    { cat "${lab%/lab}/apply"; exit 1; }
}

begin_load() {
  for node in $nodes; do
    on "$node" 'rm -f /run/load.json; systemctl reset-failed lab-load 2>/dev/null
      systemd-run --quiet --unit=lab-load lab-traffic load --to 10.254.7.7:80 --rate 50 --reset \
        --seconds 1800 --out /run/load.json'
  done
}

end_load() {
  for node in $nodes; do
    on "$node" 'systemctl stop lab-load; cat /run/load.json' >"${lab%/lab}/load"
    python3 - "$node" "${lab%/lab}/load" <<'END'
import json, sys
load = json.load(open(sys.argv[2]))
print(f"{sys.argv[1]}: {load['attempted']} connections, {load['failed']} failed, "
      f"slowest {load['latency_ms']['max']:.0f} ms")
sys.exit(load["failed"] > 0)
END
  done
}

switch_to() {
  say "$1 mode, under load"
  prepare_for "$1"
  begin_load
  show nodeprep switch --to "$1" -i "$inventory" --yes --soak 5s --linger 5s
  end_load
}

say 'Three nodes, a real control plane, services with endpoints'
show nodeprep lab up --cluster --dir "$lab" --nodes 3
show nodeprep apply -i "$inventory" >"${lab%/lab}/apply" || { cat "${lab%/lab}/apply"; exit 1; }
tail -n 2 "${lab%/lab}/apply"

say 'What a roll would do, and what it would warn of'
prepare_for ipvs
show nodeprep switch --to ipvs -i "$inventory" --dry-run

switch_to ipvs
switch_to iptables

say "A newer kube-proxy's stand-in takes the place of the real one, in the same mode"
sed -i 's|^  kube_proxy:|&\n    binary: /usr/local/bin/kube-proxy-stand-in|' "$inventory"
show nodeprep apply -i "$inventory" >"${lab%/lab}/apply" || { cat "${lab%/lab}/apply"; exit 1; }
tail -n 2 "${lab%/lab}/apply"

switch_to nftables
switch_to ipvs

say 'What was done'
show nodeprep runs
show nodeprep verify --quiet -i "$inventory"
