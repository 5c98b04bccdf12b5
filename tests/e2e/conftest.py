"""One lab of three nodes for all end-to-end tests: one story, one for faults, one kube-proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeprep.lab import lifecycle
from nodeprep.lab.settings import Settings, default_cache
from nodeprep.lab.state import Lab
from tests.e2e.operator_of import Operator


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("e2e") / "lab"
    settings = Settings(
        folder=folder, cache=default_cache(), nodes=3, network="127.79.0", kube_proxy=True
    )
    yield lifecycle.up(settings, say=print)
    lifecycle.down(folder)


@pytest.fixture(scope="session")
def story(lab: Lab) -> Operator:
    """The node that is prepared, verified and rebooted; it has no kube-proxy yet."""
    operator = Operator(lab=lab, name="node1")
    operator.ask("rm -f /usr/local/bin/kube-proxy")
    return operator


@pytest.fixture(scope="session")
def faulty(lab: Lab) -> Operator:
    """The node on which things go wrong."""
    operator = Operator(lab=lab, name="node2")
    operator.ask("rm -f /usr/local/bin/kube-proxy")
    return operator


@pytest.fixture(scope="session")
def proxied(lab: Lab) -> Operator:
    """The node with a real kube-proxy 1.20."""
    return Operator(lab=lab, name="node3")


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
