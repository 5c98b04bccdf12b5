"""A node that serves goes into nftables mode and out of it, over a bridge: nothing is lost.

kube-proxy 1.20 lacks that mode: it is the lab's stand-in that does what a newer one does. In each
mode that the node comes to, `dataplane` says what the node's own tools say.
"""

import json
from typing import Any

import pytest

from tests.e2e import data_plane
from tests.e2e.operator_of import Operator
from tests.e2e.serving import (
    FOREIGN,
    STAND_IN,
    artefacts,
    datagrams,
    foreign,
    is_clean,
    load,
    switch,
    wish,
)

pytestmark = pytest.mark.lab
MINUTES = 9

NETWORK, KUBE_PROXY, CLUSTER = "127.79.5", False, True


@pytest.fixture(scope="module")
def in_iptables(serving: Operator) -> Any:
    """What was weighed in iptables mode, for what is weighed in another."""
    return data_plane.weighed(serving)


def test_to_weigh_loads_nothing_and_changes_nothing(serving: Operator) -> None:
    data_plane.looking_changes_nothing(serving)


def test_in_iptables_mode_it_agrees_with_iptables_save(serving: Operator, in_iptables: Any) -> None:
    data_plane.agrees_with_iptables_save(serving, in_iptables)
    data_plane.estimates_what_is_there(in_iptables)
    data_plane.conntrack_and_sync_are_the_nodes_own(serving)


def test_a_full_conntrack_table_and_a_full_set_are_exit_code_one(serving: Operator) -> None:
    data_plane.fails_where_conntrack_or_a_set_is_full(serving)


def test_iptables_to_nftables_refuses_to_have_foreign_virtual_servers_flushed(
    serving: Operator,
) -> None:
    wish(serving, mode="iptables", binary=STAND_IN, version='"1.33"')
    wish(serving, mode="nftables")
    before = serving.tree(), foreign(serving), artefacts(serving)
    run = switch(serving, "nftables").check(1)
    assert f"kube-proxy's start would flush TCP {FOREIGN}" in run.out
    assert (serving.tree(), foreign(serving), artefacts(serving)) == before


def test_iptables_to_nftables_loses_no_connection(serving: Operator) -> None:
    before = foreign(serving)
    with load(serving) as many:
        switch(serving, "nftables", "--restore-foreign-ipvs").check(0)
    assert many["failed"] == 0, json.dumps(many)
    assert is_clean(serving, "nftables")
    assert foreign(serving) == before


def test_in_nftables_mode_it_agrees_with_nfts_own_json(serving: Operator) -> None:
    data_plane.agrees_with_nfts_own_json(serving)


def test_nftables_to_ipvs_loses_no_connection(serving: Operator) -> None:
    switched_under_load(serving, "ipvs")


def test_in_ipvs_mode_it_agrees_with_ipvsadm_and_ipset(serving: Operator, in_iptables: Any) -> None:
    data_plane.agrees_with_ipvsadm_and_ipset(serving, in_iptables)


def test_ipvs_to_nftables_loses_no_connection(serving: Operator) -> None:
    switched_under_load(serving, "nftables", "--restore-foreign-ipvs")


def switched_under_load(serving: Operator, mode: str, *more: str) -> None:
    before = foreign(serving)
    wish(serving, mode=mode)
    with load(serving) as many, datagrams(serving) as one:
        switch(serving, mode, *more).check(0)
    assert many["failed"] == 0, json.dumps(many)
    assert one["sent"] > 20
    assert one["lost"] == 0, one
    assert is_clean(serving, mode)
    assert foreign(serving) == before


def test_nftables_to_iptables_loses_no_connection(serving: Operator) -> None:
    before = foreign(serving)
    wish(serving, mode="iptables")
    with load(serving) as many:
        switch(serving, "iptables").check(0)
    assert many["failed"] == 0, json.dumps(many)
    assert is_clean(serving, "iptables")
    assert foreign(serving) == before
