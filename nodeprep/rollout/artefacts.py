"""What each mode of kube-proxy leaves in the kernel: one fact, and what must be and must not.

A mode is known by what it makes: iptables by chains that lead to services, ipvs by the device
kube-ipvs0 with virtual servers and ipsets, nftables by tables of its own name. So a switch is done
when the new mode's things are there, and clean when those of every other mode are gone.

The kernel is asked with care. Looking changes nothing: no program runs whose module would be
loaded for it. Tables of 20,000 services are counted on the node, and only the sums come home.
Things that carry kube-proxy's names and yet are not its own are told apart: kubelet's chains,
chains and sets that somebody's rule holds on to, virtual servers on other addresses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from nodeprep import netfilter
from nodeprep.model import MODES, Fact, Finding, Mode, Status

NAME = "artefacts"
BRIDGE_CHAINS = "NPREP-"
"""How the names of our own iptables chains begin, those that bridge a restart."""

BRIDGE_TABLE = "nodeprep-bridge"
"""The name of our own nftables tables."""

# --- what kube-proxy makes ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain of a fixed name, and the modes that make it, in any release since 1.14."""

    table: str
    name: str
    modes: tuple[Mode, ...]

    def __str__(self) -> str:
        return f"{self.table} {self.name}"


def _chains(table: str, modes: tuple[Mode, ...], names: str) -> tuple[Chain, ...]:
    return tuple(Chain(table=table, name=name, modes=modes) for name in names.split())


CHAINS: tuple[Chain, ...] = (
    *_chains("nat", ("iptables", "ipvs"), "KUBE-SERVICES KUBE-POSTROUTING KUBE-MARK-MASQ"),
    *_chains("nat", ("iptables", "ipvs"), "KUBE-MARK-DROP"),
    *_chains("nat", ("iptables",), "KUBE-NODEPORTS KUBE-PROXY-CANARY"),
    *_chains("nat", ("ipvs",), "KUBE-NODE-PORT KUBE-LOAD-BALANCER KUBE-FIREWALL"),
    *_chains("filter", ("iptables", "ipvs"), "KUBE-FORWARD KUBE-PROXY-FIREWALL"),
    *_chains("filter", ("iptables",), "KUBE-SERVICES KUBE-EXTERNAL-SERVICES KUBE-NODEPORTS"),
    *_chains("filter", ("iptables",), "KUBE-PROXY-CANARY"),
    *_chains("filter", ("ipvs",), "KUBE-NODE-PORT KUBE-SOURCE-RANGES-FIREWALL"),
    *_chains("filter", ("ipvs",), "KUBE-IPVS-FILTER KUBE-IPVS-OUT-FILTER"),
    *_chains("mangle", ("iptables",), "KUBE-PROXY-CANARY"),
)
"""The chains of fixed names. filter's KUBE-FIREWALL is kubelet's, and so not among them."""

KUBELET_CHAINS = frozenset({"nat KUBE-MARK-DROP", "nat KUBE-MARK-MASQ", "nat KUBE-POSTROUTING"})
"""Made by kubelet up to 1.27 too, and made again by it when they are removed."""

PER_SERVICE = "SVC SEP FW XLB EXT SVL"
"""The kinds of nat chains that iptables mode makes for a service: KUBE-SVC-0123456789ABCDEF."""

HOOKS: Mapping[str, tuple[Mode, ...]] = {
    "kubernetes service portals": ("iptables", "ipvs"),
    "kubernetes postrouting rules": ("iptables", "ipvs"),
    "kubernetes forwarding rules": ("iptables", "ipvs"),
    "kubernetes externally-visible service portals": ("iptables",),
    "kubernetes health check service ports": ("iptables",),
    "kubernetes load balancer firewall": ("iptables",),
    "kubernetes health check rules": ("ipvs",),
    "kubernetes ipvs access filter": ("ipvs",),
    "kube-proxy firewall rules": ("ipvs",),
}
"""The comments of the rules by which kube-proxy enters its chains from the built-in ones."""

