"""The inventory of a lab: what ``nodeprep -i`` reads to work on its nodes."""

import json

from nodeprep.lab.kubeadm import ADMIN_CONF
from nodeprep.lab.objects import CLUSTER_CIDR
from nodeprep.lab.state import Lab, LabNode

_HEADER = """\
# Virtual nodes, made by `nodeprep lab up`. `nodeprep lab down` takes them and this file away.
"""


def inventory_text(lab: Lab) -> str:
    """Return the inventory's YAML. A path is quoted as JSON does it, which YAML understands."""
    ssh = {
        "user": "root",
        "port": str(lab.nodes[0].port),
        "identity_file": json.dumps(str(lab.identity)),
        "known_hosts": json.dumps(str(lab.known_hosts)),
        "config": "none",
    }
    lines = [
        "defaults:",
        f"  ssh: {{{', '.join(f'{name}: {value}' for name, value in ssh.items())}}}",
        "  sudo: none",
        "  kube_proxy:",
        *(f"    {name}: {value}" for name, value in _kube_proxy(lab).items()),
        *_cluster(lab),
        "nodes:",
        *(f"  - {{{_node(node)}}}" for node in lab.nodes),
    ]
    return _HEADER + "\n".join(lines) + "\n"


def _cluster(lab: Lab) -> list[str]:
    """Return how the cluster's objects are reached, where kube-proxy is one of them."""
    if not lab.kubeadm:
        return []
    # To a YAML reader a bare `on` is a truth.
    kubectl = f'"on": {lab.nodes[0].name}, kubeconfig: /{ADMIN_CONF}'
    return [f"cluster: {{kubectl: {{{kubectl}}}}}"]


def _node(node: LabNode) -> str:
    labels = f"{{package_manager: {node.kind}}}"
    return f"name: {node.name}, address: {node.address}, labels: {labels}"


def _kube_proxy(lab: Lab) -> dict[str, str]:
    """Return what kube-proxies are told; with a cluster, all that a switch of modes is tried on."""
    if lab.control_plane is None:
        return {"mode": "ipvs", "cluster_cidr": "10.254.0.0/16"}
    if lab.kubeadm:
        return {"managed_by": "daemonset", "mode": "iptables", "cluster_cidr": CLUSTER_CIDR}
    return {
        "mode": "iptables",
        "cluster_cidr": CLUSTER_CIDR,
        "kubeconfig_from": json.dumps(str(lab.kubeconfig)),
        # Foreign virtual servers in there are none of kube-proxy's business.
        "exclude_cidrs": "[192.0.2.0/24]",
        "min_sync_period": "1s",
        "conntrack_max_per_core": "0",
    }
