"""A fleet behind workers: who goes where, what stays secret, and what becomes of a lost worker.

Scheduler and workers are real processes, over TLS; the nodes of each site can be reached from
there alone.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nodeprep import fleet
from nodeprep.errors import NodeFailed, Unreachable, UsageError
from nodeprep.fleet import Scheduler
from nodeprep.model import Node, Sudo
from nodeprep.shell import Script, Secret
from nodeprep.transport import Limits
from tests.shells import NEEDS_ROOT
from tests.sites import SITES, Sites, sites, until

NODES = 2
ENTRIES = 20000
WISH = """\
  ipsets:
    many:
      type: hash:net
      maxelem: 65536
      entries_from: ./many.txt
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("sites")
    (folder / "many.txt").write_text(
        "".join(f"10.{n // 250}.{n % 250}.0/24\n" for n in range(ENTRIES))
    )
    with sites(folder, NODES) as one:
        one.write_inventory(WISH)
        for site in SITES:
            one.add_worker(site)
        yield one


def ended(process: "subprocess.Popen[str]", code: int) -> dict[str, Any]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, f"{out}\n{err}"
    return dict(json.loads(out))


TOPIC = ("-t", "system", "-t", "ipsets", "-o", "json")


@NEEDS_ROOT
def test_each_site_is_visited_by_its_own_workers(two: Sites) -> None:
    body = ended(two.nodeprep("verify", *TOPIC), 1)
    assert [node["name"] for node in body["nodes"]] == list(two.nodes)
    assert [node["error"] for node in body["nodes"]] == [None] * len(two.nodes)
    assert all(node["ready"] is False for node in body["nodes"])


@NEEDS_ROOT
def test_a_worker_that_dies_in_the_middle_leaves_every_node_as_wanted_and_changed_once(
    two: Sites,
) -> None:
    first = two.workers["east"][0]
    two.add_worker("east")
    begun = two.nodeprep("apply", *TOPIC)
    places = [Path(f"/proc/{two.nodes[name].pid}/root") for name in two.nodes]
    until(lambda: any((place / "run/nodeprep/holder").exists() for place in places[:NODES]))
    first.send_signal(signal.SIGKILL)
    body = ended(begun, 1)
    for node in body["nodes"]:
        assert node["error"] is None
        # No init runs in a namespace: all of the sets but that is as it should be.
        sets = [each for each in node["findings"] if each["topic"] == "ipsets"]
        assert [each["name"] for each in sets if each["status"] == "fail"] == ["at boot"]
    for name, place in zip(two.nodes, places, strict=True):
        entries = two.nodes[name].ask("ipset list many | grep -c /24")
        assert int(entries) == ENTRIES
        # The log of a second change would have put the first one's aside.
        state = place / "var/lib/nodeprep"
        assert (state / "log").exists()
        assert not (state / "log.1").exists()
        assert (state / "last").read_text().count("started") == 1


@NEEDS_ROOT
def test_a_site_without_a_worker_is_named_and_does_not_hold_the_others_up(two: Sites) -> None:
    for process in two.workers["west"]:
        process.kill()
        process.wait()
    body = ended(two.nodeprep("verify", *TOPIC, "--limit", "!east2"), 4)
    by_name = {node["name"]: node for node in body["nodes"]}
    assert by_name["east1"]["error"] is None
    for name in ("west1", "west2"):
        assert by_name[name]["error"]["message"] == "there is no worker of the site west"
        assert (
            'dask worker tls://10.79.0.1:8786 --resources "west=25"'
            in by_name[name]["error"]["hint"]
        )


@pytest.fixture
def alone(tmp_path: Path) -> Iterator["tuple[subprocess.Popen[bytes], Scheduler]"]:
    """Give a scheduler on this machine with one worker."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    log = tmp_path / "log"
    dask = (sys.executable, "-m", "dask")
    worker = ("worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
    with ExitStack() as stack:
        begun = []
        for words in (("scheduler", "--host", address, "--no-dashboard"), worker):
            with log.open("ab") as said:
                begun.append(subprocess.Popen((*dask, *words), stderr=said, cwd=tmp_path))
            stack.callback(begun[-1].wait)
            stack.callback(begun[-1].kill)
        yield begun[0], Scheduler(address=address, patience=20)


def test_a_scheduler_that_is_lost_is_told_for_what_was_begun_and_what_was_not(
    alone: "tuple[subprocess.Popen[bytes], Scheduler]",
) -> None:
    process, scheduler = alone
    node = Node(name="a", address="a")
    with fleet.joined(scheduler) as joined:
        under_way: Callable[[], dict[str, Any]] = joined.client.processing
        assert joined.asked(len, node, ("four",), "first") == 4
        with ThreadPoolExecutor() as pool:
            begun = pool.submit(joined.asked, time.sleep, node, (600,), "second")
            until(lambda: any(under_way().values()))
            process.kill()
            with pytest.raises(Unreachable, match="the scheduler was lost"):
                begun.result()
        with pytest.raises(Unreachable, match="the scheduler was lost"):
            joined.asked(len, node, ("four",), "third")


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "tcp://scheduler:8786", "ws://127.0.0.1:1", "10.0.0.1:8786"]
)
def test_a_scheduler_elsewhere_must_be_encrypted(address: str) -> None:
    with (
        pytest.raises(UsageError, match="would not be encrypted"),
        fleet.joined(Scheduler(address=address)),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_told_within_the_patience() -> None:
    scheduler = Scheduler(address="tcp://127.0.0.1:1", patience=1)
    with (
        pytest.raises(UsageError, match="no scheduler at tcp:"),
        fleet.joined(scheduler),
    ):
        pass


@pytest.mark.parametrize("place", ["ask", "fd:3"])
def test_a_password_that_no_worker_can_read_is_refused_before_any_visit(place: str) -> None:
    node = Node(name="a", address="a", sudo=Sudo(method="password", password=place))
    with pytest.raises(UsageError, match="cannot read the sudo password of a"):
        fleet._refuse_unreadable([node])  # noqa: SLF001 the whole needs a scheduler


def test_a_worker_of_another_release_does_nothing() -> None:
    node = Node(name="a", address="192.0.2.1")
    answer = fleet.ask("0.0.0", node, Script("echo"), Limits(), 1)
    assert isinstance(answer, NodeFailed)
    assert "its worker has nodeprep" in answer.message


def test_a_script_with_a_secret_is_not_sent() -> None:
    session = fleet._WorkerSession(  # noqa: SLF001 the whole needs a scheduler
        fleet=None,  # type: ignore[arg-type]
        node=Node(name="a", address="a"),
        limits=Limits(),
    )
    with pytest.raises(NodeFailed, match="nothing was sent"):
        session.run(Script("echo ", Secret("canary")), 1)
