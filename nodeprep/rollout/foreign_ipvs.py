"""Virtual servers of others: kept over kube-proxy's flush of the whole IPVS table.

From 1.29 on kube-proxy flushes the table when it starts in nftables mode, whoever made what is in
it (pkg/proxy/ipvs CleanupLeftovers). Told to, nodeprep writes down what is not kube-proxy's before
that, and puts it back within a fraction of a second, as often as it goes.
"""

UNIT = "nodeprep-foreign-ipvs.service"

SHELL = """\
foreign_servers() {
  [ -e /proc/net/ip_vs ] && command -v ipvsadm >/dev/null || return 0
  {
    virtual_servers 'function mine(kind, key) {} function other(server) { print "@", server }'
    ipvsadm -Sn
  } | awk '
    BEGIN { kinds["-t"] = "TCP"; kinds["-u"] = "UDP"; kinds["--sctp-service"] = "SCTP" }
    BEGIN { kinds["-f"] = "FWM" }
    $1 == "@" { foreign[$2 " " $3]; next }
    (kinds[$2] " " $3) in foreign'
}
start_guard_of_foreign() {
  [ -s "$record/foreign-ipvs" ] || return 0
  systemctl is-active --quiet @UNIT@ && return
  systemctl reset-failed @UNIT@ 2>/dev/null
  systemd-run --quiet --unit=@UNIT@ --description="nodeprep: guards foreign virtual servers" \\
    /bin/sh "$record/way-back" guard_foreign
}
guard_foreign() {
  while [ -e "$work/deadline" ]; do
    put_foreign_back
    sleep 0.1
  done
}
# A flushed table has no line at all, by which awk could tell the first input from the second.
put_foreign_back() {
  ipvsadm -Sn | awk '!kept { have[$0]; next } !($0 in have)' - kept=1 "$record/foreign-ipvs" |
    ipvsadm -R
}
""".replace("@UNIT@", UNIT)
"""Defines ``foreign_servers``, which prints them as ``ipvsadm -Sn`` does, and their guard.

It stands on ``virtual_servers`` of ``artefacts.LIBRARY``, and on the settings of ``way_back``.
"""
