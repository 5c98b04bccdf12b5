r"""Shell that keeps services alive while kube-proxy goes from one mode to another.

Into and out of nftables mode kube-proxy removes the other mode's rules before it has written its
own, and for seconds every new connection fails. Between iptables and ipvs it writes over the old
rules, and what it writes first may lack endpoints that it has not been told yet (kubernetes issue
126468; mended in 1.32). The bridge is a snapshot of the service rules under names that kube-proxy
does not know: chains and sets ``NPREP-...``, nft tables ``nodeprep-bridge``. It is put in place
before the restart and taken away once the new mode serves, each by one transaction for each table,
so that no packet ever meets half of it.

From iptables, kube-proxy's chains are copied; from nftables, its tables; from ipvs, its sets are
copied and its virtual servers become DNAT rules. The copies translate before kube-proxy's own rules
do, and stand on nothing of kube-proxy's: it may remove all it made, and they go on.

``bridge_from`` keeps a bridge that stands already. After an interruption kube-proxy may have
cleaned half of its rules, and a second snapshot would be worse than the first.

The filters ``bridge_copied_...`` and ``bridge_taken_away`` read text and print text.
"""

from collections.abc import Mapping
from types import MappingProxyType

from nodeprep.model import Mode

_MEANWHILE = "changes of Services and endpoints while the bridge stands"

CANNOT_CARRY: Mapping[Mode, tuple[str, ...]] = MappingProxyType(
    {
        "iptables": (_MEANWHILE,),
        "ipvs": (
            _MEANWHILE,
            "session affinity: a client may land on another endpoint once",
            "the scheduler: new connections are spread at random, by weight",
        ),
        "nftables": (
            _MEANWHILE,
            "the first endpoint of a Service that had none: it is refused while the bridge stands",
        ),
    }
)
"""By the mode that a node leaves, what does not pass over the bridge: sentences for the plan."""

FLUSHED = "connections through IPVS that do not end within ten seconds: kube-proxy flushes them"
"""What else does not, where the other mode is nftables."""


# --- from iptables --------------------------------------------------------------------------

# A rule that goes to a chain ends with the chain's name, and a comment with spaces ends with a
# quote: so what a comment says is never taken for a target. The name of a `recent` list stays,
# because by it the copy goes on with the clients that the original has seen.
_COPYING = """\
function copy(name) { return "NPREP-" substr(name, 6) }
function put(line) { lines[table, ++count[table]] = line }
function translates() { return table == "nat" && / -j KUBE-SERVICES$/ }
function goes_on() { return $(NF - 1) ~ /^-[jg]$/ && own($NF) }
function copied(line) {
  if (goes_on()) sub(/KUBE-[^ ]*$/, copy($NF), line)
  return line
}
function insert(offset) {
  put("-I " $2 " " (place[table, $2] + added[table, $2]++ + offset) \\
    copied(substr($0, length($2) + 4)))
}
function print_table(table, n) {
  if (!count[table]) return
  print "*" table
  for (n = 1; n <= count[table]; n++) print lines[table, n]
  print "COMMIT"
}
"""

# `nat` comes last: where its chains are, those of `filter` are too. In ipvs mode kube-proxy accepts
# what goes to a service before any rule behind its own is asked: what translates comes in front.
#
# The node's own packets have the service's address as their source as soon as that is on
# kube-ipvs0, and without a cluster CIDR iptables mode masquerades none of them.
_FROM_IPTABLES = (
    """\
bridge_copied_chains() {
  awk '
"""
    + _COPYING
    + """\
function own(chain) {
  if (table == "nat")
    return chain ~ /^KUBE-(SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|MARK-DROP)$/ ||
      chain ~ /^KUBE-(SVC|SEP|FW|XLB|EXT|SVL)-/
  return table == "filter" &&
    chain ~ /^KUBE-(SERVICES|EXTERNAL-SERVICES|NODEPORTS|FORWARD|PROXY-FIREWALL)$/
}
function masquerade_own() {
  put("-A NPREP-POSTROUTING -m conntrack --ctstate DNAT -m addrtype --src-type LOCAL -j MASQUERADE")
}
/^\\*/ { table = substr($1, 2) }
/^:/ && own(substr($1, 2)) { put(":" copy(substr($1, 2)) " - [0:0]") }
/^:KUBE-POSTROUTING / && table == "nat" { masquerade_own() }
/^-A KUBE-SERVICES .*-j KUBE-SVC-/ && table == "nat" { found = 1 }
/^-A KUBE-/ && own($2) { put("-A " copy($2) copied(substr($0, length($2) + 4))); next }
/^-A / { place[table, $2]++ }
/^-A (PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) / && goes_on() { insert(!translates()) }
END {
  if (!found) exit
  print_table("filter")
  print_table("nat")
}'
}
"""
)


