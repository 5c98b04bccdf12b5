"""The rules of iptables: how many in each table, and how many of them are kube-proxy's.

Both backends are asked, in both families, but none whose kernel modules are not there yet: the
shell for that is ``rollout.artefacts``', as are the names of what is kube-proxy's. One pass counts,
and one line a table comes home.

The same pass derives the services from iptables mode. All chains of a service port end with one
hash (``servicePortChainName`` and its kin in pkg/proxy/iptables/proxier.go), so that a way in is
followed to its endpoints by its last 16 characters.
"""

from dataclasses import dataclass

from nodeprep.dataplane import services
from nodeprep.dataplane.services import Services
from nodeprep.model import Fact
from nodeprep.rollout.artefacts import LOOKING, filled


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of one backend (``nft`` or ``legacy``) in one family (4 or 6).

    ``own`` of its ``rules`` are kube-proxy's, in ``chains`` of its own or leading there.
    """

    backend: str
    family: int
    name: str
    rules: int
    own: int
    chains: int


@dataclass(frozen=True, kw_only=True)
class Iptables:
    """All tables, and the services that their rules serve, by family.

    ``masquerades``: in iptables or ipvs mode, traffic from outside the cluster is. ``unreadable``
    names tables that only nft can show, as ``nat (IPv4, nft backend)``, and backends that did not
    answer.
    """

    tables: tuple[Table, ...] = ()
    services: tuple[Services, ...] = ()
    masquerades: bool = False
    unreadable: tuple[str, ...] = ()

    @property
    def rules(self) -> int:
        """The rules of all tables."""
        return sum(table.rules for table in self.tables)

    @property
    def own(self) -> int:
        """Those of kube-proxy."""
        return sum(table.own for table in self.tables)


# A table that iptables-nft cannot read has been written by nft itself.
_COUNTING = """\
@OWNING@
/^# unread/ { unread = 1; print "unreadable", where, "all" }
/^# Table .* is incompatible/ { gsub(/[^a-z]/, "", $3); print "unreadable", where, $3 }
/^\\*/ { table = substr($1, 2); rules = own = chains = 0; split("", modes) }
/^:/ { name = substr($1, 2); if (modes_of(name)) { modes[name] = 1; chains++ } }
/^-A / { rules++; if ($2 in modes || hook()) own++ }
/^COMMIT/ { print "table", where, table, rules, own, chains }
"""

# From 1.24 on, a chain KUBE-FW is there only with source ranges; before, with every balancer.
_SERVING = """\
function port_of(chain) { return substr(chain, length(chain) - 15) }
function address() { return value_of("-p") " " value_of("-d") " " value_of("--dport") }
function node_port() { return value_of("-p") " " value_of("--dport") }
function size(port) { return port in endpoints ? endpoints[port] : local_endpoints[port] + 0 }
function size_from_outside(port) {
  return port in local ? local_endpoints[port] + 0 : size(port)
}
$1 != "-A" { if (/^:KUBE-XLB-/) local[port_of($1)] = 1; next }
table == "nat" && $2 == "KUBE-SERVICES" && $NF ~ /^KUBE-(SVC|SVL|EXT|XLB|FW)-/ {
  if (/ cluster IP" /) { cluster[address()] = port_of($NF); ips[value_of("-d")] = 1 }
  else if (/ external IP" /) external[address()] = port_of($NF)
  else if (/ loadbalancer IP" /) {
    balancer[address()] = port_of($NF)
    balanced[value_of("-d")] = 1
  }
}
# Up to 1.20 in the chain of all services, then in that of one; in ipvs mode for a set of them.
$NF == "KUBE-MARK-MASQ" && $2 ~ /^KUBE-S/ &&
    (/ cluster IP" / || /--match-set KUBE-(6-)?CLUSTER-IP dst,dst /) { masquerades = 1 }
table == "nat" && $2 == "KUBE-NODEPORTS" && $NF ~ /^KUBE-(SVC|SVL|EXT|XLB)-/ {
  node_ports[node_port()] = port_of($NF)
}
$2 ~ /^KUBE-(SVC|SVL|XLB)-/ && $NF ~ /^KUBE-SEP-/ {
  if (/ --rcheck /) sticky[port_of($2)] = 1
  else if ($2 ~ /^KUBE-SVC-/) endpoints[port_of($2)]++
  else local_endpoints[port_of($2)]++
}
$2 ~ /^KUBE-EXT-/ && / --src-type LOCAL / { local[port_of($2)] = 1 }
$2 ~ /^KUBE-FW-/ && value_of("-s") { source[port_of($2) " " value_of("-s")] = 1 }
table == "filter" && $2 == "KUBE-NODEPORTS" && / -j ACCEPT$/ { health++ }
table == "filter" && $2 ~ /^KUBE-(EXTERNAL-)?SERVICES$/ && / -j (REJECT|DROP)/ {
  if (/ --dst-type LOCAL /) idle_node_ports[node_port()] = 1
  else if ($2 == "KUBE-SERVICES") { idle[address()] = 1; ips[value_of("-d")] = 1 }
  else idle_addresses[address()] = 1
}
END {
  if (unread) exit
  for (at in cluster) {
    ports++
    all += size(cluster[at])
    if (cluster[at] in sticky) { stickies++; all_sticky += size(cluster[at]) }
  }
  for (at in idle) if (!(at in cluster)) { ports++; idles++ }
  for (at in ips) cluster_ips++
  for (pair in source) {
    split(pair, word, " ")
    if (word[2] in balanced) own_source[word[1]]++
    else sources[word[1]]++
  }
  for (at in external) { addresses++; outside[external[at]] = 1 }
  for (at in external) behind += size_from_outside(external[at])
  for (at in balancer) {
    balancers++
    port = balancer[at]
    outside[port] = 1
    behind += size_from_outside(port)
    if (port in sources) { firewalled++; ranges += sources[port] }
    if (port in own_source) from_node++
  }
  for (at in idle_addresses) if (!(at in external) && !(at in balancer)) {
    addresses++
    idle_at++
  }
  for (at in node_ports) {
    numbers++
    outside[node_ports[at]] = 1
    behind_numbers += size_from_outside(node_ports[at])
  }
  for (at in idle_node_ports) if (!(at in node_ports)) { numbers++; idle_numbers++ }
  for (port in outside) {
    reached++
    if (port in local) { locals++; all_local += local_endpoints[port] }
  }
  if (masquerades) print "masquerades", where
  if (ports) print "services", where, "ports=" ports, "idle=" idles + 0, \\
    "cluster_ips=" cluster_ips + 0, "endpoints=" all + 0, "sticky=" stickies + 0, \\
    "sticky_endpoints=" all_sticky + 0, "addresses=" addresses + 0, \\
    "balancers=" balancers + 0, "idle_addresses=" idle_at + 0, \\
    "address_endpoints=" behind + 0, "node_ports=" numbers + 0, \\
    "idle_node_ports=" idle_numbers + 0, "node_port_endpoints=" behind_numbers + 0, \\
    "outside=" reached + 0, "local=" locals + 0, "local_endpoints=" all_local + 0, \\
    "firewalled=" firewalled + 0, "sources=" ranges + 0, "from_node=" from_node + 0, \\
    "health=" health + 0
}
"""

SCRIPT = LOOKING + filled(
    """\
for backend in nft legacy; do
  for family in 4 6; do
    saved_rules "$backend" "$family" |
      awk -v where="$backend $family" '@DATAPLANE@'
  done
done""",
    DATAPLANE=_COUNTING + _SERVING,
)


def parse(text: str) -> Iptables:
    r"""Read lines of each kind, each with its backend and family.

    >>> parse("table nft 4 nat 70 61 22\n").own
    61
    """
    lines = [line.split(" ") for line in text.splitlines()]
    return Iptables(
        tables=tuple(_table(words) for kind, *words in lines if kind == "table"),
        masquerades=any(kind == "masquerades" for kind, *_ in lines),
        services=_largest([words for kind, *words in lines if kind == "services"]),
        unreadable=tuple(
            f"{table} (IPv{family}, {backend} backend)"
            for backend, family, table in (words for kind, *words in lines if kind == "unreadable")
        ),
    )


def _table(words: list[str]) -> Table:
    backend, family, name, *counts = words
    rules, own, chains = map(int, counts)
    return Table(
        backend=backend, family=int(family), name=name, rules=rules, own=own, chains=chains
    )


def _largest(lines: list[list[str]]) -> tuple[Services, ...]:
    # kube-proxy writes with one backend; what the other has is left of an earlier one.
    found: dict[int, Services] = {}
    for _, *words in lines:
        served = services.parse(words)
        if served.family not in found or found[served.family].ports < served.ports:
            found[served.family] = served
    return tuple(found.values())


FACT = Fact(name="dataplane.rules", script=lambda _: SCRIPT, parse=parse)
