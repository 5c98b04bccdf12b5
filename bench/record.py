"""Record what a prepared node answers to ``verify``, for the simulated nodes to give as theirs.

    python -m bench.record INVENTORY

The inventory's one node must be called node00000, and be as ``bench/recorded/desired.yaml`` wants
it: a node of a plain lab, after an apply.

    nodeprep lab up --nodes 1
    sed 's/name: node1,/name: node00000,/' ~/.local/state/nodeprep/lab/inventory.yaml >node.yaml
    nodeprep apply -i node.yaml
    python -m bench.record node.yaml
    nodeprep lab down
"""

import secrets
import sys
from pathlib import Path

from bench.simulated.answers import NAME, RECORDED, recorded
from nodeprep import inventory, probe, verify
from nodeprep.story import STORY
from nodeprep.transport import Limits, connect


def main() -> None:
    """Ask one node everything, see that it is ready, and write its answer down."""
    (path,) = sys.argv[1:]
    (node,) = inventory.select(inventory.load(Path(path)).nodes, NAME.decode())
    nonce, limits = secrets.token_hex(8), Limits()
    with connect(node, limits, {}) as session:
        output = session.run(probe.script(node, STORY, nonce), limits.probe)
    if not verify.ready(verify.findings(node, probe.parse(output, node, STORY, nonce), STORY)):
        raise SystemExit(f"{path}: the node is not ready: nodeprep apply -i {path}")
    (RECORDED / "verify.txt").write_bytes(recorded(output, nonce))


if __name__ == "__main__":
    main()