_ADDRESSED = "CLUSTER-IP EXTERNAL-IP EXTERNAL-IP-LOCAL LOAD-BALANCER NODE-PORT-SCTP-HASH"
_PORTS = "NODE-PORT-TCP NODE-PORT-LOCAL-TCP NODE-PORT-UDP NODE-PORT-LOCAL-UDP"
_OTHER_SETS = (
    "LOOP-BACK LOAD-BALANCER-LOCAL LOAD-BALANCER-FW LOAD-BALANCER-SOURCE-IP"
    " LOAD-BALANCER-SOURCE-CIDR NODE-PORT-LOCAL-SCTP-HASH HEALTH-CHECK-NODE-PORT IPVS-IPS"
)


def _sets(names: str) -> tuple[str, ...]:
    # The kernel takes 31 characters, and kube-proxy cuts its names of IPv6 to that.
    return tuple(f"KUBE-{six}{name}"[:31] for six in ("", "6-") for name in names.split())


TELLING_SETS = _sets(f"{_ADDRESSED} {_PORTS}")
"""The ipsets that name addresses and ports of services, and so tell whose a virtual server is."""

SETS = (*TELLING_SETS, *_sets(_OTHER_SETS))
"""Every ipset of ipvs mode, of both families."""

# --- what is there --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One iptables backend (``nft`` or ``legacy``) in one family (4 or 6).

    ``service_jumps`` counts the rules that lead to a service, ``service_chains`` the chains made
    for services and endpoints. ``chains`` are those of fixed names, as ``nat KUBE-SERVICES``, and
    ``held`` what somebody else's rule refers to: such chains, and sets as ``set KUBE-CLUSTER-IP``.
    ``forward`` is the policy of filter's FORWARD, empty where there is no such table.
    ``bridge`` counts chains of ours. ``unreadable`` are tables that only nft can show, or ``all``
    where iptables-save failed.
    """

    backend: str
    family: int
    service_jumps: int = 0
    service_chains: int = 0
    node_ports: int = 0
    kubelet: bool = False
    forward: str = ""
    chains: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    bridge: int = 0
    unreadable: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"IPv{self.family}, {self.backend} backend"


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """What kube-proxy's modes have left in the kernel, and what stands beside it.

    ``addresses`` are those on kube-ipvs0; ``virtual_servers`` counts kube-proxy's own.
    ``established`` counts the TCP connections that end with these two: through the virtual servers,
    and the node's own from such an address. ``udp`` counts what goes through the virtual servers.
    Of ``foreign_count`` virtual servers of others, ``foreign_servers`` names up to 50, as
    ``TCP 192.0.2.1:80``. ``tables`` are kube-proxy's and our own tables of nftables, as
    ``ip kube-proxy``. ``ports`` are the numbers of node ports, and ``kubernetes`` is ADDRESS:PORT
    of the service ``default/kubernetes``, by the mode that has them in the kernel.
    """

    rules: tuple[Rules, ...] = ()
    device: bool = False
    addresses: int = 0
    sets: tuple[str, ...] = ()
    bridge_sets: tuple[str, ...] = ()
    virtual_servers: int = 0
    foreign_servers: tuple[str, ...] = ()
    foreign_count: int = 0
    established: int = 0
    udp: int = 0
    tables: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    kubernetes: Mapping[str, str] = field(default_factory=dict)

    @property
    def node_ports(self) -> int:
        """The number of node ports, whichever mode serves them."""
        return max((*self.ports.values(), 0))

    @property
    def forward_policy(self) -> str:
        """``DROP`` where any backend drops what it forwards, else ``ACCEPT``, or nothing."""
        policies = {rules.forward for rules in self.rules}
        return next((policy for policy in ("DROP", "ACCEPT") if policy in policies), "")


# --- how it is asked ------------------------------------------------------------------------

_LOOKING = """\
kube_proxy_sets() {
  may_look ip_set && ipset list -n 2>/dev/null | grep -xE '@SETS@'
}
kube_proxy_tables() {
  may_look nf_tables && nft list tables 2>/dev/null | grep -xE 'table ip6? kube-proxy'
}
"""

# A rule jumps to a chain where its last two words say so, and a comment with spaces ends with a
# quote: what a comment says is never taken for a target.
_READING = """\
function modes_of(name,  hash) {
  if ((table " " name) in fixed) return fixed[table " " name]
  if (table != "nat" || substr(name, 1, 5) != "KUBE-") return ""
  hash = name
  sub(/^KUBE-(@PER_SERVICE@)-/, "", hash)
  return hash != name && length(hash) == 16 && hash !~ /[^A-Z2-7]/ ? "iptables" : ""
}
function hook() {
  return $2 ~ /^(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$/ && $0 ~ hooks
}
function value_of(option,  i) {
  for (i = 3; i < NF; i++) if ($i == option) return $(i + 1)
}
function spread_holding(  i, more) {
  for (more = holding; more; ) {
    more = 0
    for (i = 1; i <= edges; i++) if (tail[i] in held && !(head[i] in held)) {
      held[head[i]] = more = 1
    }
  }
}
BEGIN {
  for (n = split("@CHAINS@", line, ";"); n; n--) {
    split(line[n], word, " ")
    fixed[word[1] " " word[2]] = word[3]
  }
  hooks = "--comment \\"(@HOOKS@)\\" "
}
/^\\*/ {
  table = substr($1, 2)
  count = edges = holding = kubelet = 0
  split("", modes); split("", held)
}
/^:/ {
  name = substr($1, 2)
  if (modes_of(name)) { modes[name] = modes_of(name); chains[++count] = name }
  if (name == "KUBE-KUBELET-CANARY") kubelet = 1
}
/^-A / {
  to = $(NF - 1) ~ /^-[jg]$/ && $NF in modes ? $NF : ""
  if ($2 in modes) {
    if (to) { tail[++edges] = $2; head[edges] = to }
  } else if (to && !hook()) {
    held[to] = holding = 1
  }
}
"""

# One pass over all tables of one backend; the lines it prints are numbers and fixed names.
_COUNTING = """\
/^# unread/ { seen = 1; print "unreadable", where, "all" }
/^# Table .* is incompatible/ { gsub(/[^a-z]/, "", $3); print "unreadable", where, $3 }
/^:/ && name == "FORWARD" && table == "filter" { forward = $2 }
/^:NPREP-/ { bridge++ }
/^:/ && kubelet { kubelets = 1 }
/^-A / && to ~ /^KUBE-SVC-/ { jumps++ }
/^-A KUBE-NODEPORTS / && table == "nat" {
  port = value_of("-p") " " value_of("--dport")
  if (!(port in ports)) { ports[port] = 1; node_ports++ }
}
/^-A KUBE-S/ && !kubernetes && /--comment "default\\/kubernetes:https[ "]/ {
  address = value_of("-d")
  sub(/\\/.*/, "", address)
  if (address ~ /:/) address = "[" address "]"
  if (address && value_of("--dport")) kubernetes = address ":" value_of("--dport")
}
/^-A / && !($2 in modes) && $2 !~ /^NPREP-/ && match($0, /-set KUBE-[^ ]+/) {
  set = substr($0, RSTART + 5, RLENGTH - 5)
  if (!(set in sets) && ++held_sets <= 50) print "held", where, "set", set
  sets[set] = 1
}
/^COMMIT/ {
  seen = 1
  spread_holding()
  for (i = 1; i <= count; i++) {
    name = chains[i]
    if ((table " " name) in fixed) print "chain", where, table, name
    else services++
    if (name in held && (++holds <= 50 || (table " " name) in fixed)) {
      print "held", where, table, name
    }
  }
}
END {
  if (seen) print "rules", where, jumps + 0, services + 0, node_ports + 0, kubelets + 0, \\
    bridge + 0, forward
  if (kubernetes) print "kubernetes iptables", kubernetes
}
"""

# Addresses become hex digits, all of one length: so they compare as text, and v4 and v6 alike.
_SORTING = """\
function hex(address,  part, half, n, i, front, back) {
  if (address !~ /:/) {
    split(address, part, ".")
    return sprintf("%02X%02X%02X%02X", part[1], part[2], part[3], part[4])
  }
  split(address, half, "::")
  n = split(half[1], part, ":")
  for (i = 1; i <= n; i++) front = front substr("0000" part[i], length(part[i]) + 1)
  n = split(half[2], part, ":")
  for (i = 1; i <= n; i++) back = back substr("0000" part[i], length(part[i]) + 1)
  while (length(front back) < 32) front = front "0"
  return toupper(front back)
}
function number(digits,  i, n) {
  for (i = 1; i <= length(digits); i++) {
    n = n * 16 + index("0123456789ABCDEF", substr(digits, i, 1)) - 1
  }
  return n + 0
}
function shown(key,  at, i, text) {
  at = substr(key, 1, length(key) - 5)
  if (length(at) == 8) {
    for (i = 1; i < 8; i += 2) text = text (i > 1 ? "." : "") number(substr(at, i, 2))
  } else {
    for (i = 1; i < 32; i += 4) text = text (i > 1 ? ":" : "[") tolower(substr(at, i, 4))
    text = text "]"
  }
  return text ":" number(substr(key, length(key) - 3))
}
function is_own(kind, key, at, port) {
  return at in dummy || (kind " " key) in named ||
    at in here && (kind " " port) in ports
}
/^@/ { section = $1; next }
section == "@addresses" && $3 ~ /^inet6?$/ {
  sub(/\\/.*/, "", $4)
  if ($2 == "kube-ipvs0") { dummy[hex($4)] = 1; addresses++ }
  else here[hex($4)] = 1
}
section == "@sets" && $1 == "add" && $2 ~ /-(TCP|UDP)$/ {
  kind = substr($2, length($2) - 2)
  port = sprintf("%04X", $3)
  if (!((kind " " port) in ports) && $2 !~ /-LOCAL-/) node_ports++
  ports[kind " " port] = 1
}
section == "@sets" && $1 == "add" && $3 ~ /,/ {
  comma = index($3, ",")
  split(substr($3, comma + 1), word, ":")
  key = hex(substr($3, 1, comma - 1)) " " sprintf("%04X", word[2])
  named[toupper(word[1]) " " key] = 1
  if ($2 ~ /-SCTP-HASH$/ && !(("SCTP " word[2]) in ports)) {
    ports["SCTP " word[2]] = 1
    node_ports++
  }
  # A shorter address is one of IPv4, which goes before.
  if ($2 ~ /-CLUSTER-IP$/ && word[1] == "tcp" && word[2] == 443 && (!lowest || \\
    length(key) < length(lowest) || length(key) == length(lowest) && key < lowest)) lowest = key
}
section == "@servers" && $1 == "FWM" { other("FWM " number($2)) }
section == "@servers" && $1 ~ /^(TCP|UDP|SCTP)$/ {
  port = substr($2, length($2) - 3)
  at = substr($2, 1, length($2) - 5)
  gsub(/[^0-9A-Fa-f]/, "", at)
  key = toupper(at) " " port
  if (is_own($1, key, toupper(at), port)) { own[$1 " " key] = 1; mine($1, key) }
  else other($1 " " shown(key))
}
section == "@connections" && $8 ~ /^(ESTABLISHED|UDP)$/ {
  gsub(/[^0-9A-Fa-f]/, "", $2)
  gsub(/[^0-9A-Fa-f]/, "", $4)
  if (!(($1 " " toupper($4) " " $5) in own)) next
  open[$1]++
  if ($1 == "TCP") through[toupper($2) " " toupper($3)] = 1
}
# Words of 32 bits, least byte first. What came through a virtual server has been counted.
section == "@sockets" && $4 ~ /^0[12]$/ {
  at = ""
  for (i = 1; i < index($2, ":"); i += 8) for (n = 6; n >= 0; n -= 2) at = at substr($2, i + n, 2)
  if (substr(at, 1, 24) == "00000000000000000000FFFF") at = substr(at, 25)
  if (at in dummy && !((at " " substr($2, length($2) - 3)) in through)) open["TCP"]++
}
"""
_SUMMING = """\
function mine(kind, key) { servers++ }
function other(server) { if (++others <= 50) print "foreign", server }
END {
  print "ipvs", addresses + 0, servers + 0, others + 0, open["TCP"] + 0, open["UDP"] + 0
  if (node_ports) print "ports ipvs", node_ports
  if (lowest) print "kubernetes ipvs", shown(lowest)
}
"""

# The map of a large cluster has many lines, and between two commas one element each.
_NFT = """\
index($0, "default/kubernetes/tcp/https") && !found {
  for (i = 6; i <= NF; i++) if ($i == ":" && !found) {
    found = 1
    print "kubernetes nftables", ($(i - 5) ~ /:/ ? "[" $(i - 5) "]" : $(i - 5)) ":" $(i - 1)
  }
}
"""

_FUNCTIONS = """\
counted_rules() {
  saved_rules "$1" "$2" | awk -v where="$1 $2" '@READING@@COUNTING@'
}
virtual_servers() {
  {
    echo @addresses
    ip -o addr
    echo @sets
    for set in $(kube_proxy_sets | grep -xE '@TELLING@'); do ipset save "$set"; done
    echo @servers
    cat /proc/net/ip_vs
    echo @connections
    cat /proc/net/ip_vs_conn
    echo @sockets
    cat /proc/net/tcp /proc/net/tcp6
  } 2>/dev/null | awk '@SORTING@'"$1"
}
established() {
  virtual_servers '@SUMMING@' | sed -n 's/^ipvs .* \\([0-9]*\\) [0-9]*$/\\1/p'
}
seen_tables() {
  may_look nf_tables || return 0
  nft list tables 2>/dev/null | grep -E ' (kube-proxy|@BRIDGE@)$'
  for family in ip ip6; do
    nft list map "$family" kube-proxy service-ips 2>/dev/null | awk -v RS=, '@NFT@'
    nft list map "$family" kube-proxy service-nodeports 2>/dev/null |
      awk -v RS=, '/ : goto / { n++ } END { if (n) print "ports nftables", n }'
  done
}
see_artefacts() {
  for backend in nft legacy; do
    for family in 4 6; do counted_rules "$backend" "$family"; done
  done
  if grep -q '^ *kube-ipvs0:' /proc/net/dev; then echo device; fi
  may_look ip_set && ipset list -n 2>/dev/null | sed -n 's/^\\(KUBE\\|NPREP\\)-/set &/p'
  virtual_servers '@SUMMING@'
  seen_tables
}
"""


def filled(text: str, **pieces: str) -> str:
    """Return shell text with ``@NAME@`` replaced, by ``pieces`` and by what this module knows."""
    known = {
        "READING": _READING,
        "COUNTING": _COUNTING,
        "SORTING": _SORTING,
        "SUMMING": _SUMMING,
        "NFT": _NFT,
        "SETS": "|".join(SETS),
        "TELLING": "|".join(TELLING_SETS),
        "PER_SERVICE": PER_SERVICE.replace(" ", "|"),
        "HOOKS": "|".join(HOOKS),
        "CHAINS": ";".join(f"{chain} {','.join(chain.modes)}" for chain in CHAINS),
        "BRIDGE": BRIDGE_TABLE,
    }
    for name, piece in {**pieces, **known}.items():
        text = text.replace(f"@{name}@", piece)
    return text


LIBRARY = filled(netfilter.LOOKING + _LOOKING + _FUNCTIONS)
"""Shell functions that look, for this fact and for those that remove what it sees.

