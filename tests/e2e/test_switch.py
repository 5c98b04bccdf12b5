"""A node that serves changes its mode: nothing is lost, nothing of others is touched.

kube-proxy is Debian's 1.20; for nftables, which that lacks, it is the stand-in.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.operator_of import Operator, Run

pytestmark = pytest.mark.lab

NETWORK, KUBE_PROXY, CLUSTER = "127.79.4", False, True
SERVICE, CONFIG = "10.254.7.7:80", "/var/lib/kube-proxy/config.yaml"
QUICK = ("--yes", "--soak", "1s", "--gate-limit", "90s", "--dead-man", "120s")
FOREIGN = "192.0.2.1:80"
STAND_IN = "/usr/local/bin/kube-proxy-stand-in"


@pytest.fixture(scope="module", autouse=True)
def _journals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def serving(node: Operator) -> Operator:
    """The node with a kube-proxy that serves in iptables mode, beside things of others."""
    wish(node, mode="iptables")
    node.ask("sysctl -q -w net.netfilter.nf_conntrack_max=65536")
    node.ask("apt-get -q update && apt-get -q -y install ipvsadm ipset nftables conntrack curl")
    node.ask(
        f"ipvsadm -A -t {FOREIGN} -s rr && ipvsadm -a -t {FOREIGN} -r 192.0.2.9:80 -m && "
        "ipset create MINE hash:ip && ipset add MINE 192.0.2.7 && "
        "iptables -A INPUT -m set --match-set MINE src -m comment --comment mine -j DROP && "
        "iptables -t nat -A PREROUTING -d 192.0.2.8 -j RETURN && "
        "iptables-legacy -A INPUT -s 192.0.2.6 -j DROP"
    )
    return node


def wish(node: Operator, **wishes: str) -> None:
    """Write what kube-proxy should be into the lab's own inventory, and let apply prepare it."""
    text = node.lab.inventory.read_text()
    for name, value in wishes.items():
        text = re.sub(rf"    {name}: .*\n", "", text)
        text = text.replace("  kube_proxy:\n", f"  kube_proxy:\n    {name}: {value}\n")
    node.lab.inventory.write_text(text)
    prepared = node.nodeprep("apply")
    assert prepared.code in (0, 1), prepared.out + prepared.err
    assert "failed" not in prepared.out


def foreign(node: Operator) -> str:
    """Return all that is not kube-proxy's: rules of both backends, sets, virtual servers."""
    return node.ask(
        "for t in filter nat mangle; do iptables-nft-save -t $t; iptables-legacy-save -t $t; done "
        "| sed 's/\\[[0-9:]*\\]//' | grep -v -e KUBE- -e '^#' -e '^:[A-Z]* ' -e '^[*]' -e COMMIT; "
        "ipset save MINE; ipvsadm -Sn | grep -F 192.0.2.; iptables-save | grep -c NPREP || :"
    )


@contextmanager
def load(node: Operator, rate: int = 10) -> Iterator[dict[str, Any]]:
    """Open new connections meanwhile; afterwards the dictionary says what came of them."""
    node.ask(
        "rm -f /run/load.json; systemctl reset-failed load 2>/dev/null; systemd-run --quiet "
        f"--unit=load lab-traffic load --to {SERVICE} --rate {rate} --reset --seconds 900 "
        "--out /run/load.json"
    )
    came: dict[str, Any] = {}
    yield came
    came.update(json.loads(node.ask("systemctl stop load; cat /run/load.json")))


@contextmanager
def held(node: Operator) -> Iterator[dict[str, Any]]:
    """Keep one connection open and in use; afterwards the dictionary says whether it lived."""
    node.ask(
        "rm -f /run/held.json; systemctl reset-failed held 2>/dev/null; systemd-run --quiet "
        f"--unit=held lab-traffic hold --to {SERVICE} --every 500ms --out /run/held.json; sleep 2"
    )
    came: dict[str, Any] = {}
    yield came
    came.update(json.loads(node.ask("systemctl stop held; cat /run/held.json")))


