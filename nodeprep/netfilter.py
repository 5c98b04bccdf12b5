"""The two backends of iptables, looked at with care: no module is loaded for a look."""

LOOKING = """\
may_look() {
  grep -qs "^$1 " /proc/modules || ! grep -qs "/$1[.]ko" "/lib/modules/$(uname -r)/modules.dep"
}
rules_program() {
  if command -v "$1-$2-$3" >/dev/null; then
    echo "$1-$2-$3"
    return
  fi
  case $("$1" --version 2>/dev/null) in
    *nf_tables*) [ "$2" = nft ] ;;
    *" v"*) [ "$2" = legacy ] ;;
    *) false ;;
  esac && echo "$1-$3"
}
iptables_of() { if [ "$1" = 4 ]; then echo iptables; else echo ip6tables; fi; }
may_look_at_rules() {
  case $1 in
    nft) may_look nf_tables ;;
    *) grep -qs . "/proc/net/$(iptables_of "$2" | sed 's/tables$/_tables/')_names" ;;
  esac
}
saved_rules() {
  may_look_at_rules "$1" "$2" && save=$(rules_program "$(iptables_of "$2")" "$1" save) || return 0
  "$save" 2>/dev/null || echo "# unread"
}
"""
"""Defines ``may_look MODULE``, ``rules_program PROGRAM BACKEND VERB``, and ``saved_rules``.

A backend is ``nft`` or ``legacy``, a family 4 or 6. ``saved_rules BACKEND FAMILY`` prints what
iptables-save does, and nothing where looking would load a module. A module that is not loaded, and
could be, is the one that looking would load: what modules.dep does not name is built in or not to
be had.
"""
