"""ipsets are judged by their headers: how many entries of how many that fit."""

from pathlib import Path

import pytest

from nodeprep.dataplane import sets
from nodeprep.dataplane.sets import IpSet, IpSets
from tests.dataplane.namespaces import NEEDS_NAMESPACES, inside
from tests.rollout.test_artefacts import Kernel
from tests.rollout.test_artefacts import sample as older_sample
from tests.shells import complaints


def made(setup: str, shell: str = "dash") -> IpSets:
    return sets.parse(inside(setup, sets.SCRIPT, shell=shell))


@NEEDS_NAMESPACES
def test_kube_proxys_sets_agree_with_counting_by_hand(shell: str) -> None:
    text = older_sample("ipvs-1.30.sets")
    said = inside('ipset restore <"$given"', sets.SCRIPT, shell=shell, given=text)
    found = sets.parse(said)
    lines = text.splitlines()
    assert found.sets == sum(line.startswith("create ") for line in lines)
    assert found.entries == sum(line.startswith("add ") for line in lines)
    assert (found.own_sets, found.own_entries) == (found.sets, found.entries)
    assert found.fullest == IpSet(name="KUBE-CLUSTER-IP", entries=5, maximum=65536)


@NEEDS_NAMESPACES
def test_a_full_set_is_named_first_and_a_nearly_full_one_too(shell: str) -> None:
    found = made(
        "ipset create roomy hash:ip maxelem 100; ipset add roomy 192.0.2.1\n"
        "ipset create near hash:ip,port maxelem 6\n"
        "for n in 1 2 3 4 5; do ipset add near 192.0.2.$n,tcp:80; done\n"
        "ipset create full hash:net maxelem 2; ipset add full 192.0.2.0/25\n"
        "ipset add full 198.51.100.0/24\n",
        shell,
    )
    assert [one.name for one in found.nearly_full] == ["full", "near"]
    assert found.fullest == IpSet(name="full", entries=2, maximum=2)
    assert (found.sets, found.entries, found.own_sets) == (3, 8, 0)


@NEEDS_NAMESPACES
def test_types_without_a_maximum_have_none(shell: str) -> None:
    found = made(
        "ipset create ports bitmap:port range 0-65535; ipset add ports 80\n"
        "ipset create several list:set size 1\nipset add several ports",
        shell,
    )
    assert (found.sets, found.entries, found.named) == (2, 2, ())


@NEEDS_NAMESPACES
def test_without_sets_there_is_nothing_to_know() -> None:
    assert made(":") == IpSets()


def test_many_full_sets_are_counted_and_fifty_named(tmp_path: Path, shell: str) -> None:
    one = "Name: s{0}\nType: hash:ip\nHeader: family inet maxelem 4\nNumber of entries: 4\n\n"
    said = {"ipset list -t": "".join(map(one.format, range(300)))}
    found = sets.parse(Kernel(folder=tmp_path, shell=shell, said=said).run(sets.SCRIPT))
    assert (found.sets, found.entries, len(found.named)) == (300, 1200, sets.NAMED)


@pytest.mark.parametrize(("entries", "named"), [(80, False), (81, True)])
def test_nearly_full_begins_above_eighty_percent(entries: int, *, named: bool) -> None:
    found = IpSets(named=(IpSet(name="x", entries=entries, maximum=100),))
    assert bool(found.nearly_full) is named


def test_the_script_is_clean_shell() -> None:
    assert complaints(sets.SCRIPT + "\n") == ""
