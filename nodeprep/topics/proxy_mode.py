"""The mode that kube-proxy really is in, asked of the process and seen in the kernel.

Up to 1.25, kube-proxy turns to iptables without a word where IPVS is not usable: the unit is
active, its file says ipvs, and the data plane is another one. So ``/proxyMode`` of the running
process is asked, its log is searched, and the kernel's own table of virtual servers is read.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address

from nodeprep import ipvs
from nodeprep.model import Change, Fact, Facts, Finding, Node, Status
from nodeprep.sharing import EACH_LINE, LAST_LINE, Search, Share, Unit
from nodeprep.shell import words

NAME = "proxy_mode"
TITLE = "Proxy mode"


TABLE_LINES = 4000
"""Lines of the kernel's table that are brought home: 20,000 would not fit into one answer."""


@dataclass(frozen=True, kw_only=True)
class Effective:
    """What a running kube-proxy does. All is empty where none runs.

    ``mode`` is the answer of ``/proxyMode``, empty where it did not answer; ``logged`` is the mode
    that its log names last; ``complaints`` are log lines that say why it is not what was asked.
    ``table_cut`` says that the kernel's table is longer than what was brought home.
    """

    running: bool
    can_ask: bool = True
    mode: str = ""
    logged: str = ""
    complaints: tuple[str, ...] = ()
    virtual_servers: tuple[ipvs.VirtualServer, ...] = ()
    table_cut: bool = False


_COMPLAINTS = (
    "using (iptables|ipvs|nftables|userspace) proxier"
    "|can.t (use|determine whether to use).*ipvs"
    "|ipvs proxier will not be used"
    "|unknown flag|lenient decoding|failed complete|error: |Error: "
)

_USING = re.compile(r"using (\w+) proxier", re.IGNORECASE)

# ipvsadm loads ip_vs where it is not loaded, and looking must not change anything: so it runs
# only where the kernel has the table already.
# The log tells whether it was this process that answered, and why its mode is another one. Where
# the only socket that listens at this port is its own, and the mode the wanted one, it has nothing
# to add.
_SCRIPT = """\
pid=
if [ -x %(binary)s ]; then
  unit_shown %(unit)s
  case $shown in *MainPID=*) pid=${shown##*MainPID=} pid=${pid%%%%[!0-9]*} ;; esac
fi
if [ "${pid:-0}" -gt 0 ]; then
  echo running
  mode=$(http_get %(host)s %(port)s /proxyMode)
  printf 'mode %%s\\n' "$mode"
  sockets=
  if [ "$mode" = %(wanted)s ]; then
  %(search)s%(each)s    case $line in
      /proc/net/tcp:* | /proc/net/tcp6:*) sockets="$sockets ${line#*:*:}" ;;
    esac
  %(last)s  fi
  # shellcheck disable=SC2086
  set -- $sockets
  # A line of such a table has 17 words, the tenth of which is the socket's number.
  if [ $# -eq 17 ]; then sockets=$(ls -l "/proc/$pid/fd"); else sockets=; fi
  case $sockets in *"socket:[${10:-}]"*) ;; *)
    echo log:
    timeout 10 journalctl -b -o cat --no-pager "_PID=$pid" | grep -iE "%(complaints)s" |
      tail -n 20 | cut -c 1-500 ;;
  esac
elif [ "$pid" ]; then
  echo log:
  timeout 10 journalctl -b -o cat --no-pager -n 30 -u %(unit)s | grep -iE "%(complaints)s" |
    tail -n 3 | cut -c 1-500
fi
"""

_POD_SCRIPT = """\
echo running
printf 'mode %%s\\n' "$(http_get %(host)s %(port)s /proxyMode)"
"""

_TABLE_SCRIPT = """\
if [ -e /proc/net/ip_vs ]; then
  echo ipvs:
  ipvsadm -Ln | head -n %(lines)d
fi
:"""


def _script(node: Node) -> str:
    proxy = node.desired.kube_proxy
    if proxy.style == "unmanaged":
        return ":"
    host, port = proxy.metrics_endpoint
    searched = {"search": _sockets(node).script, "each": EACH_LINE, "last": LAST_LINE}
    # A pod's log is told by the topic of the DaemonSet, which knows whose it is.
    return ((_POD_SCRIPT if proxy.is_pod else _SCRIPT) + _TABLE_SCRIPT) % {
        "binary": words(proxy.binary),
        "unit": words(proxy.unit_name),
        "host": words(host),
        "port": words(port),
        "complaints": _COMPLAINTS,
        "lines": TABLE_LINES,
        "wanted": words(proxy.mode),
        **searched,
    }


def _sockets(node: Node) -> Search:
    """Return the search for sockets that listen where kube-proxy is asked.

    A socket of just that address answers before one of any address. The kernel goes through a
    table with as many rows as its memory allows, for each of the files: one is enough mostly.
    """
    host, port = node.desired.kube_proxy.metrics_endpoint
    bound = node.desired.kube_proxy.metrics_bind_address
    pattern = "^ *[0-9]+: %s:" + f"{int(port):04X} 0+:0+ 0A "
    if bound != f"{host}:{port}" or not re.fullmatch(r"[0-9.]+", host):
        files = ("/proc/net/tcp", "/proc/net/tcp6")
        return Search(name="sockets", pattern=pattern % "[0-9A-F]+", files=files)
    # The order of bytes is the machine's.
    octets = IPv4Address(host).packed
    either = f"({octets.hex().upper()}|{octets[::-1].hex().upper()})"
    return Search(name="sockets", pattern=pattern % either, files=("/proc/net/tcp",))


