"""Every check before a roll, by its name: what shuts it, what it says, and what may be ignored."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.model import Fact, Facts, Finding, Mode, Node, Status
from nodeprep.releases import Version
from nodeprep.rollout import artefacts, preflight, systemd, way_back
from nodeprep.rollout.artefacts import Artefacts, Rules
from nodeprep.rollout.preflight import AROUND, NEVER_IGNORED, Around
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.way_back import Record
from nodeprep.shell import Script
from nodeprep.topics import kube_proxy, system
from nodeprep.topics.kube_proxy import BINARY, SERVICE, Binary
from nodeprep.topics.proxy_mode import EFFECTIVE, Effective
from tests.shells import output
from tests.topics import KUBECONFIG, NOW, RUNNING, node, of, placed

RUN = "20261123T070000Z-0a1b2c"
RECORD = way_back.record(RUN)
ABLE = Around(nft=(1, 0, 6), ipset=(7, 17), systemd_run=True, addresses=1)
SEEN = Artefacts(
    kubernetes=dict.fromkeys(("iptables", "ipvs", "nftables"), "10.254.0.1:443"),
    rules=(Rules(backend="nft", family=4, forward="ACCEPT"),),
)


def aim(to: Mode = "nftables", **more: Any) -> Aim:
    return Aim(run=RUN, to=to, **more)


def facts(
    changed: Mapping[Fact[Any], object] | None = None,
    mode: Mode = "iptables",
    at: Node | None = None,
) -> Facts:
    """Return the facts of a node in ``mode`` that can go anywhere, but for ``changed``."""
    values: dict[Fact[Any], object] = {
        RECORD: Record(process="b 1 10"),
        EFFECTIVE: Effective(running=True, mode=mode),
        artefacts.ARTEFACTS: SEEN,
        AROUND: ABLE,
        BINARY: Binary(present=True, version=Version(1, 34), mtime=NOW - 9000),
        **(changed or {}),
    }
    wanted = kube_proxy.desired(systemd.aimed(at or node(), mode), of(values))
    return of(values, KUBECONFIG, *placed(*wanted))


def judged(
    found: Facts, to: Aim | None = None, at: Node | None = None, ignored: tuple[str, ...] = ()
) -> dict[str, Finding]:
    told = preflight.judged(at or node(), found, to or aim(), ignored)
    # What the topics want to be prepared is theirs to test.
    return {f.name: f for f in told if f.hint != "ignored, as asked" or f.name in ignored}


def only_of_preflight(found: Mapping[str, Finding]) -> dict[str, str]:
    prepared = "set `mode: "
    return {
        name: finding.actual
        for name, finding in found.items()
        if finding.status is Status.FAIL and not finding.hint.startswith(prepared)
    }


SHUT: Mapping[str, tuple[Mapping[Fact[Any], object], Mode, str]] = {
    "kube-proxy": ({SERVICE: replace(RUNNING, active="inactive")}, "nftables", "inactive"),
    "http client": (
        {EFFECTIVE: Effective(running=True, can_ask=False)}, "nftables", "none",
    ),
    "kubernetes ClusterIP": (
        {artefacts.ARTEFACTS: replace(SEEN, kubernetes={})}, "nftables", "nowhere in the kernel",
    ),
    "systemd-run": ({AROUND: replace(ABLE, systemd_run=False)}, "nftables", "not there"),
    "release": (
        {BINARY: Binary(present=True, version=Version(1, 20), mtime=NOW - 9000)},
        "nftables",
        "1.20 does not know nftables",
    ),
    "in hand": (
        {RECORD: Record(armed_by="another")}, "nftables", "the roll another has it in hand",
    ),
    "nft": ({AROUND: replace(ABLE, nft=(1, 0, 0))}, "nftables", "1.0.0"),
    "ipset": ({AROUND: replace(ABLE, ipset=(5, 9))}, "ipvs", "5.9"),
    "foreign IPVS": (
        {artefacts.ARTEFACTS: replace(
            SEEN, foreign_count=1, foreign_servers=("TCP 192.0.2.1:80",))},
        "nftables",
        "kube-proxy's start would flush TCP 192.0.2.1:80",
    ),
}  # fmt: skip


@pytest.mark.parametrize("to", ["iptables", "ipvs", "nftables"])
def test_a_node_that_can_go_fails_none_of_these(to: Mode) -> None:
    mode: Mode = "ipvs" if to == "iptables" else "iptables"
    found = only_of_preflight(judged(facts(mode=mode), aim(to)))
    assert not found.keys() & {*SHUT, "kernel", "style", "kept files"}


@pytest.mark.parametrize("name", SHUT)
def test_what_stands_in_the_way_is_named(name: str) -> None:
    changed, to, actual = SHUT[name]
    found = judged(facts(changed), aim(to))
    assert only_of_preflight(found)[name] == actual
    assert found[name].hint


@pytest.mark.parametrize("name", SHUT)
def test_only_what_has_another_way_out_can_be_ignored(name: str) -> None:
    changed, to, _ = SHUT[name]
    found = judged(facts(changed), aim(to), ignored=(name,))[name]
    assert found.status is (Status.FAIL if name in NEVER_IGNORED else Status.WARN)


def test_failures_come_first() -> None:
    changed: Mapping[Fact[Any], object] = {AROUND: replace(ABLE, nft=(), programs=("calico-node",))}
    told = preflight.judged(node(), facts(changed), aim(), ())
    statuses = [finding.status is not Status.FAIL for finding in told]
    assert statuses == sorted(statuses)


def test_a_kernel_that_is_too_old_for_nftables_is_named() -> None:
    old = replace(facts()[system.SYSTEM], kernel="5.12.9-generic")
    assert only_of_preflight(judged(facts({system.SYSTEM: old})))["kernel"] == "5.12.9-generic"
    new = replace(old, kernel="5.13.0")
    assert "kernel" not in judged(facts({system.SYSTEM: new}))
    assert "kernel" not in judged(facts({system.SYSTEM: old}, mode="ipvs"), aim("iptables"))


@pytest.mark.parametrize("name", ["cilium-agent", "kube-router"])
def test_something_that_does_kube_proxys_work_is_named(name: str) -> None:
    gone: Mapping[Fact[Any], object] = {
        SERVICE: replace(RUNNING, active=""),
        AROUND: replace(ABLE, programs=(name,)),
    }
    found = judged(facts(gone))["kube-proxy"]
    assert preflight.NEIGHBOURS[name] in found.actual
    assert "--limit '!node-1'" in found.hint


def test_a_kube_proxy_that_nodeprep_does_not_write_is_not_switched() -> None:
    assert judged(facts(), at=node(style="unmanaged"))["style"].status is Status.FAIL


def test_a_file_of_anothers_stands_in_the_way() -> None:
    path = node().desired.kube_proxy.config
    found = facts()
    foreign = replace(found.file(path), ours=False)
    told = judged(Facts(found.values, {**found.files, path: foreign}))
    assert told[path].actual == "another hand wrote it"


def test_others_virtual_servers_may_be_put_back_when_asked() -> None:
    changed, _, _ = SHUT["foreign IPVS"]
    told = judged(facts(changed), aim(restore_foreign_ipvs=True))["foreign IPVS"]
    assert (told.status, "put back at once" in told.actual) == (Status.WARN, True)


def test_into_ipvs_others_virtual_servers_must_be_out_of_its_reach() -> None:
    servers = ("TCP 192.0.2.1:80", "FWM 7")
    seen = replace(SEEN, foreign_count=2, foreign_servers=servers)
    found = facts({artefacts.ARTEFACTS: seen})
    told = judged(found, aim("ipvs"))["foreign IPVS"]
    assert told.actual == "kube-proxy would delete TCP 192.0.2.1:80"
    spared = node(exclude_cidrs=("192.0.2.0/24",))
    assert "foreign IPVS" not in judged(found, aim("ipvs"), at=spared)


def test_more_virtual_servers_than_were_named_are_counted() -> None:
    seen = replace(SEEN, foreign_count=60, foreign_servers=("TCP 192.0.2.1:80",))
    told = judged(facts({artefacts.ARTEFACTS: seen}))["foreign IPVS"]
    assert told.actual.endswith("TCP 192.0.2.1:80 and 59 more")


@pytest.mark.parametrize(("state", "refused"), [("settled", False), ("", True), ("back", True)])
def test_only_a_roll_that_was_finished_can_be_taken_back(state: str, refused: bool) -> None:
    question = way_back.restored("earlier")
    found = facts({question: Record(state=state)}, mode="ipvs")
    told = judged(found, aim("iptables", restores="earlier"))
    assert ("kept files" in told) == refused


def test_what_a_node_lacks_of_the_old_mode_does_not_keep_it_from_going_back_there() -> None:
    found = facts({way_back.restored("earlier"): Record(state="settled")}, mode="ipvs")
    away = judged(found, aim("nftables"))
    home = judged(found, aim("nftables", restores="earlier"))
    lacking = {name for name, one in away.items() if one.hint.startswith("set `mode: ")}
    assert lacking
    assert {home[name].status for name in lacking} == {Status.WARN}


def test_ipvs_is_said_to_leave_since_1_35() -> None:
    newer = {BINARY: Binary(present=True, version=Version(1, 35), mtime=NOW - 9000)}
    told = judged(facts(newer), aim("ipvs"))["ipvs"]
    assert (told.status, "1.40" in told.actual) == (Status.WARN, True)
    assert "ipvs" not in judged(facts(), aim("ipvs"))


# --- what is only worth knowing -------------------------------------------------------------


def test_a_chain_of_each_virtual_server_counts_for_the_snapshot_too() -> None:
    many = {artefacts.ARTEFACTS: replace(SEEN, virtual_servers=20_001)}
    told = judged(facts(many), aim("iptables"))["bridge"]
    assert (told.status, "20001 chains" in told.actual) == (Status.WARN, True)
    assert "bridge" not in judged(facts(), aim("iptables"))


WARNINGS: Mapping[str, tuple[Mapping[Fact[Any], object], Mode, Mode]] = {
    "bridge": (
        {
            artefacts.ARTEFACTS: replace(
                SEEN, rules=(Rules(backend="nft", family=4, service_chains=55_000),)
            )
        },
        "iptables", "nftables",
    ),
    "localhost NodePorts": (
        {artefacts.ARTEFACTS: replace(SEEN, ports={"iptables": 3})}, "iptables", "ipvs",
    ),
    "nodePortAddresses": (
        {artefacts.ARTEFACTS: replace(SEEN, ports={"ipvs": 3}), AROUND: replace(ABLE, addresses=2)},
        "ipvs", "nftables",
    ),
    "NodeLocal DNSCache": (
        {AROUND: replace(ABLE, links=("nodelocaldns",))}, "iptables", "ipvs",
    ),
    "strictARP": ({AROUND: replace(ABLE, programs=("speaker",))}, "iptables", "ipvs"),
    "Calico": ({AROUND: replace(ABLE, programs=("calico-node",))}, "ipvs", "iptables"),
    "FORWARD policy": (
        {artefacts.ARTEFACTS: replace(
            SEEN, rules=(Rules(backend="nft", family=4, forward="DROP"),))},
        "iptables", "nftables",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_what_will_be_different_is_a_warning(name: str) -> None:
    changed, gone, to = WARNINGS[name]
    found = judged(facts(changed, mode=gone), aim(to))[name]
    assert (found.status, bool(found.hint)) == (Status.WARN, True)
    assert name not in judged(facts(mode=gone), aim(to))


def test_strict_arp_that_is_set_is_not_warned_of() -> None:
    changed, _, to = WARNINGS["strictARP"]
    assert "strictARP" not in judged(facts(changed), aim(to), at=node(strict_arp=True))


# --- the rest -------------------------------------------------------------------------------


def test_a_node_that_is_there_already_is_known_by_mode_files_and_hands() -> None:
    there = facts(mode="ipvs")
    assert preflight.already(node(), there, aim("ipvs"))
    assert not preflight.already(node(strict_arp=True), there, aim("ipvs"))
    assert not preflight.already(node(), facts({RECORD: Record(armed_by=RUN)}, "ipvs"), aim("ipvs"))
    assert not preflight.already(node(), facts(mode="iptables"), aim("ipvs"))


def test_the_clusters_own_address_is_that_of_the_mode_in_effect() -> None:
    seen = replace(SEEN, kubernetes={"iptables": "10.0.0.1:443", "ipvs": "10.0.0.2:443"})
    changed: Mapping[Fact[Any], object] = {artefacts.ARTEFACTS: seen}
    assert preflight.kubernetes(facts(changed, mode="ipvs")) == "10.0.0.2:443"
    assert preflight.kubernetes(facts(changed, mode="nftables")) == ""


def test_versions_of_tools_are_read_as_they_print_them() -> None:
    text = (
        "nft nftables v1.0.6 (Lester Gooch #5)\nipset ipset v7.17, protocol version: 7\n"
        "systemd-run yes\nlink nodelocaldns\nprogram speaker\nprogram kube-vip\naddresses 2\n"
    )
    assert preflight.parse(text) == Around(
        nft=(1, 0, 6), ipset=(7, 17), systemd_run=True, programs=("speaker", "kube-vip"),
        links=("nodelocaldns",), addresses=2,
    )  # fmt: skip
    assert preflight.parse("") == Around()


def test_any_node_answers_what_is_around(shell: str) -> None:
    answer = output(shell, Script(AROUND.script(node()), "\n")).decode()
    assert isinstance(AROUND.parse(answer), Around)


@given(st.text())
def test_no_answer_makes_the_parser_do_more_than_refuse_it(text: str) -> None:
    try:
        preflight.parse(text)
    except ValueError:
        return
