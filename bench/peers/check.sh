#!/bin/sh
# Says what of the job is not done on this node, and fails if anything is not.
# Expects the lists below to be the job's: tests/bench/test_peers.py compares.
modules='br_netfilter nf_conntrack ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh'
packages='conntrack ipset ipvsadm iptables'
parameters='net.ipv4.ip_forward=1
net.bridge.bridge-nf-call-iptables=1
net.bridge.bridge-nf-call-ip6tables=1
net.ipv4.tcp_keepalive_time=600
net.ipv4.vs.conntrack=1
net.ipv4.vs.expire_nodest_conn=1
net.ipv4.vs.expire_quiescent_template=1'

status=0
missing() {
  printf 'missing: %s\n' "$*"
  status=1
}

for module in $modules; do
  [ -d "/sys/module/$module" ] || missing "module $module"
done
keys=
for parameter in $parameters; do
  keys="$keys ${parameter%=*}"
done
# shellcheck disable=SC2086 # the list is words
set_to=$(sysctl $keys | sed 's/ = /=/')
[ "$set_to" = "$parameters" ] || missing "parameters, they are $set_to"
# shellcheck disable=SC2016,SC2086 # the field is dpkg's, the list is words
installed=$(dpkg-query -W -f='${db:Status-Abbrev}' $packages)
[ "$installed" = 'ii ii ii ii ' ] || missing "packages, they are '$installed'"
systemctl is-enabled --quiet kube-proxy.service || missing 'the enabled unit'
exit "$status"
