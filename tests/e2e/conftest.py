"""A lab for each file of end-to-end tests, and inventories with other wishes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeprep.lab import lifecycle
from nodeprep.lab.kinds import APT
from nodeprep.lab.settings import NODE_PACKAGES, Settings, default_cache
from nodeprep.lab.state import Lab
from tests.e2e.operator_of import Operator, run
from tests.e2e.serving import serve, write_wishes


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab for each file, in the file's own network: files may run side by side.

    It has a node of each of the file's ``KINDS``, or as many of Debian's own as it says; else one.
    """
    kinds = getattr(request.module, "KINDS", (APT.name,))
    folder = tmp_path_factory.mktemp("e2e") / "lab"
    settings = Settings(
        folder=folder,
        cache=default_cache(),
        nodes=getattr(request.module, "NODES", len(kinds)),
        kinds=kinds,
        network=request.module.NETWORK,
        kube_proxy=request.module.KUBE_PROXY,
        cluster=getattr(request.module, "CLUSTER", False),
        kubeadm=getattr(request.module, "KUBEADM", False),
        packages=(*NODE_PACKAGES, *getattr(request.module, "PACKAGES", ())),
    )
    yield lifecycle.up(settings, say=print)
    lifecycle.down(folder)


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Operator, ...]]:
    """All nodes of the lab, serving in iptables mode and prepared for ipvs."""
    nodes = tuple(Operator(lab=lab, name=node.name) for node in lab.nodes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        for mode in ("iptables", "ipvs"):
            write_wishes(lab, mode=mode)
            # Prepared for a mode that it is not in, a node is "not as wanted": 1.
            run("apply", "-i", str(lab.inventory)).check(int(mode == "ipvs"))
        yield nodes


@pytest.fixture(scope="module")
def node(lab: Lab) -> Operator:
    """The first node of the lab, and in most files the only one."""
    return Operator(lab=lab, name="node1")


@pytest.fixture(scope="module")
def serving(node: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The node with a kube-proxy that serves; its rolls are kept in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        serve(node)
        yield node


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> "Inventories":
    """Inventories of the lab's nodes with other wishes."""
    return Inventories(lab=lab, folder=tmp_path)


class Inventories:
    """Writes variations of the lab's inventory."""

    def __init__(self, *, lab: Lab, folder: Path) -> None:
        self._text = lab.inventory.read_text()
        self._folder = folder

    def __call__(self, *replacements: tuple[str, str], nodes: str = "") -> Path:
        """Return an inventory with texts replaced, each of which must be there, and more nodes."""
        text = self._text
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        path = self._folder / "inventory.yaml"
        path.write_text(text + nodes)
        return path
