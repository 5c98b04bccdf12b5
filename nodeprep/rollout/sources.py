"""Shell that lets a node's own new connections to services leave with an address that stays.

While a service's address is on kube-ipvs0 the node's own connections to it have that same address
as their source. Their answers find the way back only as long as the device is there: when it goes,
those that are open, begun a moment ago perhaps, hear nothing any more. So the route of each such
address first gets another source: connections which are open keep theirs, and new ones do not
depend on the device.

Only IPv4: the kernel takes no such route of IPv6 for a device that is down, as kube-ipvs0 is.
Connections of that kind are among those that a node lingers for (``artefacts.established``).
"""

# The source of the default route, else any address that other hosts may know.
SHELL = """\
node_source() {
  ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \\([0-9.]*\\).*/\\1/p' | grep . ||
    ip -4 -o addr show scope global |
    awk '$2 != "kube-ipvs0" && !found++ { sub(/\\/.*/, "", $4); print $4 }' | grep .
}
source_services() {
  grep -q '^ *kube-ipvs0:' /proc/net/dev || return 0
  source=
  case $1 in node) source=$(node_source) || return 0 ;; esac
  ip -4 -o addr show dev kube-ipvs0 | awk -v source="$source" '{
    sub(/\\/.*/, "", $4)
    print "route replace local " $4 " dev kube-ipvs0 table local proto kernel scope host src " \\
      (source ? source : $4)
  }' | ip -4 -batch -
}
drain_ipvs() {
  forget_datagrams "$(named_servers)"
  await_ipvs
}
await_ipvs() {
  for second in 9 8 7 6 5 4 3 2 1 0; do
    open=$(established)
    [ "${open:-0}" -gt 0 ] || return 0
    [ "$second" -eq 0 ] || sleep 1
  done
  echo "$open connections through IPVS are open, and end with its virtual servers"
}
"""
"""Defines ``source_services WHOSE``, ``await_ipvs`` and ``drain_ipvs``.

They want what ``leftovers.SHELL`` defines.

``source_services node`` gives new connections an address of the node as their source, and
``source_services service`` the service's own again. ``await_ipvs`` lets the connections that were
begun through IPVS end, for at most ten seconds. ``drain_ipvs`` does so while a bridge stands and
the virtual servers are about to be flushed: the next datagram of each UDP client crosses it.
"""
