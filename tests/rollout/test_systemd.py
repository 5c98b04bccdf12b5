"""What each verb does to a node whose kube-proxy is a systemd unit, from every state."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, permutations
from typing import Any

import pytest

from nodeprep.model import MODES, Fact, Facts, FileState, Mode, Node
from nodeprep.releases import Version
from nodeprep.rollout import artefacts, gates, node_steps, preflight, systemd, way_back
from nodeprep.rollout.artefacts import Artefacts
from nodeprep.rollout.machine import FORWARD, VERBS, Verb
from nodeprep.rollout.operator import TcpTarget
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.systemd import Systemd
from nodeprep.rollout.way_back import Record
from nodeprep.topics import kube_proxy
from nodeprep.topics.kube_proxy import BINARY, Binary
from nodeprep.topics.proxy_mode import EFFECTIVE, Effective
from tests.topics import KUBECONFIG, NOW, node, of, placed

RUN = "20261123T070000Z-0a1b2c"
RECORD = way_back.record(RUN)
PAIRS = list(permutations(MODES, 2))
KIND = Systemd()
NEW_RELEASE = Binary(present=True, version=Version(1, 34), mtime=NOW - 9000)


def aim(to: Mode, **more: Any) -> Aim:
    return Aim(run=RUN, to=to, **more)


def facts_in(
    mode: Mode, effective: str, changed: Mapping[Fact[Any], object] | None = None
) -> Facts:
    """Return the facts of a node whose files ask for ``mode``, and whose process is in another."""
    values: dict[Fact[Any], object] = {
        RECORD: Record(process="b 1 10"),
        EFFECTIVE: Effective(running=True, mode=effective),
        artefacts.ARTEFACTS: Artefacts(),
        gates.HEALTH: gates.Health(),
        BINARY: NEW_RELEASE,
    }
    merged = {**values, **(changed or {})}
    wanted = kube_proxy.desired(node(mode=mode), of(merged))
    return of(merged, KUBECONFIG, *placed(*wanted))


def kept(state: str, gone: str) -> Record:
    return Record(state=state, gone=gone, process="b 2 20", began_as="b 1 10", armed_by=RUN)


def steps(verb: Verb, facts: Facts, to: Aim, at: Node | None = None) -> list[str]:
    return [change.subject for change in KIND.changes(verb, at or node(mode="ipvs"), facts, to)]


CONFIG = node().desired.kube_proxy.config


# --- a first switch -------------------------------------------------------------------------


@pytest.mark.parametrize(("gone", "to"), PAIRS)
def test_a_switch_keeps_and_arms_before_it_writes_and_waits_after_it_restarted(
    gone: Mode, to: Mode
) -> None:
    # Nothing new may depend on kube-ipvs0 when it goes: kube-proxy's start removes it, or we do.
    before = ["sources", "drain"] if (gone, to) == ("ipvs", "nftables") else []
    after = ["sources"] if (gone, to) == ("ipvs", "iptables") else []
    # It would grow old over what may linger.
    after += [] if "nftables" in (gone, to) else ["unbridge"]
    # A snapshot may have taken long: the controller's time starts again with the restart.
    assert steps("switch", facts_in(gone, gone), aim(to)) == [
        "learn", "keep", "arm", "bridge", *before, "renew", CONFIG, "restart", "sync", *after,
    ]  # fmt: skip


@pytest.mark.parametrize(("gone", "to"), PAIRS)
def test_a_cleaning_renews_and_removes_all_that_the_new_mode_does_not_use(
    gone: Mode, to: Mode
) -> None:
    facts = facts_in(to, to, {RECORD: kept("armed", gone)})
    changes = KIND.changes("clean", node(mode="ipvs"), facts, aim(to))
    subjects = [change.subject for change in changes]
    assert subjects[:2] == ["learn", "renew"]
    assert ("unbridge" in subjects) == ("nftables" in (gone, to))
    actions = [str(change.action) for change in changes if change.subject == "leftovers"]
    assert {action.strip() for action in actions} == {
        f"remove_leftovers {mode} {to}" for mode in MODES if mode != to
    }


@pytest.mark.parametrize("verb", ["linger", "soak"])
def test_to_wait_is_to_renew(verb: Verb) -> None:
    facts = facts_in("ipvs", "ipvs", {RECORD: kept("armed", "iptables")})
    assert steps(verb, facts, aim("ipvs")) == ["learn", "renew"]


@pytest.mark.parametrize("state", ["kept", "armed", "back-began", "back-failed", "settled"])
def test_the_way_back_is_taken_from_every_state_but_its_end(state: str) -> None:
    facts = facts_in("ipvs", "ipvs", {RECORD: kept(state, "iptables")})
    (_, back) = KIND.changes("back", node(), facts, aim("ipvs"))
    assert str(back.action) == "if go_back; then disarm back; else disarm back-failed; return 1; fi"


@pytest.mark.parametrize("state", ["", "back"])
def test_a_node_that_is_back_or_kept_nothing_has_no_way_to_go(state: str) -> None:
    facts = facts_in("iptables", "iptables", {RECORD: replace(kept(state, "iptables"))})
    assert steps("back", facts, aim("ipvs")) == []


def test_a_settled_node_is_settled_once() -> None:
    for state, expected in {"armed": ["learn", "disarm"], "settled": [], "": []}.items():
        facts = facts_in("ipvs", "ipvs", {RECORD: kept(state, "iptables")})
        assert steps("settle", facts, aim("ipvs")) == expected


def test_a_probe_starts_once_the_node_is_armed() -> None:
    to = aim("ipvs", probe=TcpTarget("10.254.7.7", 80))
    assert steps("switch", facts_in("iptables", "iptables"), to)[:4] == [
        "learn", "keep", "arm", "probe",
    ]  # fmt: skip


def test_others_virtual_servers_are_guarded_only_where_they_would_be_flushed() -> None:
    for to in MODES[1:]:
        told = steps("switch", facts_in("iptables", "iptables"), aim(to, restore_foreign_ipvs=True))
        assert ("foreign" in told) == (to == "nftables")


# --- begun again ----------------------------------------------------------------------------


def test_a_node_that_is_switched_and_settled_is_left_alone() -> None:
    for state in ("", "settled"):
        facts = facts_in("ipvs", "ipvs", {RECORD: kept(state, "iptables")})
        assert steps("switch", facts, aim("ipvs")) == []


def test_a_node_that_was_written_and_not_restarted_is_only_restarted() -> None:
    facts = facts_in("ipvs", "iptables", {RECORD: kept("armed", "iptables")})
    assert steps("switch", facts, aim("ipvs")) == [
        "learn", "keep", "arm", "bridge", "renew", "restart", "sync", "unbridge",
    ]  # fmt: skip


def test_a_node_that_was_restarted_is_not_restarted_again() -> None:
    facts = facts_in("ipvs", "ipvs", {RECORD: kept("armed", "iptables")})
    assert steps("switch", facts, aim("ipvs")) == ["learn", "keep", "arm", "sync", "unbridge"]


@pytest.mark.parametrize(("gone", "to"), PAIRS)
def test_no_second_snapshot_is_taken_of_a_mode_that_is_gone(gone: Mode, to: Mode) -> None:
    facts = facts_in(to, to, {RECORD: kept("armed", gone)})
    assert "bridge" not in steps("switch", facts, aim(to))


def test_the_mode_that_a_node_leaves_is_the_one_it_kept() -> None:
    facts = facts_in("ipvs", "ipvs", {RECORD: kept("armed", "nftables")})
    assert node_steps.current(facts) == "nftables"
    assert node_steps.current(facts_in("ipvs", "ipvs")) == "ipvs"
    assert node_steps.current(facts_in("ipvs", "userspace")) is None


@pytest.mark.parametrize("verb", VERBS)
def test_a_node_whose_mode_nobody_knows_is_not_touched(verb: Verb) -> None:
    assert steps(verb, facts_in("iptables", ""), aim("ipvs")) == []


# --- a roll that takes another back ---------------------------------------------------------


def test_a_rollback_puts_kept_files_back_instead_of_writing_new_ones() -> None:
    to = aim("iptables", restores="earlier")
    wrong = Record(state="settled", wrong=(CONFIG,))
    facts = facts_in("ipvs", "ipvs", {way_back.restored("earlier"): wrong})
    assert steps("switch", facts, to) == [
        "learn", "keep", "arm", "bridge", "renew", "restore", "restart", "sync", "sources",
        "unbridge",
    ]  # fmt: skip


def test_a_rollback_that_is_resumed_does_not_restart_what_is_back() -> None:
    to = aim("iptables", restores="earlier")
    whole = {way_back.restored("earlier"): Record(state="settled")}
    armed = facts_in("iptables", "iptables", {RECORD: kept("armed", "ipvs"), **whole})
    assert "restart" not in steps("switch", armed, to)
    written = facts_in("iptables", "ipvs", {RECORD: kept("armed", "ipvs"), **whole})
    assert steps("switch", written, to) == [
        "learn", "keep", "arm", "bridge", "renew", "restart", "sync", "sources", "unbridge",
    ]  # fmt: skip
    settled = facts_in("iptables", "iptables", {RECORD: kept("settled", "ipvs"), **whole})
    assert steps("switch", settled, to) == []


# --- what is waited for, and what is shown --------------------------------------------------


@pytest.mark.parametrize(("gone", "to"), PAIRS)
def test_open_connections_are_waited_for_only_where_they_would_be_cut(gone: Mode, to: Mode) -> None:
    seen = Artefacts(established=3, udp=2)
    facts = facts_in(to, to, {RECORD: kept("armed", gone), artefacts.ARTEFACTS: seen})
    expected = 3 if (gone, to) == ("ipvs", "iptables") else 0
    assert KIND.pending("linger", facts, aim(to)) == expected


def test_a_soak_is_never_over_by_itself() -> None:
    facts = facts_in("ipvs", "ipvs")
    assert KIND.pending("soak", facts, aim("ipvs")) == 1
    assert KIND.pending("clean", facts, aim("ipvs")) == 0


def test_what_will_be_written_is_shown_with_its_difference() -> None:
    (change,) = systemd.writes(node(mode="iptables"), facts_in("iptables", "iptables"), "ipvs")
    assert change.subject == CONFIG
    assert '-mode: "iptables"' in change.diff
    assert '+mode: "ipvs"' in change.diff


def test_a_file_of_anothers_is_refused_by_its_path() -> None:
    facts = facts_in("iptables", "iptables")
    foreign = replace(facts.file(CONFIG), ours=False)
    told = systemd.refused(node(), Facts(facts.values, {**facts.files, CONFIG: foreign}), "ipvs")
    assert told.keys() == {CONFIG}
    assert told[CONFIG][0] == "another hand wrote it"


def test_a_node_is_aimed_at_a_mode_without_changing_what_it_should_be_otherwise() -> None:
    one = node(mode="iptables", strict_arp=True)
    assert systemd.aimed(one, "ipvs") == node(mode="ipvs", strict_arp=True)


def read(verb: Verb, *, planned: bool) -> Facts:
    """Return only those facts that are asked for."""
    topics = KIND.topics(verb, aim("ipvs"), planned=planned)
    full = facts_in("ipvs", "ipvs", {RECORD: kept("armed", "iptables")})
    names = {fact.name for topic in topics for fact in topic.FACTS}
    return Facts({name: full.values[name] for name in names}, full.files)


def test_what_a_verb_reads_holds_all_that_it_judges() -> None:
    for verb in VERBS:
        assert KIND.findings(verb, node(), read(verb, planned=False), aim("ipvs"))
        KIND.changes(verb, node(), read(verb, planned=True), aim("ipvs"))


def test_the_steps_of_the_next_verb_can_be_planned_from_what_the_one_before_read() -> None:
    for before, verb in pairwise(FORWARD):
        assert KIND.changes(verb, node(), read(before, planned=False), aim("ipvs"))


def test_preflight_and_the_steps_agree_on_what_is_done_already() -> None:
    facts = facts_in("ipvs", "ipvs")
    assert preflight.already(node(mode="ipvs"), facts, aim("ipvs"))
    assert steps("switch", facts, aim("ipvs")) == []
    assert not preflight.already(node(mode="ipvs"), facts, aim("iptables"))


def test_an_absent_file_is_none_that_another_wrote() -> None:
    facts = facts_in("iptables", "iptables")
    absent = Facts(facts.values, {**facts.files, CONFIG: FileState(path=CONFIG)})
    assert systemd.refused(node(), absent, "ipvs") == {}
