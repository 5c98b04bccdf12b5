"""What several test files share: the shells, and a machine for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.namespaces import Namespace, namespace
from tests.shells import SHELLS, Machine, command

# No test asserts a duration: on a busy machine any example may be slow.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that say how many ``MINUTES`` they take first, the longest of them before all.

    Files are dealt out to workers in this order: a long one that is begun last is waited for alone.
    """
    items.sort(key=lambda item: -getattr(getattr(item, "module", None), "MINUTES", 0))


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Give each shell that is installed by its name."""
    name = str(request.param)
    command(name)
    return name


@pytest.fixture
def machine(tmp_path: Path, shell: str) -> Machine:
    """Give a machine in a folder, once with each shell."""
    return Machine(folder=tmp_path, shell=shell)


@pytest.fixture
def dash(tmp_path: Path) -> Machine:
    """Give a machine whose shell is dash, for what no shell changes."""
    return Machine(folder=tmp_path)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Namespace]:
    """Give a node in namespaces, one for all tests of a file."""
    with namespace() as one:
        yield one


@pytest.fixture
def inside() -> Iterator[Namespace]:
    """Give a node in namespaces of its own, whose shell is dash."""
    with namespace() as one:
        yield one


@pytest.fixture
def inside_each(shell: str) -> Iterator[Namespace]:
    """Give a node in namespaces of its own, once with each shell."""
    with namespace(shell) as one:
        yield one
