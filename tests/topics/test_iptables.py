"""iptables: which backend it is, whether the kernel has it, and rules in both at once."""

import dataclasses
import shutil
import subprocess

import pytest

from nodeprep.model import Facts, Finding, Status
from nodeprep.topics import iptables as topic
from nodeprep.topics.iptables import IPTABLES, Iptables, Rules
from tests import facts
from tests.shells import NEEDS_ROOT, PATH, SHELLS
from tests.topics import named, node, of

NFT = Iptables(version="1.8.9", backend="nft")
LEGACY = Iptables(version="1.8.7", backend="legacy", tables=("nat", "filter"))


def seen(iptables: Iptables) -> Facts:
    return of({IPTABLES: iptables})


def rules(backend: str, count: int, kube: int) -> Rules:
    return Rules(backend=backend, family=4, count=count, kube=kube)


def both(iptables: Iptables, nft: tuple[int, int], legacy: tuple[int, int]) -> list[Finding]:
    found = dataclasses.replace(
        iptables, tables=("nat",), rules=(rules("nft", *nft), rules("legacy", *legacy))
    )
    return [f for f in topic.findings(node(), seen(found)) if f.name == "both backends"]


def test_a_node_with_one_backend_yields_one_line() -> None:
    (finding,) = topic.findings(node(), seen(facts.read(IPTABLES, "debian12-container")))
    assert finding.status is Status.OK


@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
def test_a_legacy_iptables_on_a_kernel_without_it_fails(mode: str) -> None:
    without = dataclasses.replace(LEGACY, possible=False, tables=())
    finding = named(topic.findings(node(mode=mode), seen(without)), "backend")
    assert finding.status is Status.FAIL
    assert "update-alternatives --set iptables /usr/sbin/iptables-nft" in finding.hint


def test_nftables_mode_does_not_mind() -> None:
    without = dataclasses.replace(LEGACY, possible=False, tables=())
    findings = topic.findings(node(mode="nftables"), seen(without))
    assert [finding.status for finding in findings] == [Status.OK]


def test_no_iptables_at_all_is_for_the_packages_to_say() -> None:
    assert [f.status for f in topic.findings(node(), seen(Iptables()))] == [Status.OK]


def test_rules_in_both_are_a_warning_with_their_numbers() -> None:
    (finding,) = both(NFT, (30, 20), (12, 8))
    assert finding.status is Status.WARN
    assert finding.actual == "nft has 30 rules (20 of KUBE-), legacy 12 (8 of KUBE-)"
    assert "iptables-legacy-save | grep -v KUBE- | iptables-legacy-restore" in finding.hint
    assert "ip6tables-legacy-save" in finding.hint


def test_what_is_stale_is_in_the_backend_that_iptables_is_not() -> None:
    (finding,) = both(LEGACY, (30, 20), (12, 8))
    assert "iptables-nft-save | grep -v KUBE- | iptables-nft-restore" in finding.hint


def test_rules_of_others_are_never_told_to_be_removed() -> None:
    (finding,) = both(NFT, (30, 20), (12, 0))
    assert finding.hint == "see whose they are: iptables-legacy-save, ip6tables-legacy-save"


def test_where_another_kube_proxy_writes_no_backend_is_called_stale() -> None:
    found = dataclasses.replace(
        NFT, tables=("nat",), rules=(rules("nft", 3, 3), rules("legacy", 3, 3))
    )
    finding = named(topic.findings(node(style="unmanaged"), seen(found)), "both backends")
    assert "restore" not in finding.hint


@pytest.mark.parametrize(("nft", "legacy"), [((30, 20), (0, 0)), ((0, 0), (12, 8))])
def test_tables_without_rules_are_no_rules(nft: tuple[int, int], legacy: tuple[int, int]) -> None:
    assert both(NFT, nft, legacy) == []


def test_legacy_tables_that_nothing_here_can_read_are_a_warning() -> None:
    found = dataclasses.replace(NFT, tables=("nat",), rules=(rules("nft", 30, 20),))
    finding = named(topic.findings(node(), seen(found)), "both backends")
    assert finding.status is Status.WARN
    assert "legacy tables (nat)" in finding.actual


# --- how it is asked ------------------------------------------------------------------------


def inside(shell: str, statements: str) -> Iptables:
    """Return what is seen in a network namespace of its own after ``statements``."""
    done = subprocess.run(
        ["unshare", "--net", *SHELLS[shell], "-s"],
        input=statements + IPTABLES.script(node()),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": PATH},
    )
    if "unshare:" in done.stderr:
        pytest.skip(f"no network namespace to be had here: {done.stderr}")
    return IPTABLES.parse(done.stdout)


NFT_RULES = """\
iptables-nft -t nat -N KUBE-SERVICES
iptables-nft -t nat -A OUTPUT -j KUBE-SERVICES
ip6tables-nft -A INPUT -s 2001:db8::1 -j DROP
"""
LEGACY_RULE = "iptables-legacy -A INPUT -s 192.0.2.1 -j DROP || exit 0\n"


@NEEDS_ROOT
@pytest.mark.skipif(not shutil.which("iptables-nft", path=PATH), reason="there is no iptables here")
def test_rules_of_both_backends_are_counted_where_there_are_legacy_tables(shell: str) -> None:
    assert inside(shell, NFT_RULES).rules == ()
    found = inside(shell, NFT_RULES + LEGACY_RULE)
    if not found.version:
        pytest.skip("this kernel has no legacy tables")
    assert found.tables == ("filter",)
    assert {(r.backend, r.family, r.count, r.kube) for r in found.rules} == {
        ("nft", 4, 1, 1),
        ("nft", 6, 1, 0),
        ("legacy", 4, 1, 0),
    }


def test_nothing_is_written_or_changed() -> None:
    assert topic.paths(node()) == topic.secrets(node()) == ()
    assert topic.changes(node(), seen(LEGACY)) == ()