# --- from ipvs ------------------------------------------------------------------------------

# One reading of all that the snapshot is made of, for the filter below.
_IPVS_STATE = """\
bridge_ipvs_state() {
  echo @addresses && ip -o addr && echo @sets && ipset save && echo @servers && ipvsadm -Sn &&
    echo @rules && bridge_save "$1"
}
"""

# Into nftables mode kube-proxy flushes IPVS before it removes its chains, and these accept what
# goes to a service: ours come first.
#
# The node's own packets to a service leave with the service's address as their source while that
# is on kube-ipvs0: the copied rules mark them for masquerading as they did before.
#
# What may not reach a load balancer's address is not translated, and keeps that address for the
# filter to drop: `nat` has no DROP.
_FROM_IPVS = (
    """\
bridge_copied_servers() {
  awk -v part="$1" -v family="$2" '
"""
    + _COPYING
    + """\
function own(chain) {
  if (table == "nat")
    return chain ~ /^KUBE-(SERVICES|POSTROUTING|MARK-MASQ|MARK-DROP)$/ ||
      chain ~ /^KUBE-(NODE-PORT|LOAD-BALANCER|FIREWALL)$/
  return table == "filter" && chain ~ /^KUBE-(FORWARD|NODE-PORT)$/
}
function own_set(name) {
  if ((name ~ /^KUBE-6-/) != (family == 6)) return 0
  sub(/^KUBE-(6-)?/, "", name)
  return name ~ /^(LOOP-BACK|CLUSTER-IP|EXTERNAL-IP(-LOCAL)?|HEALTH-CHECK-NODE-PORT|IPVS-IPS)$/ ||
    name ~ /^LOAD-BALANCER(-FW|-LOCAL|-SOURCE-IP|-SOURCE-CIDR?)?$/ ||
    name ~ /^NODE-PORT-(LOCAL-)?(TCP|UDP|SCTP-HASH?)$/
}
function copied_set(name) { return substr(copy(name), 1, 31) }
function our_set(name) { return (family == 6 ? "NPREP-6-" : "NPREP-") name }
function matching(name, flags) { return " -m set --match-set " our_set(name) " " flags }
function own_server(protocol, address, port) {
  return address in virtual || address in here &&
    (protocol ":" port in node_port || address "," protocol ":" port in node_port)
}
function add_server(protocol, where, address, port) {
  server = 0
  port = where; sub(/.*:/, "", port)
  address = where; sub(/:[0-9]*$/, "", address); gsub(/[][]/, "", address)
  if ((address ~ /:/) != (family == 6) || !own_server(protocol, address, port)) return
  server = ++servers
  protocols[server] = protocol; addresses[server] = address; ports[server] = port
}
function option(name, n) {
  for (n = 4; n <= NF; n++) if ($n == name) return $(n + 1)
}
function add_endpoint(weight) {
  if (weight < 1 || !/ -m( |$)/) return
  endpoint[server, ++endpoints[server]] = option("-r")
  weights[server, endpoints[server]] = weight
  left[server] += weight
}
function chance(s, e, share) {
  share = weights[s, e] / left[s]
  left[s] -= weights[s, e]
  return share < 1 ? sprintf(" -m statistic --mode random --probability %.10f", share) : ""
}
function translation(s, e, recent) {
  return " -p " protocols[s] recent " -j DNAT --to-destination " endpoint[s, e]
}
function put_server(s, chain, e) {
  chain = "NPREP-VS-" s
  put(":" chain " - [0:0]")
  put("-A NPREP-VIRTUAL -d " addresses[s] " -p " protocols[s] " -m " protocols[s] \\
    " --dport " ports[s] " -j " chain)
  if (affinity[s]) put_affinity(s, chain)
  for (e = 1; e <= endpoints[s]; e++)
    put("-A " chain chance(s, e) (affinity[s] ? " -j " chain "-" e : translation(s, e)))
}
function put_affinity(s, chain, e, name) {
  for (e = 1; e <= endpoints[s]; e++) {
    name = chain "-" e
    put(":" name " - [0:0]")
    put("-A " name translation(s, e, " -m recent --name " name " --set --rsource"))
    put("-A " chain " -m recent --name " name " --rcheck --seconds " affinity[s] \\
      " --reap --rsource -j " name)
  }
}
function put_ranges(verdict, n) {
  put(":NPREP-RANGES - [0:0]")
  for (n = 1; n <= allowing; n++)
    put("-A NPREP-RANGES -m set --match-set " allowed[n] " dst,dst,src" verdict)
}
function put_nat(s) {
  put(":NPREP-VIRTUAL - [0:0]")
  for (s = 1; s <= servers; s++) if (endpoints[s]) put_server(s)
  if (ranges) {
    put_ranges(" -j NPREP-VIRTUAL")
    put("-A NPREP-RANGES -m addrtype --src-type LOCAL -j NPREP-VIRTUAL")
    put("-A NPREP-RANGES" matching("LOAD-BALANCER-FW", "dst,dst") " -j RETURN")
    put("-A NPREP-RANGES" matching("VIRTUAL", "dst,dst") " -j NPREP-VIRTUAL")
  }
  put("-A NPREP-SERVICES" matching("VIRTUAL", "dst,dst") \\
    (ranges ? " -j NPREP-RANGES" : " -j NPREP-VIRTUAL"))
}
function put_filter(n, chains) {
  put(":NPREP-SERVICES - [0:0]")
  if (ranges) {
    put_ranges(" -j RETURN")
    put("-A NPREP-RANGES -j DROP")
    put("-A NPREP-SERVICES" matching("LOAD-BALANCER-FW", "dst,dst") \\
      " -m addrtype ! --src-type LOCAL -j NPREP-RANGES")
  }
  put("-A NPREP-SERVICES" matching("EMPTY", "dst,dst") " -j REJECT")
  split("INPUT FORWARD OUTPUT", chains, " ")
  for (n = 1; n <= 3; n++) put("-I " chains[n] " 1 -m conntrack --ctstate NEW -j NPREP-SERVICES")
}
function print_sets(s) {
  for (s = 1; s <= sets; s++) print set[s]
  print "create " our_set("VIRTUAL") " hash:ip,port family inet" six " maxelem 1048576"
  print "create " our_set("EMPTY") " hash:ip,port family inet" six " maxelem 1048576"
  for (s = 1; s <= servers; s++)
    print "add " our_set(endpoints[s] ? "VIRTUAL" : "EMPTY") " " \\
      addresses[s] "," protocols[s] ":" ports[s]
}
BEGIN {
  six = family == 6 ? "6" : ""
  protocol_of["-t"] = "tcp"; protocol_of["-u"] = "udp"; protocol_of["--sctp-service"] = "sctp"
}
/^@/ { section = $1; next }
section == "@addresses" && $3 == "inet" six {
  address = $4; sub(/\\/.*/, "", address)
  if ($2 == "kube-ipvs0") virtual[address]; else here[address]
}
section == "@sets" && own_set($2) {
  name = $2
  if (name ~ /-LOAD-BALANCER-FW$/) ranges = 1
  if ($1 == "create" && name ~ /-SOURCE-(IP|CIDR?)$/) allowed[++allowing] = copied_set(name)
  if ($1 == "add" && name ~ /-NODE-PORT-/ && name !~ /HEALTH/) {
    kind = name ~ /TCP$/ ? "tcp:" : "udp:"
    node_port[name ~ /SCTP/ ? $3 : kind $3]
  }
  sub(/KUBE-[^ ]*/, copied_set(name))
  set[++sets] = $0
}
section == "@servers" && $1 == "-A" {
  server = 0
  if ($2 in protocol_of) add_server(protocol_of[$2], $3)
  if (server) affinity[server] = option("-p")
}
section == "@servers" && $1 == "-a" && server { add_endpoint(option("-w")) }
section != "@rules" { next }
/^\\*/ { table = substr($1, 2) }
/^:/ && own(substr($1, 2)) { put(":" copy(substr($1, 2)) " - [0:0]") }
/^:KUBE-SERVICES / && table == "nat" { found = 1 }
/^-A KUBE-SERVICES .*-j ACCEPT$/ { next }
/^-A KUBE-/ && own($2) {
  line = copied(substr($0, length($2) + 4))
  if (match(line, / --match-set KUBE-[^ ]*/))
    line = substr(line, 1, RSTART + 12) copied_set(substr(line, RSTART + 13, RLENGTH - 13)) \\
      substr(line, RSTART + RLENGTH)
  put("-A " copy($2) line)
  next
}
/^-A / { place[table, $2]++ }
/^-A (PREROUTING|OUTPUT) / && translates() { insert(0); next }
/^-A (INPUT|FORWARD|POSTROUTING) / && goes_on() { insert(1) }
END {
  if (!found) exit
  if (part == "sets") { print_sets(); exit }
  table = "filter"; put_filter()
  table = "nat"; put_nat()
  print_table("filter")
  print_table("nat")
}'
}
"""
)


