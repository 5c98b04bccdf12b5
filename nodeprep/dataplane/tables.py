"""kube-proxy's tables of nftables: chains, rules, and what is in their sets and maps.

One listing a family is read in one pass. It is the kernel's and nft's work that costs, not ours:
with 44,000 services it took 40 s (kubernetes#139513), so it gets a limit, and a table that takes
longer is told as not read.

The names are those of pkg/proxy/nftables/proxier.go, and hold from 1.29 on: the chains
``service-``, ``local-``, ``external-`` and ``firewall-`` of one service port go on with one text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodeprep.dataplane import services
from nodeprep.dataplane.services import Services
from nodeprep.model import Fact
from nodeprep.rollout.artefacts import LOOKING

SECONDS = 25
"""How long the listing of one family may take: both fit into the time of a session."""


@dataclass(frozen=True, kw_only=True)
class NftTable:
    """A table of kube-proxy's, ``family`` as nft has it: ``ip`` or ``ip6``.

    ``elements`` are those of sets and maps by name; those for session affinity, a set for each
    endpoint, are summed up as ``affinity_sets`` and ``affinity_elements``. ``read`` is false where
    the listing failed or took too long.
    """

    family: str
    read: bool = True
    chains: int = 0
    rules: int = 0
    elements: Mapping[str, int] = field(default_factory=dict)
    affinity_sets: int = 0
    affinity_elements: int = 0

    @property
    def all_elements(self) -> int:
        """The elements of all sets and maps."""
        return sum(self.elements.values()) + self.affinity_elements


@dataclass(frozen=True, kw_only=True)
class Nftables:
    """kube-proxy's tables, and the services that they serve, by family.

    ``masquerades``: traffic from outside the cluster is.
    """

    tables: tuple[NftTable, ...] = ()
    services: tuple[Services, ...] = ()
    masquerades: bool = False


# What a listing has in braces within a rule stands in that rule's line.
_COUNTING = """\
function base(chain) { return substr(chain, index(chain, "-") + 1) }
function key() { return word[1] " " word[3] " " word[5] }
function size(port) { return port in endpoints ? endpoints[port] : local_endpoints[port] + 0 }
function size_from_outside(port) {
  return port in local ? local_endpoints[port] + 0 : size(port)
}
function element(text,  n, to) {
  n = split(text, word, " ")
  if (!n) return
  if (name ~ /^affinity-/) { affinities++; return }
  elements[name]++
  to = word[n]
  if (name == "cluster-ips") is_cluster[word[1]] = 1
  else if (name == "service-ips") {
    if (to ~ /^(service|local)-/) { cluster[key()] = base(to); ips[word[1]] = 1 }
    else external[key()] = base(to)
  }
  else if (name == "service-nodeports") node_ports[word[1] " " word[3]] = base(to)
  else if (name == "no-endpoint-services") idle[key()] = word[1]
  else if (name == "no-endpoint-nodeports") idle_node_ports[word[1] " " word[3]] = 1
  else if (name == "firewall-ips") firewalled[key()] = base(to)
}
function rule() {
  rules++
  if (name ~ /^(service|local)-/) {
    if (/ @affinity-/) sticky[base(name)] = 1
    if (/ mark-for-masquerade$| mark set /) masquerades = 1
    many = 0
    if (match($0, /numgen random mod [0-9]+/)) many = substr($0, RSTART + 18, RLENGTH - 18) + 0
    else if (/ dnat /) many = 1
    if (many && name ~ /^s/) endpoints[base(name)] = many
    if (many && name ~ /^l/) local_endpoints[base(name)] = many
  }
  else if (name == "services" && /@cluster-ips .* mark set /) masquerades = 1
  else if (name ~ /^external-/ && /fib saddr type local/) local[base(name)] = 1
  else if (name ~ /^firewall-/ && match($0, /saddr != .* drop/)) {
    text = substr($0, RSTART + 9, RLENGTH - 14)
    gsub(/[{} ]/, "", text)
    n = split(text, word, ",")
    for (i = 1; i <= n; i++) source[base(name) " " word[i]] = 1
  }
}
$1 ~ /^(set|map|chain)$/ && $3 == "{" {
  block = $1
  name = $2
  if (block == "chain") chains++
  else if (name ~ /^affinity-/) affinity_sets++
  else elements[name] += 0
  next
}
block && !within && NF == 1 && $1 == "}" { block = ""; next }
block == "chain" {
  if (NF && $1 !~ /^(type|policy|comment)$/) rule()
  next
}
block && ($1 == "elements" || within) {
  within = !/[}]/
  text = $0
  sub(/^.*elements = [{]/, "", text)
  sub(/[}].*/, "", text)
  n = split(text, piece, ",")
  for (i = 1; i <= n; i++) element(piece[i])
}
END {
  print "table", family, chains + 0, rules + 0, affinity_sets + 0, affinities + 0
  if (unread) exit
  if (masquerades) print "masquerades", family
  for (name in elements) if (named++ < 100) print "elements", family, name, elements[name]
  known = "cluster-ips" in elements
  for (at in cluster) {
    ports++
    all += size(cluster[at])
    if (cluster[at] in sticky) { stickies++; all_sticky += size(cluster[at]) }
  }
  for (at in idle) {
    if (known && (idle[at] in is_cluster) || !known && !(at in external)) {
      if (!(at in cluster)) { ports++; idles++; ips[idle[at]] = 1 }
    }
    else if (!(at in external)) { addresses++; idle_at++ }
  }
  for (at in ips) cluster_ips++
  for (at in external) {
    addresses++
    outside[external[at]] = 1
    behind += size_from_outside(external[at])
    split(at, word, " ")
    is_external[word[1]] = 1
  }
  for (pair in source) {
    split(pair, word, " ")
    if (word[2] in is_external) own_source[word[1]]++
    else sources[word[1]]++
  }
  for (at in firewalled) {
    walls++
    ranges += sources[firewalled[at]]
    if (firewalled[at] in own_source) from_node++
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
  if (ports) print "services", (family == "ip6" ? 6 : 4), "ports=" ports, "idle=" idles + 0, \\
    "cluster_ips=" cluster_ips + 0, "endpoints=" all + 0, "sticky=" stickies + 0, \\
    "sticky_endpoints=" all_sticky + 0, "addresses=" addresses + 0, \\
    "idle_addresses=" idle_at + 0, "address_endpoints=" behind + 0, \\
    "node_ports=" numbers + 0, "idle_node_ports=" idle_numbers + 0, \\
    "node_port_endpoints=" behind_numbers + 0, "outside=" reached + 0, \\
    "local=" locals + 0, "local_endpoints=" all_local + 0, "firewalled=" walls + 0, \\
    "sources=" ranges + 0, "from_node=" from_node + 0
}
"""

SCRIPT = (
    LOOKING
    + """\
kube_proxy_tables | while read -r _ family _; do
  {
    timeout @SECONDS@ nft list table "$family" kube-proxy 2>/dev/null || printf '\\n# unread\\n'
  } </dev/null | awk -v family="$family" '
    /^# unread$/ { unread = 1; print "unread", family }
    @COUNTING@'
done
:""".replace("@COUNTING@", _COUNTING).replace("@SECONDS@", str(SECONDS))
)


def parse(text: str) -> Nftables:
    r"""Read lines of each kind, each with its family.

    >>> parse("table ip 43 77 0 0\nelements ip service-ips 9\n").tables[0].all_elements
    9
    """
    lines = [line.split(" ") for line in text.splitlines()]
    elements = [words for kind, *words in lines if kind == "elements"]
    unread = {family for kind, *words in lines if kind == "unread" for family in words}
    return Nftables(
        tables=tuple(_table(words, elements, unread) for kind, *words in lines if kind == "table"),
        services=tuple(services.parse(words) for kind, *words in lines if kind == "services"),
        masquerades=any(kind == "masquerades" for kind, *_ in lines),
    )


def _table(words: list[str], elements: list[list[str]], unread: set[str]) -> NftTable:
    family, *counts = words
    chains, rules, affinity_sets, affinity_elements = map(int, counts)
    if family in unread:
        return NftTable(family=family, read=False)
    return NftTable(
        family=family,
        chains=chains,
        rules=rules,
        elements={name: int(count) for of, name, count in elements if of == family},
        affinity_sets=affinity_sets,
        affinity_elements=affinity_elements,
    )


FACT = Fact(name="dataplane.tables", script=lambda _: SCRIPT, parse=parse)
