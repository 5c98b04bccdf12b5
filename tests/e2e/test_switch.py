"""A node that serves changes its mode between iptables and ipvs: nothing is lost.

kube-proxy is Debian's 1.20. Nothing of others is touched, and there is always a way back.
"""

import os
import re
import signal
import time

import pytest

from tests.e2e.operator_of import Operator
from tests.e2e.serving import (
    CONFIG,
    QUICK,
    artefacts,
    begun,
    foreign,
    held,
    is_clean,
    killed,
    load,
    nodeprep_runs,
    switch,
    wait_for_record,
    wait_until,
    wish,
)

pytestmark = pytest.mark.lab

NETWORK, KUBE_PROXY, CLUSTER = "127.79.4", False, True


def test_a_dry_run_touches_nothing(serving: Operator) -> None:
    wish(serving, mode="ipvs")
    before = serving.tree(), foreign(serving), artefacts(serving)
    said = switch(serving, "ipvs", "--dry-run").check(0).out
    assert '+mode: "ipvs"' in said
    assert "nothing was touched" in said
    assert (serving.tree(), foreign(serving), artefacts(serving)) == before
    assert nodeprep_runs() == ""


def test_iptables_to_ipvs_loses_no_connection_and_nothing_of_others(serving: Operator) -> None:
    wish(serving, mode="ipvs")
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
    wait_until(serving, f"grep -qx back $(ls -td {kept} | head -n 1)/state", seconds=400)
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
