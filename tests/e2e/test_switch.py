"""A node that serves changes its mode between iptables and ipvs: nothing is lost.

kube-proxy is Debian's 1.20. Nothing of others is touched, and there is always a way back.
"""

import json
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
    cut_off,
    foreign,
    held,
    is_clean,
    killed,
    load,
    nodeprep_runs,
    switch,
    wait_for_record,
    wish,
)

pytestmark = pytest.mark.lab
MINUTES = 8

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
    assert many["failed"] == 0, json.dumps(many)
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
    assert many["failed"] == 0, json.dumps(many)
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
    assert many["failed"] == 0, json.dumps(many)


def test_a_node_that_cannot_be_reached_goes_back_by_itself(serving: Operator) -> None:
    before = serving.ask(f"sha256sum {CONFIG}")
    quick = ("--gate-limit", "40s", "--dead-man", "70s", "--soak", "600s")
    with load(serving) as many:
        process = begun(serving, "ipvs", *quick)
        wait_for_record("soak")
        cut_off(serving, seconds=110)
        out, _ = process.communicate(timeout=500)
    assert process.returncode == 1, out
    assert "went back by itself" in out
    assert serving.ask(f"sha256sum {CONFIG}") == before
    assert is_clean(serving, "iptables")
    assert many["failed"] == 0, json.dumps(many)


def test_a_second_roll_is_told_of_the_one_that_was_cut_short(serving: Operator) -> None:
    process = killed(serving, 1, "switch", "--to", "ipvs", *QUICK)
    assert process.returncode == -signal.SIGKILL, process.stdout
    (run,) = re.findall(r"^(\S+)  open", nodeprep_runs(), re.MULTILINE)
    assert "was left in the middle" in switch(serving, "ipvs").check(3).err
    serving.nodeprep("switch", "--resume", run, "--yes").check(0)
    assert is_clean(serving, "ipvs")


def test_a_finished_roll_is_taken_back_to_the_very_files(serving: Operator) -> None:
    run = nodeprep_runs().split()[0]
    before = serving.ask(f"cat /var/lib/nodeprep/switch/{run}/files{CONFIG}")
    with load(serving) as many:
        serving.nodeprep("rollback", run, *QUICK).check(0)
    assert serving.ask(f"cat {CONFIG}") == before
    assert is_clean(serving, "iptables")
    assert many["failed"] == 0, json.dumps(many)
