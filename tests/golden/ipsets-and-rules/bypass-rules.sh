#!/bin/sh
# Managed by nodeprep: puts the rules of /etc/nodeprep/bypass-rules in place, and touches no other.
#
#   bypass-rules.sh place        each where it belongs in its chain, a chain at once
#   bypass-rules.sh watch        the same while kube-proxy begins, which puts its jumps in front
#   bypass-rules.sh forget SET   remove the rules that match an ipset
# shellcheck disable=SC2016 # what stands in single quotes is awk's
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
LC_ALL=C
export PATH LC_ALL
record=/etc/nodeprep/bypass-rules
lock=/run/nodeprep-bypass-rules.lock

rules_program() {
  if command -v "$1-$2${3:+-$3}" >/dev/null; then
    echo "$1-$2${3:+-$3}"
    return
  fi
  case $("$1" --version 2>/dev/null) in
    *nf_tables*) [ "$2" = nft ] ;;
    *" v"*) [ "$2" = legacy ] ;;
    *) false ;;
  esac && echo "$1${3:+-$3}"
}
iptables_of() { if [ "$1" = 4 ]; then echo iptables; else echo ip6tables; fi; }

# `own` is the backend that plain iptables writes.
tool() {
  case $1 in
    own) echo "$(iptables_of "$2")${3:+-$3}" ;;
    *) rules_program "$(iptables_of "$2")" "$1" "${3-}" ;;
  esac
}

listed() {
  list=$(tool "$1" "$2") && "$list" --wait=5 -t "$3" -S "$4" 2>/dev/null
}

restored() {
  restore=$(tool "$1" "$2" restore) && "$restore" --noflush --wait=5
}

chains() { grep -v '^#' "$record" | cut -d ' ' -f 1-4 | sort -u; }

# The record, the names of all sets, and the chain as it is: a rule in it is ours by its comment.
reading='
  function comment_of(rule,  text) {
    if (!match(rule, /--comment ("[^"]*"|[^ ]+)/)) return ""
    text = substr(rule, RSTART + 10, RLENGTH - 10)
    gsub(/"/, "", text)
    return text
  }
  function plain(rule) {
    gsub(/"/, "", rule)
    return rule
  }
  $1 == "set" { sets[$2] = 1 }
  $1 == "want" && $2 == backend && $3 == family && $4 == table && $5 == chain {
    rule = $0
    for (i = 0; i < 6; i++) sub(/^[^ ]+ /, "", rule)
    comment = comment_of(rule)
    set_of[comment] = $10
    if (!($10 in sets)) next
    if ($6 == "first") first[++firsts] = rule
    else last[++lasts] = rule
  }
  $1 == "-A" {
    number++
    rule = substr($0, length("-A " chain " ") + 1)
    comment = comment_of(rule)
    if ((comment in set_of) && rule ~ /--match-set /) {
      found[++count] = rule
      at[count] = number
      of[count] = comment
    } else if ($(NF - 1) ~ /^-[jg]$/ && $NF ~ /^KUBE-[^"]*$/) {
      if (!jump) jump = number
      last_jump = number
    }
  }
'

# Nothing where all is right. A rule whose set is not there could not be restored, and would keep
# the others away.
ordering='
  END {
    right = count == firsts + lasts
    for (i = 1; i <= count && right; i++) {
      rule = i <= firsts ? first[i] : last[i - firsts]
      right = plain(found[i]) == plain(rule)
    }
    if (right && firsts && jump && at[firsts] > jump) right = 0
    if (right && lasts && at[firsts + 1] < last_jump) right = 0
    if (right) exit
    print "*" table
    for (i = 1; i <= count; i++) print "-D " chain " " found[i]
    for (i = firsts; i > 0; i--) print "-I " chain " 1 " first[i]
    for (i = 1; i <= lasts; i++) print "-A " chain " " last[i]
    print "COMMIT"
  }
'
forgetting='
  END {
    for (i = 1; i <= count; i++) if (set_of[of[i]] == gone) {
      if (!going++) print "*" table
      print "-D " chain " " found[i]
    }
    if (going) print "COMMIT"
  }
'

transaction() {
  action=$1
  shift
  {
    ipset list -n | sed 's/^/set /'
    sed 's/^/want /' "$record"
    printf '%s\n' "$now"
  } | awk -v backend="$1" -v family="$2" -v table="$3" -v chain="$4" -v gone="${5-}" \
    "$reading$action"
}

# A chain that is not there is for somebody else to make, and iptables says 1 of it. Any other
# failure, of a lock that is held for long, say, tells nothing of the chain.
change_in() {
  tries=0
  while :; do
    now=$(listed "$2" "$3" "$4" "$5") || {
      [ "$?" -ne 1 ] || return 0
      echo "the rules of $4 $5 (IPv$3) could not be read"
      return 1
    }
    change=$(transaction "$@")
    [ "$change" ] || return 0
    if [ "$tries" -eq 3 ]; then
      echo "the rules of $4 $5 (IPv$3) could not be changed"
      return 1
    fi
    tries=$((tries + 1))
    printf '%s\n' "$change" | restored "$2" "$3" && echo "changed the rules of $4 $5 (IPv$3)"
  done
}

in_each_chain() {
  [ -e "$record" ] || return 0
  status=0
  while read -r backend family table chain; do
    [ -z "$chain" ] ||
      change_in "$1" "$backend" "$family" "$table" "$chain" "${2-}" || status=1
  done <<END
$(chains)
END
  return "$status"
}

place() { in_each_chain "$ordering"; }

forget() {
  in_each_chain "$forgetting" "$1" || return
  [ -e "$record" ] || return 0
  grep -vF -e "--match-set $1 " "$record" >"${record%/*}/.nodeprep-forget.tmp"
  mv -f "${record%/*}/.nodeprep-forget.tmp" "$record"
}

has_jumps() {
  read -r backend family _ <<END
$(chains)
END
  listed "$backend" "$family" nat PREROUTING | grep -q -e '-[jg] KUBE-[^ ]*$'
}

# Ten minutes at most; and once kube-proxy's jumps are there, until nothing has moved ten times.
watch() {
  turn=0 quiet=0
  while [ "$turn" -lt 220 ] && [ "$quiet" -lt 10 ]; do
    said=$(locked place 8>>"$lock")
    quiet=$((quiet + 1))
    if [ "$said" ] || ! has_jumps; then quiet=0; fi
    [ -z "$said" ] || printf '%s\n' "$said"
    turn=$((turn + 1))
    if [ "$turn" -le 120 ]; then sleep 1; else sleep 5; fi
  done
}

locked() { flock -w 60 8 && "$@"; }

case ${1-} in
  place) locked place 8>>"$lock" ;;
  watch) watch ;;
  forget) locked forget "$2" 8>>"$lock" ;;
  *)
    sed -n 's/^#  //p' "$0"
    exit 2
    ;;
esac
