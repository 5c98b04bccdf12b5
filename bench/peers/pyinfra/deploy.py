"""The job as a deploy of pyinfra. It looks at a node again only if it changed something there."""

from pathlib import Path

from pyinfra import host
from pyinfra.facts.server import Sysctl
from pyinfra.operations import apt, files, server, systemd
from pyinfra.operations.util import any_changed

PEERS = Path(__file__).resolve().parent.parent
FILES = PEERS / "files"
MODULES = ["br_netfilter", "nf_conntrack", "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"]
PARAMETERS = {
    "net.ipv4.ip_forward": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.ipv4.tcp_keepalive_time": 600,
    "net.ipv4.vs.conntrack": 1,
    "net.ipv4.vs.expire_nodest_conn": 1,
    "net.ipv4.vs.expire_quiescent_template": 1,
}
OWN = {"user": "root", "group": "root", "mode": "644"}

steps = [
    apt.packages(
        name="Install the packages",
        packages=["conntrack", "ipset", "ipvsadm", "iptables"],
        no_recommends=True,
        update=True,
        cache_time=3600,
    ),
    files.put(
        name="Have the modules loaded at boot",
        src=str(FILES / "modules.conf"),
        dest="/etc/modules-load.d/nodeprep.conf",
        **OWN,
    ),
    server.modprobe(name="Load the modules", module=MODULES),
    files.put(
        name="Have the kernel parameters set at boot",
        src=str(FILES / "sysctl.conf"),
        dest="/etc/sysctl.d/99-nodeprep.conf",
        **OWN,
    ),
]

# One question for all of them; one operation for each that differs.
live = host.get_fact(Sysctl, keys=list(PARAMETERS))
steps += [
    server.sysctl(name=f"Set {key}", key=key, value=value)
    for key, value in PARAMETERS.items()
    if live.get(key) != value
]

unit = files.put(
    name="Write kube-proxy's unit",
    src=str(FILES / "kube-proxy.service"),
    dest="/etc/systemd/system/kube-proxy.service",
    **OWN,
)
steps += [
    unit,
    files.template(
        name="Configure kube-proxy",
        src=str(FILES / "config.yaml.j2"),
        dest="/var/lib/kube-proxy/config.yaml",
        **OWN,
        # A variable of the template.
        node=host.name,
    ),
]
systemd.daemon_reload(name="Reload systemd", _if=unit.did_change)
steps.append(
    systemd.service(
        name="Enable kube-proxy", service="kube-proxy.service", running=None, enabled=True
    )
)

server.shell(
    name="Check the node",
    commands=[(PEERS / "check.sh").read_text()],
    _if=any_changed(*steps),
)
