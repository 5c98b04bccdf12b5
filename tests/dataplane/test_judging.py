"""A node is weighed as a whole: which mode it is in, and what is full or nearly."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from nodeprep.dataplane import (
    conntrack,
    judging,
    process,
    reading,
    rules,
    sets,
    tables,
    virtual_servers,
)
from nodeprep.model import Desired, Fact, Facts, Finding, KubeProxy, Node, Status
from nodeprep.releases import Version

NODE = Node(name="a", address="192.0.2.1")
EMPTY: Mapping[Fact[Any], str] = dict.fromkeys(reading.FACTS, "")
SERVES = "services nft 4 ports=9 endpoints=20\n"


def facts(answers: Mapping[Fact[Any], str]) -> Facts:
    every = {**EMPTY, **answers}
    return Facts({fact.name: fact.parse(text) for fact, text in every.items()})


def seen(answers: Mapping[Fact[Any], str]) -> reading.DataPlane:
    return reading.data_plane(NODE, facts(answers))


def found(fact: Fact[Any], text: str) -> Finding:
    (only,) = judging.findings(NODE, facts({fact: text}))
    return only


# --- the mode -------------------------------------------------------------------------------


def test_the_mode_is_kube_proxys_own_word() -> None:
    plane = seen({rules.FACT: SERVES, process.FACT: "mode ipvs\nnow 1\n"})
    assert (plane.mode, plane.mode_said, plane.services) == ("ipvs", True, ())
    assert plane.estimates == ()


@pytest.mark.parametrize(
    ("fact", "text", "mode"),
    [
        (rules.FACT, SERVES, "iptables"),
        (virtual_servers.FACT, "services 4 ports=9 endpoints=20\n", "ipvs"),
        (tables.FACT, "services 4 ports=9 endpoints=20\n", "nftables"),
    ],
)
def test_without_an_answer_it_is_what_the_kernel_serves(
    fact: Fact[Any], text: str, mode: str
) -> None:
    plane = seen({fact: text, process.FACT: "mode \nnow 1\n"})
    assert (plane.mode, plane.mode_said) == (mode, False)
    assert (plane.ports, plane.endpoints) == (9, 20)
    assert [one.mode for one in plane.estimates] == ["iptables", "ipvs", "nftables"]


def test_what_another_mode_left_is_not_taken_for_the_mode() -> None:
    left: Mapping[Fact[Any], str] = {
        rules.FACT: "services nft 4 ports=3\n",
        tables.FACT: "services 4 ports=9\n",
    }
    assert seen(left).mode == "nftables"


def test_a_node_that_serves_nothing_is_in_no_mode() -> None:
    assert seen({}).mode is None


def test_a_mode_that_is_not_known_is_not_believed() -> None:
    assert seen({process.FACT: "mode userspace\nnow 1\n"}).mode is None


def test_a_kube_proxy_that_does_not_say_is_of_the_release_of_the_inventory() -> None:
    desired = Desired(kube_proxy=KubeProxy(version="1.20"))
    node = dataclasses.replace(NODE, desired=desired)
    plane = reading.data_plane(node, facts({rules.FACT: SERVES}))
    assert plane.estimates[0].layout.since == Version(1, 14)


# --- what is full ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "status"),
    [(0, "ok"), (749, "ok"), (750, "warn"), (899, "warn"), (900, "fail"), (1000, "fail")],
)
def test_conntrack_is_full_from_ninety_percent(used: int, status: str) -> None:
    finding = found(conntrack.FACT, f"{used}\n1000\n")
    assert (finding.name, str(finding.status)) == ("conntrack", status)
    if status != "ok":
        assert "sysctl -w net.netfilter.nf_conntrack_max=2000" in finding.hint


@pytest.mark.parametrize(
    ("entries", "status"), [(80, "ok"), (81, "warn"), (99, "warn"), (100, "fail")]
)
def test_an_ipset_is_full_at_its_maximum(entries: int, status: str) -> None:
    finding = found(sets.FACT, f"set MINE {entries} 100\nsets 1 {entries} 0 0\n")
    assert str(finding.status) == status
    assert f"MINE {entries} of 100" in f"{finding.name} {finding.actual}"


def test_a_full_set_of_kube_proxys_says_what_it_means() -> None:
    finding = found(sets.FACT, "set KUBE-CLUSTER-IP 65536 65536\nsets 1 65536 1 65536\n")
    assert finding.status is Status.FAIL
    assert "kubernetes#129389" in finding.hint


def test_what_could_not_be_read_is_a_warning() -> None:
    finding = found(rules.FACT, "unreadable nft 4 nat\n")
    assert (finding.status, finding.actual) == (
        Status.WARN,
        "cannot be read: nat (IPv4, nft backend)",
    )
    finding = found(tables.FACT, "unread ip\ntable ip 0 0 0 0\n")
    assert (finding.status, finding.hint) == (Status.WARN, "time nft list table ip kube-proxy")


def test_an_empty_node_has_nothing_to_be_judged() -> None:
    assert judging.findings(NODE, facts({})) == ()