``saved_rules BACKEND FAMILY`` prints what iptables-save does, nothing where looking would load a
module; ``virtual_servers ACTION`` runs an awk action over own and other virtual servers;
``established`` prints how many connections end with them.
"""


def parse(text: str) -> Artefacts:
    r"""Read one thing a line, its kind first; lines of no known kind are passed over.

    >>> parse("device\nipvs 2 2 0 7 0\nkubernetes ipvs 10.96.0.1:443\n").established
    7
    """
    kinds: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        kind, *words = line.split(" ")
        kinds.setdefault(kind, []).append(words)
    sums = kinds.get("ipvs", [["0"] * 5])[-1]
    addresses, own, others, established, udp = map(int, sums)
    sets = [words[0] for words in kinds.get("set", []) if words]
    return Artefacts(
        rules=tuple(_rules(words, kinds) for words in kinds.get("rules", [])),
        device="device" in kinds,
        addresses=addresses,
        sets=tuple(name for name in sets if name in SETS),
        bridge_sets=tuple(name for name in sets if name.startswith(BRIDGE_CHAINS)),
        virtual_servers=own,
        foreign_servers=tuple(_server(*words) for words in kinds.get("foreign", [])),
        foreign_count=others,
        established=established,
        udp=udp,
        tables=tuple(f"{family} {name}" for family, name in kinds.get("table", [])),
        ports={mode: int(count) for mode, count in kinds.get("ports", [])}
        | _rule_ports(kinds.get("rules", [])),
        kubernetes={mode: _compressed(place) for mode, place in kinds.get("kubernetes", [])},
    )


def _rules(words: list[str], kinds: Mapping[str, list[list[str]]]) -> Rules:
    backend, family, jumps, services, node_ports, kubelet, bridge, forward = words
    return Rules(
        backend=backend,
        family=int(family),
        service_jumps=int(jumps),
        service_chains=int(services),
        node_ports=int(node_ports),
        kubelet=kubelet == "1",
        bridge=int(bridge),
        forward=forward,
        **{
            field: tuple(
                " ".join(rest)
                for of_backend, of_family, *rest in kinds.get(kind, [])
                if (of_backend, of_family) == (backend, family)
            )
            for kind, field in (("chain", "chains"), ("held", "held"), ("unreadable", "unreadable"))
        },
    )


def _rule_ports(rules: list[list[str]]) -> dict[str, int]:
    count = max((int(words[4]) for words in rules), default=0)
    return {"iptables": count} if count else {}


def _server(kind: str, place: str) -> str:
    return f"{kind} {place if kind == 'FWM' else _compressed(place)}"


def _compressed(place: str) -> str:
    # The kernel prints every digit of an IPv6 address.
    host, _, port = place.rpartition(":")
    return f"[{ip_address(host[1:-1])}]:{port}" if host.startswith("[") else place


ARTEFACTS = Fact(name="rollout.artefacts", script=lambda _: LIBRARY + "see_artefacts", parse=parse)


def outside(servers: Iterable[str], cidrs: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``servers``, as ``TCP 192.0.2.1:80``, that no network of ``cidrs`` covers.

    A firewall mark has no address, and so is outside of all.

    >>> outside(("TCP 192.0.2.1:80", "FWM 7"), ("192.0.2.0/24",))
    ('FWM 7',)
    """
    networks = tuple(ip_network(cidr, strict=False) for cidr in cidrs)
    return tuple(
        server
        for server in servers
        if server.startswith("FWM ")
        or not any(ip_address(_host(server)) in network for network in networks)
    )


