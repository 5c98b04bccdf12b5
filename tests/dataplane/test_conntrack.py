"""Connections in use against their maximum, read from the kernel's own two numbers."""

from pathlib import Path

import pytest

from nodeprep.dataplane import conntrack
from nodeprep.dataplane.conntrack import Conntrack
from tests.dataplane.namespaces import NEEDS_NAMESPACES, inside
from tests.rollout.test_artefacts import Kernel
from tests.shells import complaints

MAXIMUM = Path("/proc/sys/net/netfilter/nf_conntrack_max")


@NEEDS_NAMESPACES
@pytest.mark.skipif(not MAXIMUM.exists(), reason="no conntrack in this kernel")
def test_a_kernel_says_both_numbers(shell: str) -> None:
    found = conntrack.parse(inside(":", conntrack.SCRIPT, shell=shell))
    assert found == Conntrack(used=0, maximum=int(MAXIMUM.read_text()))


def test_a_kernel_without_conntrack_says_nothing(tmp_path: Path, shell: str) -> None:
    script = f"exec 2>/dev/null\n{conntrack.SCRIPT}"
    found = conntrack.parse(Kernel(folder=tmp_path, shell=shell).run(script))
    assert found == Conntrack()
    assert found.percent == 0


@pytest.mark.parametrize("text", ["1\n", "1\n2\n3\n", "many\n2\n"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        conntrack.parse(text)


def test_the_script_is_clean_shell() -> None:
    assert complaints(conntrack.SCRIPT + "\n") == ""
