"""New connections of a node leave kube-ipvs0 before it goes, in a real network namespace."""

import shutil
import subprocess
import sys

import pytest

from nodeprep.rollout import leftovers, sources
from tests.shells import NEEDS_ROOT, PATH, SHELLS

pytestmark = [
    NEEDS_ROOT,
    pytest.mark.skipif(not shutil.which("ip", path=PATH), reason="there is no ip here"),
]

# Down and without ARP, as kube-proxy's own; a kernel without dummy devices takes it as well.
NODE = """\
ip link set lo up
ip link add eth9 type veth peer name far9 && ip link set eth9 up && ip link set far9 up
ip addr add 10.9.9.9/24 dev eth9
ip link add kube-ipvs0 type veth peer name spare9 && ip link set kube-ipvs0 arp off
ip addr add 10.254.7.7/32 dev kube-ipvs0
ip addr add 10.254.0.1/32 dev kube-ipvs0
"""
DEFAULT = "ip route add default via 10.9.9.1\n"
ASK = """\
for at in 10.254.7.7 10.254.0.1; do
  ip -4 route get $at | sed -n 's/.* src \\([^ ]*\\).*/\\1/p'
done
"""
# From an address of kube-ipvs0 to one of the node's own, for two seconds.
TALK = f"""\
{sys.executable} -c '
import socket, time
server = socket.create_server(("10.9.9.9", 80))
client = socket.create_connection(("10.9.9.9", 80), source_address=("10.254.7.7", 0))
time.sleep(2)
' &
sleep 1
"""


def inside(shell: str, statements: str) -> list[str]:
    """Return what statements print in a namespace of their own that looks like a node."""
    done = subprocess.run(
        ["unshare", "--net", *SHELLS[shell], "-s"],
        input=NODE + leftovers.SHELL + sources.SHELL + statements,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": PATH},
    )
    if "unshare:" in done.stderr:
        pytest.skip(f"no network namespace to be had here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("more", [DEFAULT, ""], ids=["with a default route", "without one"])
def test_new_connections_leave_with_an_address_that_stays(shell: str, more: str) -> None:
    said = inside(shell, f"{more}{ASK}source_services node\n{ASK}")
    assert said == ["10.254.7.7", "10.254.0.1", "10.9.9.9", "10.9.9.9"]


def test_on_the_way_back_they_leave_as_before(shell: str) -> None:
    routes = "ip route show table local dev kube-ipvs0\n"
    twice = "source_services node\nsource_services node\n" + "source_services service\n" * 2
    said = inside(shell, f"{routes}{twice}{routes}")
    assert len(said) == 4
    assert said[:2] == said[2:]


def test_nothing_stays_when_the_device_goes(shell: str) -> None:
    said = inside(
        shell, "source_services node\nip link del kube-ipvs0\nip route show table local\n"
    )
    assert said
    assert not [line for line in said if "10.254." in line]


def test_a_node_without_the_device_has_nothing_to_do(shell: str) -> None:
    assert inside(shell, "ip link del kube-ipvs0\nsource_services node\nip -o addr\n")


def test_a_connection_that_ends_with_the_device_is_waited_for(shell: str) -> None:
    said = inside(shell, f"{TALK}\nestablished\ndrain_ipvs\nestablished\n")
    assert said == ["1", "0"]


def test_what_is_not_open_is_not_waited_for(shell: str) -> None:
    assert inside(shell, "drain_ipvs\n") == []
