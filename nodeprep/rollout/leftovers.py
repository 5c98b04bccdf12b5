"""Shell that removes what kube-proxy made in one mode, piece by piece, and nothing else.

Nothing is flushed that is not provably kube-proxy's own. Chains go by their names, and the rules
that enter them by their comments, all in one transaction of a table; virtual servers go by their
addresses, one by one; ipsets and tables by their names. What somebody's rule refers to stays, with
all that it leads to, and is named.

It may be begun again after any interruption: what proves a thing to be kube-proxy's goes after the
thing. A virtual server is known by an address on kube-ipvs0 or by an entry in one of kube-proxy's
ipsets, so the virtual servers go first, then the device, then the rules, and the ipsets last.
"""

from nodeprep.rollout import artefacts

# Kubelet's chains stay. So do all chains that the mode which is kept makes itself: it has written
# them anew, and only rules of the other mode are taken out of them.
_REMOVING = """\
function unwanted(name) {
  return index("," modes[name] ",", "," kept ",") == 0 && !(table == "nat" && kubelet &&
    "KUBE-MARK-DROP" in modes && name ~ /^KUBE-(MARK-DROP|MARK-MASQ|POSTROUTING)$/)
}
function stale_hook() {
  return kept == "ipvs" && /"kubernetes load balancer firewall"/ ||
    kept == "iptables" && /"kube-proxy firewall rules"/
}
/^# unread/ { exit 1 }
/^\\*/ { drops = 0 }
/^-A / && (($2 in modes) ? !unwanted($2) : hook()) {
  if (to ? unwanted(to) || !($2 in modes) && stale_hook() : 0) drop[++drops] = $0
  else if (($2 in modes) && gone == "ipvs" && /-set KUBE-/) drop[++drops] = $0
}
/^COMMIT/ {
  spread_holding()
  going = 0
  for (i = 1; i <= count; i++) if (unwanted(chains[i])) {
    if (chains[i] in held) print "# kept: " table " " chains[i] ", another\\047s rule refers to it"
    else going_chain[++going] = chains[i]
  }
  if (!going && !drops) next
  print "# removed: " going " chain(s) and " drops + 0 " rule(s) of " table
  print "*" table
  for (i = 1; i <= drops; i++) print "-D" substr(drop[i], 3)
  for (i = 1; i <= going; i++) print "-F " going_chain[i]
  for (i = 1; i <= going; i++) print "-X " going_chain[i]
  print "COMMIT"
}
"""

# Where only the other backend has rules of the mode that is kept, kube-proxy does not work here:
# what it left in an earlier time is of no use to it.
_RULES = """\
has_rule() { { saved_rules "$1" 4; saved_rules "$1" 6; } | grep -qe "$2"; }
kept_in() {
  case $2 in
    iptables) mark='-j KUBE-SVC-' ;;
    ipvs) mark='--match-set KUBE-\\(6-\\)*CLUSTER-IP ' ;;
    *)
      echo "$2"
      return
      ;;
  esac
  if [ "$1" = nft ]; then unlike=legacy; else unlike=nft; fi
  if ! has_rule "$1" "$mark" && has_rule "$unlike" "$mark"; then echo none; else echo "$2"; fi
}
rules_transaction() {
  saved_rules "$1" "$2" | awk -v gone="$3" -v kept="$4" '@READING@@REMOVING@'
}
say_rules() {
  printf '%s\\n' "$transaction" | sed -n "s/^# $1: \\(.*\\)/$1 \\1 (IPv$3, $2 backend)/p"
}
remove_rules_of() {
  tries=0
  while :; do
    transaction=$(rules_transaction "$@") || break
    if ! printf '%s\\n' "$transaction" | grep -q '^[*]'; then
      say_rules kept "$@"
      return 0
    fi
    [ "$tries" -lt 3 ] || break
    tries=$((tries + 1))
    restore=$(rules_program "$(iptables_of "$2")" "$1" restore) || break
    printf '%s\\n' "$transaction" | "$restore" --noflush --wait=5 || continue
    say_rules removed "$@"
  done
  echo "IPv$2 rules of kube-proxy are still there ($1 backend)"
  return 1
}
remove_rules() {
  rules_status=0
  for backend in nft legacy; do
    kept_here=$(kept_in "$backend" "$2")
    for family in 4 6; do
      remove_rules_of "$backend" "$family" "$1" "$kept_here" || rules_status=1
    done
  done
  return "$rules_status"
}
"""