def _host(server: str) -> str:
    return server.partition(" ")[2].rpartition(":")[0].strip("[]")


# --- how it is judged -----------------------------------------------------------------------


def findings(
    seen: Artefacts, mode: Mode, *, old: Mode | None = None, cleaned: bool
) -> tuple[Finding, ...]:
    """Say whether the things of ``mode`` are there and, where ``cleaned``, that no others are.

    Before the clean-up, what ``old`` still has is told and not judged.
    """
    others = [other for other in MODES if other != mode]
    if cleaned:
        gone = (_gone(seen, other, mode) for other in others)
        return (*_present(seen, mode), *gone, *_unread(seen), _unbridged(seen))
    return (*_present(seen, mode), *(_waiting(seen, o, mode) for o in others if o == old))


def _present(seen: Artefacts, mode: Mode) -> tuple[Finding, ...]:
    if mode == "ipvs":
        return _of_ipvs(seen)
    if mode == "nftables":
        tables = [table for table in seen.tables if table.endswith(" kube-proxy")]
        return (_need("nft tables", ", ".join(tables), "table ip kube-proxy", "nft list tables"),)
    jumps = "; ".join(f"{r.service_jumps} ({r})" for r in seen.rules if r.service_jumps)
    return (
        _need("rules to services", jumps, "jumps to KUBE-SVC-", "iptables-save | grep KUBE-SVC"),
    )


