"""IPVS: virtual servers, their backends and connections, kube-proxy's own apart from others'.

The table is read where the kernel has it, /proc/net/ip_vs, so that ip_vs is not loaded by looking.
The connections are the kernel's own sums for each backend: its list of them, which may have a
million lines, is not read. Whose a virtual server is, ``rollout.artefacts`` tells: by kube-ipvs0
and by the ipsets.

In ipvs mode the ipsets also tell what a virtual server is for, and so the services are derived.
What no set tells is which node port, balancer and external IP belong to one service port. Taken is
that each balancer's address has a node port, as Kubernetes gives it one unless it is told not to
(``allocateLoadBalancerNodePorts``), and that no external IP has one.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from nodeprep.dataplane import services
from nodeprep.dataplane.services import Services
from nodeprep.model import Fact
from nodeprep.rollout.artefacts import LOOKING, filled

ADDRESSES = 256
"""Addresses of a node that are brought home."""


@dataclass(frozen=True, kw_only=True)
class Ipvs:
    """The kernel's table. ``loaded`` is false where there is none.

    ``servers``, ``backends`` and the connections ``active`` and ``inactive`` are kube-proxy's; the
    ``other_`` ones are of virtual servers of others. ``addresses`` are the node's own, without
    those of kube-ipvs0.
    """

    loaded: bool = False
    servers: int = 0
    backends: int = 0
    active: int = 0
    inactive: int = 0
    other_servers: int = 0
    other_backends: int = 0
    other_active: int = 0
    services: tuple[Services, ...] = ()
    addresses: tuple[str, ...] = ()


# ``key``, ``kind``, ``port`` and ``word`` are what SORTING has just read of the same line.
_COUNTING = """\
@SORTING@
function family_of(key) { return length(key) == 13 ? 4 : 6 }
function add(name, more) { sum[family " " name] += more }
function finish() {
  if (!family) return
  if (!found) {
    if (at_cluster) add("idle", 1)
    else if (at_address) add("idle_addresses", 1)
    else if (at_node) add("idle_node_ports", 1)
  } else {
    if (at_external) live_external[family]++
    if (at_balancer) live_balancers[family]++
    if (at_node) live_node_ports[family]++
  }
}
function begin(key) {
  finish()
  family = key ? family_of(key) : 0
  found = at_cluster = at_external = at_balancer = at_address = at_node = is_sticky = is_local = 0
}
function mine(kind, key,  port) {
  begin(key)
  servers++
  at_cluster = (kind " " key) in cluster
  at_external = (kind " " key) in external
  at_balancer = (kind " " key) in balancer
  at_address = at_external || at_balancer
  is_sticky = / persistent /
  port = kind " " substr(key, length(key) - 3)
  # Each address of the node has a virtual server for it: the first one stands for all.
  at_node = !at_cluster && !at_address && !((family " " port) in seen) && \\
    (port in ports || (kind " " key) in sctp)
  is_local = at_node && port in kept_local || at_external && (kind " " key) in kept_local
  add("local", is_local)
  if (at_node) { seen[family " " port] = 1; add("node_ports", 1) }
  if (at_cluster) {
    add("ports", 1)
    add("sticky", is_sticky)
    ip = family " " substr(key, 1, length(key) - 5)
    if (!(ip in ips)) { ips[ip] = 1; add("cluster_ips", 1) }
  }
}
function other(server) { begin(""); other_servers++ }
section == "@sets" && $1 == "add" {
  six = $2 ~ /^KUBE-6-/ ? 6 : 4
  name = substr($2, six == 6 ? 8 : 6)
  place = toupper(word[1]) " " key
  if (name == "CLUSTER-IP") cluster[place] = 1
  else if (name == "LOAD-BALANCER") { balancer[place] = 1; sum[six " balancers"]++ }
  else if (name ~ /^EXTERNAL-IP(-LOCAL)?$/) {
    external[place] = 1
    sum[six " addresses"]++
    if (name ~ /L$/) kept_local[place] = 1
  }
  else if (name ~ /^NODE-PORT-SCTP/) sctp[place] = 1
  else if (name ~ /^NODE-PORT-LOCAL-SCTP/) kept_local["SCTP " substr(key, length(key) - 3)] = 1
  else if (name ~ /^NODE-PORT-LOCAL-/) kept_local[kind " " port] = 1
  else if (name == "LOAD-BALANCER-FW") sum[six " firewalled"]++
  else if (name == "LOAD-BALANCER-SOURCE-IP") sum[six " from_node"]++
  else if (name ~ /^LOAD-BALANCER-SOURCE-CID/) sum[six " sources"]++
  else if (name ~ /^HEALTH-CHECK-NODE-PORT/) sum[six " health"]++
}
section == "@addresses" && $3 ~ /^inet6?$/ && $2 != "kube-ipvs0" && own_addresses++ < @ADDRESSES@ {
  print "address", $4
}
section == "@servers" && $1 == "->" && $2 ~ /^[0-9A-F[]/ {
  if (!family) { other_backends++; other_active += $5; next }
  backends++
  active += $5
  inactive += $6
  found++
  if (at_cluster) { add("endpoints", 1); add("sticky_endpoints", is_sticky) }
  else if (at_address) add("address_endpoints", 1)
  else if (at_node) add("node_port_endpoints", 1)
  add("local_endpoints", is_local)
}
END {
  begin("")
  print "ipvs", servers + 0, backends + 0, active + 0, inactive + 0, other_servers + 0, \\
    other_backends + 0, other_active + 0
  for (family = 4; family <= 6; family += 2) if (sum[family " ports"]) {
    sum[family " outside"] = live_external[family] + (live_balancers[family] > \\
      live_node_ports[family] ? live_balancers[family] : live_node_ports[family])
    line = "services " family
    for (pair in sum) {
      split(pair, word, " ")
      if (word[1] == family) line = line " " word[2] "=" sum[pair] + 0
    }
    print line
  }
}
"""

# Only sets that have something in them are read, and none that could hold what is not a service.
SCRIPT = LOOKING + filled(
    """\
filled_sets() {
  may_look ip_set && ipset list -t 2>/dev/null | awk '
    $1 == "Name:" { if (name != "" && many != 0) print name; name = $2; many = "" }
    /^Number of entries:/ { many = $4 }
    END { if (name != "" && many != 0) print name }' | grep -xE '@SETS@' |
    grep -vE 'LOOP-BACK|IPVS-IPS|BALANCER-LOCAL'
}
if [ -e /proc/net/ip_vs ]; then
  {
    echo @addresses
    ip -o addr
    echo @sets
    for set in $(filled_sets); do ipset save "$set"; done
    echo @servers
    cat /proc/net/ip_vs
  } 2>/dev/null | awk '@DATAPLANE@'
else
  ip -o addr 2>/dev/null | awk '
    $3 ~ /^inet6?$/ && $2 != "kube-ipvs0" && n++ < @ADDRESSES@ { print "address", $4 }'
fi""",
    DATAPLANE=_COUNTING,
    ADDRESSES=str(ADDRESSES),
)


def parse(text: str) -> Ipvs:
    r"""Read one ``ipvs`` line with seven sums, ``services`` by family, and ``address`` lines.

    >>> parse("ipvs 18 30 2 1 1 1 0\naddress 192.0.2.1/24\n").addresses
    ('192.0.2.1',)
    """
    lines = [line.split(" ") for line in text.splitlines()]
    sums = next((words for kind, *words in lines if kind == "ipvs"), None)
    numbers = map(int, sums or ["0"] * 7)
    servers, backends, active, inactive, *others = numbers
    other_servers, other_backends, other_active = others
    return Ipvs(
        loaded=sums is not None,
        servers=servers,
        backends=backends,
        active=active,
        inactive=inactive,
        other_servers=other_servers,
        other_backends=other_backends,
        other_active=other_active,
        services=tuple(services.parse(words) for kind, *words in lines if kind == "services"),
        addresses=tuple(
            str(ip_address(words[0].partition("/")[0]))
            for kind, *words in lines
            if kind == "address"
        ),
    )


FACT = Fact(name="dataplane.virtual_servers", script=lambda _: SCRIPT, parse=parse)