# A client that goes on from its old port would be led past the new mode's rules for as long as the
# kernel remembers it: so what was said to a service over UDP is forgotten with its virtual server,
# or, where kube-proxy flushes these, as soon as a bridge stands in front of them (``sources``).
# ipvsadm reads as many commands as it is given: a process for each of 20,000 would take minutes.
_NAMING = """\
function other(server) {}
function mine(kind, key) {
  print "-D " (kind == "TCP" ? "-t" : kind == "UDP" ? "-u" : "--sctp-service") " " shown(key)
}
"""
_IPVS = """\
named_servers() { virtual_servers '@NAMING@'; }
remove_virtual_servers() {
  [ -e /proc/net/ip_vs ] || return 0
  doomed=$(named_servers) || return
  [ "$doomed" ] || return 0
  if ! command -v ipvsadm >/dev/null; then
    echo "ipvsadm is needed to remove virtual servers"
    return 1
  fi
  printf '%s\\n' "$doomed" | ipvsadm -R
  if ! alive=$(named_servers) || [ "$alive" ]; then
    echo "virtual servers of kube-proxy are still there"
    return 1
  fi
  echo "removed $(printf '%s\\n' "$doomed" | wc -l) virtual servers"
  forget_datagrams "$doomed"
}
forget_datagrams() {
  command -v conntrack >/dev/null || return 0
  printf '%s\\n' "$1" | sed -n 's/^-D -u //p' | while IFS= read -r place; do
    address=${place%:*}
    address=${address#[[]}
    conntrack -D -p udp --orig-dst "${address%[]]}" --dport "${place##*:}" >/dev/null 2>&1
  done
  return 0
}
remove_device() {
  grep -q '^ *kube-ipvs0:' /proc/net/dev || return 0
  ip link del kube-ipvs0 && echo "removed kube-ipvs0"
}
held_sets() {
  for backend in nft legacy; do
    for family in 4 6; do counted_rules "$backend" "$family"; done
  done | sed -n 's/^held [a-z]* [46] set //p'
}
remove_sets() {
  doomed=$(kube_proxy_sets)
  [ "$doomed" ] || return 0
  for set in $doomed; do ipset destroy "$set" 2>/dev/null && echo "$set"; done |
    awk 'END { if (NR) print "removed " NR " ipsets" }'
  sets_status=0
  held=$(held_sets)
  for set in $(kube_proxy_sets); do
    if printf '%s\\n' "$held" | grep -qxF "$set"; then
      echo "kept set $set, another's rule refers to it"
    else
      echo "set $set is still there"
      sets_status=1
    fi
  done
  return "$sets_status"
}
"""
_TABLES = """\
remove_tables() {
  doomed=$(kube_proxy_tables)
  [ "$doomed" ] || return 0
  printf '%s\\n' "$doomed" | sed 's/^/delete /' | nft -f - || return
  printf '%s\\n' "$doomed" | sed 's/^/removed /'
}
"""
_REMOVE = """\
remove_leftovers() {
  case $1 in
    "$2") ;;
    iptables) remove_rules "$1" "$2" ;;
    ipvs) remove_virtual_servers && remove_device && remove_rules "$1" "$2" && remove_sets ;;
    nftables) remove_tables ;;
  esac
}
"""

SHELL = artefacts.filled(
    artefacts.LIBRARY + _RULES + _IPVS + _TABLES + _REMOVE, REMOVING=_REMOVING, NAMING=_NAMING
)
"""Defines ``remove_leftovers GONE KEPT``, both modes: removes what GONE made and KEPT does not use.

From one iptables mode to another the chains that both make stay, and into nftables none does. It
prints a line for each kind of thing, and fails where something of kube-proxy's is still there.
"""
