#!/bin/sh
# The job by hand, in one session:  ssh root@NODE sh -s -- NODE <prepare.sh
#
# It changes what differs and no more, says each change, and looks again if it made one. Fails with
# what is missing. As a careful person writes it: a file is replaced whole or not at all, few
# processes look, and of a script that arrives cut off nothing runs (hence the braces).
{
set -eu
LC_ALL=C
export LC_ALL
name=$1

modules='br_netfilter nf_conntrack ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh'
packages='conntrack ipset ipvsadm iptables'
sysctls='# Managed by nodeprep: kernel parameters that kube-proxy needs. See sysctl.d(5).
net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
net.ipv4.tcp_keepalive_time = 600
net.ipv4.vs.conntrack = 1
net.ipv4.vs.expire_nodest_conn = 1
net.ipv4.vs.expire_quiescent_template = 1'

changes=0
changed() {
  printf 'changed: %s\n' "$*"
  changes=$((changes + 1))
}

# put PATH CONTENT
put() {
  if [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; then return; fi
  mkdir -p "${1%/*}"
  printf '%s\n' "$2" >"$1.new"
  sync "$1.new"
  mv -f "$1.new" "$1"
  changed "$1"
}

are_installed() {
  # shellcheck disable=SC2016,SC2086 # the field is dpkg's, the list is words
  said=$(dpkg-query -W -f='${db:Status-Abbrev}' $packages 2>/dev/null)
  [ "$said" = 'ii ii ii ii ' ]
}

# Sets `absent` to the modules that are not loaded.
look_at_modules() {
  absent=
  for module in $modules; do
    [ -d "/sys/module/$module" ] || absent="$absent $module"
  done
}

# One process asks for all of them; to a shell's own `read` the kernel gives but one digit.
are_set() {
  keys='' wanted=''
  while read -r key _ value; do
    [ "$key" != '#' ] || continue
    keys="$keys $key"
    wanted="$wanted${wanted:+
}$value"
  done <<END
$sysctls
END
  # shellcheck disable=SC2086 # the list is words
  is=$(sysctl -n $keys 2>/dev/null)
  [ "$is" = "$wanted" ]
}

is_enabled() { systemctl is-enabled --quiet kube-proxy.service 2>/dev/null; }

if ! are_installed; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update </dev/null
  # shellcheck disable=SC2086 # the list is words
  apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends $packages \
    </dev/null >/dev/null
  changed 'packages installed'
fi

put /etc/modules-load.d/nodeprep.conf '# Managed by nodeprep: modules that kube-proxy needs, loaded at every boot. See modules-load.d(5).
br_netfilter
nf_conntrack
ip_vs
ip_vs_rr
ip_vs_wrr
ip_vs_sh'
look_at_modules
if [ "$absent" ]; then
  # shellcheck disable=SC2086 # the list is words
  modprobe -a $absent
  changed "loaded$absent"
fi

put /etc/sysctl.d/99-nodeprep.conf "$sysctls"
if ! are_set; then
  sysctl -q -p /etc/sysctl.d/99-nodeprep.conf
  changed 'kernel parameters set'
fi

before=$changes
put /etc/systemd/system/kube-proxy.service '# Managed by nodeprep
[Unit]
Description=Kubernetes Kube-Proxy Server
Documentation=https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/
After=network.target
ConditionFileIsExecutable=/usr/local/bin/kube-proxy

[Service]
WorkingDirectory=/var/lib/kube-proxy
ExecStart=/usr/local/bin/kube-proxy \
  --config=/var/lib/kube-proxy/config.yaml \
  --v=2
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target'
[ "$changes" = "$before" ] || systemctl daemon-reload
put /var/lib/kube-proxy/config.yaml '# Managed by nodeprep
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: "0.0.0.0"
hostnameOverride: "'"$name"'"
clientConnection:
  kubeconfig: "/etc/kubernetes/kube-proxy.kubeconfig"
clusterCIDR: "10.254.0.0/16"
mode: "ipvs"
healthzBindAddress: "0.0.0.0:10256"
metricsBindAddress: "127.0.0.1:10249"
iptables:
  masqueradeAll: false
  syncPeriod: "30s"
  minSyncPeriod: "2s"
ipvs:
  scheduler: "rr"
  strictARP: false
  excludeCIDRs: []
  syncPeriod: "30s"
  minSyncPeriod: "2s"
nftables:
  masqueradeAll: false
  syncPeriod: "30s"
  minSyncPeriod: "2s"'
if ! is_enabled; then
  systemctl --quiet enable kube-proxy.service
  changed 'kube-proxy.service enabled'
fi

[ "$changes" != 0 ] || exit 0
are_installed || { echo "missing: packages, they are '$said'" && exit 1; }
look_at_modules
[ ! "$absent" ] || { echo "missing: modules$absent" && exit 1; }
are_set || { echo "missing: parameters, they are $is" && exit 1; }
is_enabled || { echo 'missing: the enabled unit' && exit 1; }
exit 0
}
