"""Shell that knows kube-proxy's process on a node: which one runs, and how another one comes.

As a systemd unit, systemd tells of it and restarts it. In a pod it is a process of the node like
any other, and whoever may ask the cluster lets another one come: the node itself waits for that.
"""

from nodeprep.model import Node

_TELLING = """\
process_now() {
  pid=$(proxy_pid)
  boot=$(cat /proc/sys/kernel/random/boot_id)
  line=
  [ "${pid:-0}" -eq 0 ] || read -r line <"/proc/$pid/stat"
  # shellcheck disable=SC2086
  set -- ${line##*)}
  echo "$boot ${pid:-0} ${20:-none}"
}
"""

_PID_OF_UNIT = """\
proxy_pid() {
  main=$(systemctl show -p MainPID "$unit")
  echo "${main#MainPID=}"
}
"""

# A container's process has its name in the node's own /proc. Without a process of ours for each of
# the node's: there may be thousands.
_PID_IN_POD = """\
proxy_pid() {
  for comm in /proc/[0-9]*/comm; do
    read -r name 2>/dev/null <"$comm" && [ "$name" = kube-proxy ] || continue
    comm=${comm%/comm}
    echo "${comm#/proc/}"
    return
  done
}
"""

_IN_MODE = """\
in_mode() { [ "$(http_get "$metrics_host" "$metrics_port" /proxyMode)" = "$1" ]; }
"""

_AS_UNIT = """\
restart_proxy() {
  systemctl daemon-reload && systemctl restart "$unit"
}
old_proxy_again() { restart_proxy; }
proxy_stays_down() {
  case $(systemctl show -p ActiveState -p SubState "$unit") in
    *auto-restart* | *ActiveState=failed*) ;;
    *) return 1 ;;
  esac
  echo "$unit does not stay up"
  journalctl -o cat --no-pager -n 5 -u "$unit"
}
"""

_IN_POD = """\
until_proxy() {
  tell_time
  give_up=$((since_boot + gate_limit))
  until "$@"; do
    [ "$since_boot" -lt "$give_up" ] || return 1
    sleep 1
    tell_time
  done
}
another_proxy() { [ "$(proxy_pid)" ] && [ "$(process_now)" != "$(cat "$record/process")" ]; }
wait_for_another_proxy() {
  until_proxy another_proxy && return
  echo "no new pod's kube-proxy within $gate_limit s"
  return 1
}
old_proxy_again() {
  until_proxy in_mode "$old_mode" && return
  echo "no pod of $old_mode mode within $gate_limit s"
  return 1
}
proxy_stays_down() { return 1; }
"""


def telling(node: Node) -> str:
    """Return the function ``process_now``, which prints boot, process id and start time.

    It wants ``unit`` where kube-proxy is one.
    """
    return (_PID_IN_POD if _in_pod(node) else _PID_OF_UNIT) + _TELLING


def shell(node: Node) -> str:
    """Return all functions for the way that ``node`` runs its kube-proxy.

    ``process_now`` is as in ``telling``. ``in_mode MODE`` asks the process. ``old_proxy_again``
    lets one of the old mode run again, or waits for it. ``proxy_stays_down`` succeeds and says so
    where it is useless to wait. A unit has ``restart_proxy`` besides, and a pod
    ``wait_for_another_proxy``, which fails after ``gate_limit`` seconds.
    """
    return telling(node) + _IN_MODE + (_IN_POD if _in_pod(node) else _AS_UNIT)


def _in_pod(node: Node) -> bool:
    return node.desired.kube_proxy.is_pod