def _of_ipvs(seen: Artefacts) -> tuple[Finding, ...]:
    device = f"{seen.addresses} addresses" if seen.device else ""
    servers = str(seen.virtual_servers or "")
    sets = f"{len(seen.sets)} of kube-proxy's" if seen.sets else ""
    return (
        _need("kube-ipvs0", device, "the device with each service's address", "ip addr"),
        _need("virtual servers", servers, "one for each service", "ipvsadm -Ln"),
        _need("ipsets", sets, "kube-proxy's", "ipset list -n"),
    )


def _need(name: str, actual: str, wanted: str, look: str) -> Finding:
    if actual:
        return _finding(name, Status.OK, actual)
    return _finding(name, Status.FAIL, "none", wanted, look)


def _gone(seen: Artefacts, other: Mode, mode: Mode) -> Finding:
    left, held = leftovers(seen, other, mode), _held(seen, other, mode)
    name, look = f"left of {other}", _LOOK[other]
    if left:
        return _finding(name, Status.FAIL, "; ".join((*left, *held)), "nothing", look)
    if held:
        return _finding(name, Status.WARN, "; ".join(held), "nothing", look)
    return _finding(name, Status.OK, "nothing")


def _waiting(seen: Artefacts, old: Mode, mode: Mode) -> Finding:
    left = leftovers(seen, old, mode)
    return _finding(f"left of {old}", Status.SKIP, "; ".join(left) or "nothing")