def share(node: Node) -> Share:
    """Return what is asked together with other topics."""
    proxy = node.desired.kube_proxy
    if proxy.style == "unmanaged" or proxy.is_pod:
        return Share()
    return Share(searches=(_sockets(node),), units=(Unit(name=proxy.unit_name),))


def parse(text: str) -> Effective:
    """Read ``running``, ``mode MODE``, then the log's lines and the table, each below its title."""
    head, *titled = re.split(r"^(log|ipvs):\n", text, flags=re.MULTILINE)
    sections = dict(zip(titled[::2], titled[1::2], strict=True))
    log, table = sections.get("log", ""), sections.get("ipvs", "")
    answer = re.search(r"^mode (.*)$", head, re.MULTILINE)
    said = answer[1].strip() if answer else ""
    modes = _USING.findall(log)
    return Effective(
        running=head.startswith("running\n"),
        can_ask=said != "no-http-client",
        mode=said if re.fullmatch(r"[a-z]+", said) else "",
        logged=modes[-1].lower() if modes else "",
        complaints=tuple(line for line in log.splitlines() if not _USING.search(line)),
        virtual_servers=ipvs.parse(table),
        table_cut=table.count("\n") >= TABLE_LINES,
    )


EFFECTIVE = Fact(name="proxy_mode", script=_script, parse=parse)
FACTS = (EFFECTIVE,)


def paths(_: Node) -> tuple[str, ...]:
    """Nothing here is written."""
    return ()


secrets = paths


def changes(_: Node, __: Facts) -> tuple[Change, ...]:
    """Nothing here is changed: the mode follows from kube-proxy's own files and restart."""
    return ()


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say which mode is in effect, and what the kernel's table holds."""
    effective = facts[EFFECTIVE]
    if node.desired.kube_proxy.style == "unmanaged":
        return ()
    if not effective.running:
        return (_not_running(node, effective),)
    return (_mode(node, effective), *_table(node, effective))


def _not_running(node: Node, effective: Effective) -> Finding:
    if not effective.complaints:
        return _finding(
            "mode", Status.SKIP, "kube-proxy does not run", node.desired.kube_proxy.mode
        )
    unit = node.desired.kube_proxy.unit_name
    return _finding(
        "mode",
        Status.FAIL,
        f"kube-proxy does not run: {effective.complaints[-1]}",
        node.desired.kube_proxy.mode,
        f"journalctl -u {unit} -n 50",
    )


def _mode(node: Node, effective: Effective) -> Finding:
    wanted = node.desired.kube_proxy.mode
    seen = effective.mode or effective.logged
    source = "/proxyMode" if effective.mode else "log"
    if effective.logged not in ("", seen):
        return _another(node, effective)
    if seen == wanted:
        return _finding("mode", Status.OK, f"{seen} ({source})", wanted)
    if seen:
        why = f": {effective.complaints[0]}" if effective.complaints else ""
        unit = node.desired.kube_proxy.unit_name
        hint = f"journalctl -u {unit}; install what is missing, then: systemctl restart {unit}"
        if node.desired.kube_proxy.is_pod:
            hint = f"nodeprep switch --to {wanted}; and see what the pod's log says"
        elif not effective.complaints:
            hint = f"nodeprep switch --to {wanted}, if its files ask for {seen}; else: {hint}"
        return _finding("mode", Status.FAIL, f"{seen} ({source}){why}", wanted, hint)
    return _unknown(node, effective, wanted)


def _another(node: Node, effective: Effective) -> Finding:
    # The address may be another process's, such as a DaemonSet's; the log is this one's own.
    host, port = node.desired.kube_proxy.metrics_endpoint
    actual = f"{effective.logged} (log), but {effective.mode} at {host}:{port}"
    hint = f"another kube-proxy may answer there: ss -ltnp 'sport = :{port}'"
    return _finding("mode", Status.FAIL, actual, node.desired.kube_proxy.mode, hint)


def _unknown(node: Node, effective: Effective, wanted: str) -> Finding:
    if not effective.can_ask:
        actual, hint = "nothing on the node can ask over HTTP", "install curl or bash"
        return _finding("mode", Status.WARN, actual, wanted, hint)
    host, port = node.desired.kube_proxy.metrics_endpoint
    hint = f"on {node.name}: curl http://{host}:{port}/proxyMode"
    return _finding("mode", Status.FAIL, "kube-proxy does not answer", wanted, hint)


def _table(node: Node, effective: Effective) -> tuple[Finding, ...]:
    if node.desired.kube_proxy.mode != "ipvs" or effective.mode not in ("ipvs", ""):
        return ()
    servers = effective.virtual_servers
    if not servers:
        hint = "ipvsadm -Ln; is the API server reachable from the node?"
        return (_finding("virtual servers", Status.WARN, "none", "one for each service", hint),)
    backends = sum(len(server.real_servers) for server in servers)
    count = f"{'at least ' if effective.table_cut else ''}{len(servers)}"
    return (_finding("virtual servers", Status.OK, f"{count}, with {backends} real servers"),)


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