# --- from nftables --------------------------------------------------------------------------

# Only the first line names the table. Clients that a set remembers come with their time to live.
_FROM_NFTABLES = """\
bridge_copied_table() {
  sed 's/^table \\(ip6*\\) kube-proxy {/table \\1 nodeprep-bridge {/'
}
"""


# --- all of it ------------------------------------------------------------------------------

_TAKEN_AWAY = """\
bridge_taken_away() {
  awk '
function print_table(table, n) {
  if (!chains[table]) return
  print "*" table
  for (n = 1; n <= jumps[table]; n++) print jump[table, n]
  for (n = 1; n <= chains[table]; n++) print "-F " chain[table, n]
  for (n = 1; n <= chains[table]; n++) print "-X " chain[table, n]
  print "COMMIT"
}
/^\\*/ { table = substr($1, 2) }
/^:NPREP-/ { chain[table, ++chains[table]] = substr($1, 2) }
/^-A NPREP-/ { next }
/^-A / && $(NF - 1) ~ /^-[jg]$/ && $NF ~ /^NPREP-/ {
  jump[table, ++jumps[table]] = "-D" substr($0, 3)
}
END {
  print_table("nat")
  print_table("filter")
}'
}
"""

# iptables of either backend may go by three names: each program is asked once.
# With tens of thousands of chains one saving takes the nft backend many seconds: it is asked as
# seldom as can be. Without a table's name, saving loads no module of the legacy backend. On
# stderr each backend warns of the other's tables.
_PROGRAMS = """\
bridge_programs() (
  seen=
  for family in iptables ip6tables; do
    for backend in '' -nft -legacy; do
      path=$(command -v "$family$backend-save") || continue
      path=$family:$(readlink -f "$path")
      case " $seen " in *" $path "*) continue ;; esac
      seen="$seen $path"
      printf '%s\\n' "$family$backend"
    done
  done
)
bridge_save() { "$1-save" 2>/dev/null; }
bridge_restore() {
  if "$1-restore" -w 30 --noflush </dev/null >/dev/null 2>&1; then
    "$1-restore" -w 30 --noflush
  else
    "$1-restore" --noflush
  fi
}
bridge_is_in() { "$1" -n -t nat -L NPREP-POSTROUTING >/dev/null 2>&1; }
bridge_seen() {
  bridge_save "$1" | awk '
    /^\\*/ { table = $1 }
    table == "*nat" && /^:NPREP-POSTROUTING / { bridge = 1 }
    table == "*nat" && /^:KUBE-SERVICES / { services = 1 }
    /^:NPREP-/ { part = 1 }
    END { print bridge ? "bridge" : !services ? "nothing" : part ? "part" : "services" }'
}
bridge_tables() {
  command -v nft >/dev/null && nft list tables | grep -E "^table ip6? $1\\$"
}
bridge_sets() {
  [ -d /sys/module/ip_set ] && command -v ipset >/dev/null && ipset list -n | grep '^NPREP-'
}
"""