_LOOK: Mapping[Mode, str] = {
    "iptables": "iptables-save | grep KUBE-",
    "ipvs": "ipset list -n | grep KUBE-; ipvsadm -Ln; ip link show kube-ipvs0",
    "nftables": "nft list tables | grep kube-proxy",
}


def leftovers(seen: Artefacts, other: Mode, mode: Mode) -> tuple[str, ...]:
    """Name what ``other`` mode left and ``mode`` does not use, but for what others hold on to.

    Chains that both modes make are no leftovers, and kubelet's never are.
    """
    if other == "nftables":
        return tuple(f"table {table}" for table in seen.tables if table.endswith(" kube-proxy"))
    chains = tuple(filter(None, (_left_chains(rules, other, mode) for rules in seen.rules)))
    return chains if other == "iptables" else (*_left_of_ipvs(seen), *chains)


def _left_chains(rules: Rules, other: Mode, mode: Mode) -> str:
    names = [*sorted(_unused(other, mode) & set(rules.chains) - _not_ours(rules))]
    held = sum(1 for held in rules.held if held.startswith("nat ") and held not in rules.chains)
    if other == "iptables" and rules.service_chains > held:
        names.append(f"{rules.service_chains - held} chains of services")
    return f"{', '.join(names)} ({rules})" if names else ""