def artefacts(node: Operator) -> dict[str, int]:
    """Count what each mode leaves, with the kernel's own tools."""
    said = node.ask(
        "echo iptables $(iptables-save -t nat | grep -c -- '-j KUBE-SVC-'); "
        "echo device $(ip link show kube-ipvs0 2>/dev/null | wc -l); "
        "echo servers $(ipvsadm -Sn | grep -c '^-A .* 10[.]254[.]0[.]1:443 '); "
        "echo sets $(ipset list -n | grep -c ^KUBE-); "
        "echo tables $(nft list tables | grep -c ' kube-proxy$'); "
        "echo bridge $( (iptables-save; ipset list -n; nft list tables) | grep -cE "
        "'NPREP|nodeprep-bridge')"
    )
    return {name: int(count) for name, count in map(str.split, said.splitlines())}


def is_clean(node: Operator, mode: str) -> bool:
    seen = artefacts(node)
    there = {name for name, count in seen.items() if count}
    return (
        there
        == {
            "iptables": {"iptables"},
            "ipvs": {"device", "servers", "sets"},
            "nftables": {"tables"},
        }[mode]
    )


def switch(node: Operator, to: str, *more: str) -> Run:
    return node.nodeprep("switch", "--to", to, *QUICK, *more)


# --- between iptables and ipvs --------------------------------------------------------------


def test_a_dry_run_touches_nothing(serving: Operator) -> None:
    wish(serving, mode="ipvs")
    before = serving.tree(), foreign(serving), artefacts(serving)
    said = switch(serving, "ipvs", "--dry-run").check(0).out
    assert '+mode: "ipvs"' in said
    assert "nothing was touched" in said
    assert (serving.tree(), foreign(serving), artefacts(serving)) == before
    assert nodeprep_runs() == ""


def test_iptables_to_ipvs_loses_no_connection_and_nothing_of_others(serving: Operator) -> None:
    before = foreign(serving)
    with held(serving) as one, load(serving) as many:
        switch(serving, "ipvs").check(0)
    assert many["failed"] == 0
    assert many["attempted"] > 100
    assert one["alive"]
    assert is_clean(serving, "ipvs")
    assert foreign(serving) == before
    serving.nodeprep("verify").check(0)


def test_ipvs_to_iptables_keeps_an_open_connection_until_it_ends(serving: Operator) -> None:
    wish(serving, mode="iptables")
    before = foreign(serving)
    with load(serving) as many:
        with held(serving) as one:
            process = begun(serving, "iptables", "--linger", "600s")
            wait_for_record("linger")
            time.sleep(10)
        # It lived through the restart and beside the new mode; with its end the wait ends too.
        assert one["alive"], one
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert "still open" not in out
    assert many["failed"] == 0
    assert is_clean(serving, "iptables")
    assert foreign(serving) == before


def test_without_ipset_it_falls_back_is_found_out_and_goes_back(serving: Operator) -> None:
    wish(serving, mode="ipvs")
    before = serving.ask(f"sha256sum {CONFIG}")
    serving.ask("mv /usr/sbin/ipset /usr/sbin/ipset.away")
    try:
        with load(serving) as many:
            run = switch(serving, "ipvs", "--ignore", "ipset").check(1)
    finally:
        serving.ask("mv /usr/sbin/ipset.away /usr/sbin/ipset")
    assert "proxy mode: iptables" in run.out
    assert "back as it was" in run.out
    assert serving.ask(f"sha256sum {CONFIG}") == before
    assert is_clean(serving, "iptables")
    assert many["failed"] == 0


def test_a_node_whose_controller_is_away_too_long_goes_back_by_itself(serving: Operator) -> None:
    before = serving.ask(f"sha256sum {CONFIG}")
    process = begun(serving, "ipvs", "--soak", "600s")
    wait_for_record("soak")
    os.kill(process.pid, signal.SIGSTOP)
    kept = "/var/lib/nodeprep/switch/*"
    wait_until(serving, f"grep -qx back $(ls -td {kept} | head -n 1)/state", seconds=300)
    assert serving.ask(f"sha256sum {CONFIG}") == before
    assert is_clean(serving, "iptables")
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1, out
    assert "went back by itself" in out


