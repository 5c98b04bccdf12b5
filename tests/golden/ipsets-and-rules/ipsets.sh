#!/bin/sh
# Managed by nodeprep: makes ipsets as the files in /etc/nodeprep/ipsets.d say, and touches no other.
#
#   ipsets.sh load [NAME...]   these, or all of them; one at a time, filled beside and swapped
#   ipsets.sh remove NAME      destroy one after the rules of nodeprep that match it; and its file
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
LC_ALL=C
export PATH LC_ALL
folder=/etc/nodeprep/ipsets.d
rules=/etc/nodeprep/bypass-rules.sh
lock=/run/nodeprep-ipsets.lock
loading=NODEPREP-LOADING

is_there() { ipset list -t "$1" >/dev/null 2>&1; }

# What others have added for a time: it is carried over. An entry of the file's own never expires.
expiring() {
  ipset save "$1" | awk -v to="$2" '
    NR == FNR { if ($1 == "add") own[$3] = 1; next }
    / timeout [1-9]/ && !($3 in own) { $2 = to; print }
  ' "$folder/$3" -
}

fill() {
  ipset destroy "$loading" 2>/dev/null
  {
    sed "s/^create [^ ]* /create $loading /; s/^add [^ ]* /add $loading /" "$folder/$1"
    if [ "$timed" ] && is_there "$1"; then expiring "$1" "$loading" "$1"; fi
  } | ipset -exist restore
}

# Between sets of one kind no packet finds neither. Another kind can only follow a set that nothing
# refers to: the kernel refuses to destroy what a rule looks into.
put_in_place() {
  if ! is_there "$1"; then
    ipset rename "$loading" "$1"
  elif said=$(ipset swap "$loading" "$1" 2>&1); then
    [ -z "$timed" ] || expiring "$loading" "$1" "$1" | ipset -exist restore
    ipset destroy "$loading"
  else
    echo "$said"
    ipset destroy "$1" && ipset rename "$loading" "$1"
  fi
}

load() {
  if ! grep -q '^create ' "$folder/$1"; then
    echo "$folder/$1 says nothing of a set"
    return 1
  fi
  timed=
  if grep -q '^create .* timeout ' "$folder/$1"; then timed=yes; fi
  fill "$1" && put_in_place "$1" && return
  ipset destroy "$loading" 2>/dev/null
  echo "the ipset $1 could not be loaded"
  return 1
}

load_each() {
  [ $# -gt 0 ] || set -- "$folder"/*
  status=0
  for name do
    name=${name##*/}
    [ ! -f "$folder/$name" ] || load "$name" || status=1
  done
  return "$status"
}

remove() {
  [ ! -f "$rules" ] || sh "$rules" forget "$1" || return
  if is_there "$1"; then ipset destroy "$1" || return; fi
  rm -f -- "$folder/$1"
}

locked() { flock -w 120 8 && "$@"; }

case ${1-} in
  load)
    shift
    locked load_each "$@" 8>>"$lock"
    ;;
  remove) locked remove "$2" 8>>"$lock" ;;
  *)
    sed -n 's/^#  //p' "$0"
    exit 2
    ;;
esac