def _unused(other: Mode, mode: Mode) -> set[str]:
    return {str(chain) for chain in CHAINS if other in chain.modes and mode not in chain.modes}


def _not_ours(rules: Rules) -> set[str]:
    # Up to 1.27, kubelet makes three chains of kube-proxy's names, KUBE-MARK-DROP among them.
    kubelets = rules.kubelet and "nat KUBE-MARK-DROP" in rules.chains
    return {*rules.held, *(KUBELET_CHAINS if kubelets else ())}


def _left_of_ipvs(seen: Artefacts) -> tuple[str, ...]:
    held = {name for rules in seen.rules for name in rules.held}
    sets = [name for name in seen.sets if f"set {name}" not in held]
    return (
        *(["kube-ipvs0"] if seen.device else []),
        *([f"{seen.virtual_servers} virtual servers"] if seen.virtual_servers else []),
        *([f"{len(sets)} ipsets: {', '.join(sets)}"] if sets else []),
    )


def _held(seen: Artefacts, other: Mode, mode: Mode) -> tuple[str, ...]:
    unused = _unused(other, mode)
    if other == "ipvs":
        unused |= {f"set {name}" for name in seen.sets}
    fixed = {str(chain) for chain in CHAINS}
    return tuple(
        f"{name} ({rules}): another's rule refers to it"
        for rules in seen.rules
        for name in rules.held
        if name in unused or (other == "iptables" and name not in fixed and name[:4] == "nat ")
    )


def _unread(seen: Artefacts) -> tuple[Finding, ...]:
    # A table that nft alone can show is not of kube-proxy's making: it could not have written it.
    return tuple(
        _finding(
            f"rules ({rules})",
            Status.FAIL if "all" in rules.unreadable else Status.WARN,
            f"cannot be read: {', '.join(rules.unreadable)}",
            hint="iptables-save; nft list ruleset",
        )
        for rules in seen.rules
        if rules.unreadable
    )


def _unbridged(seen: Artefacts) -> Finding:
    left = [
        *(f"{rules.bridge} chains ({rules})" for rules in seen.rules if rules.bridge),
        *(f"set {name}" for name in seen.bridge_sets),
        *(f"table {table}" for table in seen.tables if table.endswith(f" {BRIDGE_TABLE}")),
    ]
    if left:
        return _finding("bridge", Status.FAIL, "; ".join(left), "nothing of it is left")
    return _finding("bridge", Status.OK, "nothing of it is left")


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
