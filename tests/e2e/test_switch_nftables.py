"""A node that serves goes into nftables mode and out of it, over a bridge: nothing is lost.

kube-proxy 1.20 lacks that mode: it is the lab's stand-in that does what a newer one does.
"""

import json

import pytest

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

NETWORK, KUBE_PROXY, CLUSTER = "127.79.5", False, True


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
    assert many["failed"] == 0, json.dumps(many)
    assert is_clean(serving, "nftables")
    assert foreign(serving) == before


def test_nftables_to_ipvs_and_back_loses_no_connection(serving: Operator) -> None:
    before = foreign(serving)
    for mode, more in (("ipvs", ()), ("nftables", ("--restore-foreign-ipvs",))):
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
