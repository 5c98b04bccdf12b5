"""The inventory of a lab: what ``nodeprep -i`` reads to work on its nodes."""

import json

from nodeprep.lab.state import Lab

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
        "    mode: ipvs",
        "    cluster_cidr: 10.254.0.0/16",
        "nodes:",
        *(f"  - {{name: {node.name}, address: {node.address}}}" for node in lab.nodes),
    ]
    return _HEADER + "\n".join(lines) + "\n"