def test_killed_at_each_intent_it_is_resumed_to_its_end(serving: Operator) -> None:
    process = killed(serving, 3, "switch", "--to", "ipvs", *QUICK)
    assert process.returncode == -signal.SIGKILL, process.stdout
    (run,) = re.findall(r"^(\S+)  open", nodeprep_runs(), re.MULTILINE)
    assert "was left in the middle" in switch(serving, "ipvs").check(3).err
    for point in (3, 5, 7, 9):
        ended = killed(serving, point, "switch", "--resume", run, "--yes")
        assert serving.ask(f"grep -cE '^mode: \"(iptables|ipvs)\"' {CONFIG}") == "1\n"
        if ended.returncode != -signal.SIGKILL:
            break
    resumed = serving.nodeprep("switch", "--resume", run, "--yes")
    assert resumed.code == 0, resumed.out + resumed.err
    assert is_clean(serving, "ipvs")


def test_a_finished_roll_is_taken_back_to_the_very_files(serving: Operator) -> None:
    run = nodeprep_runs().split()[0]
    before = serving.ask(f"cat /var/lib/nodeprep/switch/{run}/files{CONFIG}")
    with load(serving) as many:
        serving.nodeprep("rollback", run, *QUICK).check(0)
    assert serving.ask(f"cat {CONFIG}") == before
    assert is_clean(serving, "iptables")
    assert many["failed"] == 0


# --- into and out of nftables, by the stand-in ----------------------------------------------


def test_iptables_to_nftables_refuses_to_have_foreign_virtual_servers_flushed(
    serving: Operator,
) -> None:
    wish(serving, mode="iptables", binary=STAND_IN)
    wish(serving, mode="nftables")
    before = serving.tree(), foreign(serving), artefacts(serving)
    run = switch(serving, "nftables").check(1)
    assert f"kube-proxy's start would flush TCP {FOREIGN}" in run.out
    assert (serving.tree(), foreign(serving), artefacts(serving)) == before


def test_iptables_to_nftables_loses_no_connection(serving: Operator) -> None:
    before = foreign(serving)
    with load(serving) as many:
        switch(serving, "nftables", "--restore-foreign-ipvs").check(0)
    assert many["failed"] == 0, many
    assert is_clean(serving, "nftables")
    assert foreign(serving) == before


def test_nftables_to_ipvs_and_back_loses_no_connection(serving: Operator) -> None:
    before = foreign(serving)
    for mode, more in (("ipvs", ()), ("nftables", ("--restore-foreign-ipvs",))):
        wish(serving, mode=mode)
        with load(serving) as many:
            switch(serving, mode, *more).check(0)
        assert many["failed"] == 0, many
        assert is_clean(serving, mode)
        assert foreign(serving) == before


def test_nftables_to_iptables_loses_no_connection(serving: Operator) -> None:
    wish(serving, mode="iptables")
    before = foreign(serving)
    with load(serving) as many:
        switch(serving, "iptables").check(0)
    assert many["failed"] == 0, many
    assert is_clean(serving, "iptables")
    assert foreign(serving) == before


# --- running it -----------------------------------------------------------------------------


def words(node: Operator, *arguments: str) -> list[str]:
    return [arguments[0], "-i", str(node.lab.inventory), *arguments[1:]]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def begun(node: Operator, to: str, *more: str) -> "subprocess.Popen[str]":
    """Begin a switch in a process of its own."""
    command = [sys.executable, "-m", "nodeprep", *words(node, "switch", "--to", to, *QUICK, *more)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )


def killed(node: Operator, point: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run nodeprep until it kills itself at a point; see ``tests.e2e.killed``."""
    command = [sys.executable, "-m", "tests.e2e.killed", str(point), *words(node, *arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=600
    )


def nodeprep_runs() -> str:
    command = [sys.executable, "-m", "nodeprep", "runs"]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=True
    ).stdout


def wait_for_record(verb: str) -> None:
    """Wait until the newest roll says in its journal that it begins a verb."""
    folder = Path(os.environ["XDG_STATE_HOME"]) / "nodeprep" / "runs"
    end = time.monotonic() + 300
    while time.monotonic() < end:
        journals = sorted(folder.glob("*.jsonl"))
        if journals and f'"verb":"{verb}"' in journals[-1].read_text():
            return
        time.sleep(0.5)
    raise AssertionError(f"the roll never came to {verb}")


def wait_until(node: Operator, command: str, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while node.tried(command).code:
        assert time.monotonic() < end, command
        time.sleep(3)