# A set is free only some time after the last rule that named it is gone.
_REMOVING = """\
bridge_remove_chains() {
  bridge_save "$1" | bridge_taken_away | bridge_restore "$1"
}
bridge_remove_sets() (
  for second in 1 2 3 4 5; do
    bridge_sets | sed 's/^/destroy /' | ipset restore 2>/dev/null
    bridge_sets >/dev/null || exit 0
    sleep 1
  done
  echo "sets of the bridge are still in use after $second seconds"
  exit 1
)
bridge_remove_tables() {
  bridge_tables nodeprep-bridge | sed 's/^/delete /' | nft -f -
}
unbridge() (
  status=0
  for program in $(bridge_programs); do
    bridge_remove_chains "$program" || { sleep 1; bridge_remove_chains "$program"; } || status=1
  done
  ! bridge_tables nodeprep-bridge >/dev/null || bridge_remove_tables || status=1
  ! bridge_sets >/dev/null || bridge_remove_sets || status=1
  exit "$status"
)
bridged() (
  for program in $(bridge_programs); do
    [ "$(bridge_seen "$program")" != bridge ] || exit 0
  done
  bridge_tables nodeprep-bridge >/dev/null || exit 1
)
"""

# nft takes all tables or none: a word which it does not know stops it where one cannot be read.
_PLACING = """\
bridge_place() {
  case $1 in
    iptables) bridge_save "$2" | bridge_copied_chains | bridge_restore "$2" ;;
    ipvs) bridge_place_servers "$2" ;;
  esac || return
  bridge_is_in "$2"
}
bridge_place_servers() (
  case $1 in ip6*) family=6 ;; *) family=4 ;; esac
  if ! ip -o addr show dev kube-ipvs0 | grep -q . || ! ipvsadm -Sn | grep -q '^-A'; then
    echo "nothing to bridge: there is no virtual server of kube-proxy's here"
    exit 1
  fi
  bridge_ipvs_state "$1" | bridge_copied_servers sets "$family" | ipset restore -exist &&
    bridge_ipvs_state "$1" | bridge_copied_servers rules "$family" | bridge_restore "$1"
)
bridge_from_rules() (
  placed=0
  for program in $(bridge_programs); do
    seen=$(bridge_seen "$program")
    [ "$seen" != part ] || bridge_remove_chains "$program" || exit
    case $seen in
      nothing) continue ;;
      bridge) echo "the bridge stands already in $program" ;;
      *) bridge_place "$1" "$program" && echo "bridged in $program" || exit ;;
    esac
    placed=1
  done
  [ "$placed" -eq 1 ] && exit
  echo "nothing to bridge: kube-proxy has no service chain here"
  exit 1
)
bridge_from_tables() {
  if bridge_tables nodeprep-bridge >/dev/null; then
    echo "the bridge stands already in nft"
  elif bridge_tables kube-proxy >/dev/null; then
    bridge_tables kube-proxy | while read -r _ family _; do
      nft list table "$family" kube-proxy || echo unreadable
    done | bridge_copied_table | nft -f - && echo "bridged in nft"
  else
    echo "nothing to bridge: there is no table of kube-proxy's here"
    return 1
  fi
}
bridge_from() {
  case $1 in
    nftables) bridge_from_tables ;;
    *) bridge_from_rules "$1" ;;
  esac && return
  unbridge
  return 1
}
"""

SHELL = (
    _FROM_IPTABLES
    + _IPVS_STATE
    + _FROM_IPVS
    + _FROM_NFTABLES
    + _TAKEN_AWAY
    + _PROGRAMS
    + _REMOVING
    + _PLACING
)
"""Defines ``bridge_from MODE``, ``unbridge`` and ``bridged``.

``bridge_from`` puts a snapshot of MODE's services in place, in every iptables backend and address
family in which kube-proxy has some, or keeps what stands; where it cannot, nothing of it stays and
it is not 0. ``unbridge`` takes everything away, and is 0 where there is nothing. ``bridged`` is 0
where a bridge stands, of which remains are none. All print what a log should hold.
"""
