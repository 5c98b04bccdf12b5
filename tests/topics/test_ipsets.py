"""Ipsets are kept as the inventory says them: swapped whole, and nobody else's is touched."""

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from nodeprep import files, plan, probe, verify
from nodeprep.ipset import LOADING, Listed
from nodeprep.model import APPLY, BypassRule, Change, FileState, Finding, IpSet, Node, Status
from nodeprep.topics import bypass_rules, ipsets
from nodeprep.topics.ipsets import FOLDER, SCRIPT, SETS, UNIT, InKernel, Sets, digest_of, file_of
from tests.namespaces import NONCE, Namespace
from tests.shells import NEEDS_ROOT, complaints
from tests.topics import named, node, of, placed

MINE = IpSet(name="myset", entries=("192.168.1.1", "192.168.2.226"))
NETS = IpSet(name="nets", type="hash:net", family="inet6", entries=("fd00::/64",))
WANTED = node(ipsets=(MINE,))
TOPICS = (ipsets, bypass_rules)
FOREIGN = """\
ipset create theirs hash:ip timeout 600; ipset add theirs 192.0.2.7 timeout 0
ipset create list:mine list:set; ipset add list:mine theirs
iptables -t nat -N THEIRS
iptables -t nat -A THEIRS -m set --match-set theirs src -j RETURN
iptables-legacy -A INPUT -m set --match-set theirs src -m comment --comment mine -j DROP
nft add table inet theirs; nft add chain inet theirs c
"""
EVERYTHING_FOREIGN = """\
ipset save theirs; ipset save list:mine
iptables-save | grep THEIRS; iptables-legacy-save | grep -v '^#' | sed 's/ .[0-9]*:[0-9]*.$//'
nft list table inet theirs
"""


def listed(wanted: IpSet, **changed: Any) -> InKernel:
    """Return a set in the kernel that is as wanted, but for what ``changed`` says."""
    parameters = {"family": wanted.family, "maxelem": str(wanted.maxelem), "hashsize": "1024"}
    head = Listed(
        name=changed.pop("name", wanted.name),
        type=changed.pop("type", wanted.type),
        references=changed.pop("references", 0),
        parameters={**parameters, **changed.pop("parameters", {})},
    )
    count, digest = len(wanted.entries), digest_of(wanted)
    return dataclasses.replace(InKernel(listed=head, entries=count, digest=digest), **changed)


def files_of(wished: Node) -> tuple[FileState, ...]:
    helpers = {c.subject: c for c in ipsets.changes(wished, of()) if c.subject in (SCRIPT, UNIT)}
    scripts = [
        FileState(
            path=path,
            kind="regular",
            mode=0o644,
            digest=change.action.reveal().split(" ")[3],
            real_parent=path.rpartition("/")[0],
            ours=True,
        )
        for path, change in helpers.items()
    ]
    return *scripts, *placed(*map(file_of, wished.desired.ipsets or ()))


def seen(*there: InKernel, **changed: Any) -> Mapping[Any, object]:
    names = {each.listed.name: each for each in there}
    return {SETS: Sets(there=names, ours=frozenset(names), **{"unit": "enabled", **changed})}


def told(wished: Node, values: Mapping[Any, object], *states: FileState) -> list[str]:
    return [change.summary for change in ipsets.changes(wished, of(values, *states))]


def found(
    wished: Node, values: Mapping[Any, object], *states: FileState, name: str = "myset"
) -> Finding:
    return named(ipsets.findings(wished, of(values, *states)), name)


# --- what it costs where nobody asks for it --------------------------------------------------


def test_an_inventory_without_ipsets_asks_writes_and_says_nothing() -> None:
    plain = node()
    script = probe.script(plain, (ipsets, bypass_rules), NONCE).reveal()
    assert "ipset" not in script
    assert (ipsets.paths(plain), bypass_rules.paths(plain)) == ((), ())
    for topic in TOPICS:
        assert topic.changes(plain, of()) == ()
        assert topic.findings(plain, of()) == ()


# --- planning and judging -------------------------------------------------------------------


def test_a_fresh_node_gets_the_script_the_unit_the_file_and_the_set() -> None:
    assert told(WANTED, {SETS: Sets(there={}, unit="")}) == [
        f"write {SCRIPT}",
        f"write {UNIT}",
        f"write {FOLDER}/myset (2 entries)",
        "load the ipset myset, 2 entries (now: not there)",
        "enable nodeprep-ipsets.service",
    ]


def test_a_node_that_has_it_all_gets_nothing() -> None:
    assert told(WANTED, seen(listed(MINE)), *files_of(WANTED)) == []
    judged = ipsets.findings(WANTED, of(seen(listed(MINE)), *files_of(WANTED)))
    assert {finding.status for finding in judged} == {Status.OK}


def test_the_entries_are_not_shown_and_do_not_come_home() -> None:
    assert ipsets.secrets(WANTED) == (f"{FOLDER}/myset",)
    (written,) = [c for c in ipsets.changes(WANTED, of()) if c.subject == f"{FOLDER}/myset"]
    assert written.diff == ""


@pytest.mark.parametrize(
    ("there", "actual"),
    [
        (
            listed(MINE, digest="0", more=2, less=1, examples=("+9.9.9.9", "-192.168.1.1")),
            "2 entries, 2 too many, 1 missing: +9.9.9.9, -192.168.1.1",
        ),
        (listed(MINE, parameters={"maxelem": "9"}), "maxelem 9"),
        (listed(MINE, parameters={"counters": ""}), "counters"),
        (listed(MINE, type="hash:net"), "hash:net inet"),
    ],
    ids=["entries", "maxelem", "a flag", "another kind"],
)
def test_what_differs_is_told_and_loaded_anew(there: InKernel, actual: str) -> None:
    judged = found(WANTED, seen(there), *files_of(WANTED))
    assert (judged.status, judged.actual, judged.hint) == (Status.FAIL, actual, APPLY)
    assert told(WANTED, seen(there), *files_of(WANTED)) == [
        f"load the ipset myset, 2 entries (now: {actual})"
    ]


def test_where_the_file_is_an_older_one_its_examples_say_nothing() -> None:
    older = dataclasses.replace(MINE, entries=("10.0.0.1",))
    states = (*files_of(WANTED)[:2], *placed(file_of(older)))
    there = listed(older, more=1, less=2, examples=("+10.0.0.1",))
    assert found(WANTED, seen(there), *states).actual == "1 entry, not those that are wanted"


def test_a_set_of_another_hand_is_refused_until_adopted() -> None:
    states = files_of(WANTED)[:2]
    judged = found(WANTED, seen(listed(MINE)), *states)
    assert (judged.status, judged.actual) == (Status.FAIL, "another hand made it")
    assert "adopt: true" in judged.hint
    assert told(WANTED, seen(listed(MINE)), *states) == []
    adopting = node(ipsets=(MINE,), adopt=True)
    assert told(adopting, seen(listed(MINE)), *states) == [
        f"write {FOLDER}/myset (2 entries)",
        "load the ipset myset, 2 entries",
    ]


def test_a_set_of_another_kind_that_a_rule_refers_to_is_refused() -> None:
    there = listed(MINE, type="hash:net", references=1)
    judged = found(WANTED, seen(there), *files_of(WANTED))
    assert judged.actual == "it is hash:net inet, and 1 rules or sets refer to it"
    assert "another name" in judged.hint
    assert told(WANTED, seen(there), *files_of(WANTED)) == []


def test_a_set_that_is_no_longer_named_goes_and_at_last_what_loaded_it() -> None:
    nothing = node(ipsets=())
    states = files_of(WANTED)
    gone = "remove the ipset myset, after nodeprep's rules that match it (not wanted any more)"
    assert told(nothing, seen(listed(MINE)), *states) == [
        gone,
        "remove nodeprep-ipsets.service, which has no set left to load",
    ]
    other = node(ipsets=(NETS,))
    assert gone in told(other, seen(listed(MINE), listed(NETS)), *states)


def test_what_somebody_elses_rule_refers_to_stays_and_is_told() -> None:
    nothing = node(ipsets=())
    held = listed(MINE, references=2, our_rules=1)
    assert told(nothing, seen(held), *files_of(WANTED)) == []
    judged = found(nothing, seen(held), *files_of(WANTED))
    assert judged.status is Status.FAIL
    assert judged.hint != APPLY
    ours = listed(MINE, references=1, our_rules=1)
    assert len(told(nothing, seen(ours), *files_of(WANTED))) == 2


def test_a_set_without_our_file_is_not_ours_to_remove() -> None:
    nothing = node(ipsets=())
    there = {SETS: Sets(there={"theirs": listed(MINE, name="theirs")}, unit="enabled")}
    assert told(nothing, there) == []


@pytest.mark.parametrize(
    ("unit", "run", "status", "hint"),
    [
        ("disabled", "if-present", Status.FAIL, APPLY),
        ("masked", "if-present", Status.FAIL, "systemctl unmask nodeprep-ipsets.service"),
        (None, "if-present", Status.FAIL, "init"),
        (None, "never", Status.SKIP, "init"),
    ],
)
def test_whether_it_is_loaded_at_boot_is_a_check(
    unit: str | None, run: str, status: Status, hint: str
) -> None:
    wished = node(ipsets=(MINE,), run=run)
    judged = found(wished, seen(listed(MINE), unit=unit), *files_of(wished), name="at boot")
    assert judged.status is status
    assert hint in judged.hint
    assert bool(told(wished, seen(listed(MINE), unit=unit), *files_of(wished))) is (hint == APPLY)


def test_beside_a_refused_script_nothing_is_done() -> None:
    theirs = FileState(path=SCRIPT, kind="regular", digest="0", real_parent="/etc/nodeprep")
    assert told(WANTED, {SETS: Sets(there={}, unit="")}, theirs) == []
    judged = found(WANTED, {SETS: Sets(there={}, unit="")}, theirs)
    assert judged.hint == f"see {SCRIPT} first"


def test_a_fleet_shares_one_value_of_a_large_file() -> None:
    again = IpSet(name="myset", entries=(*MINE.entries,))
    assert file_of(again) is file_of(MINE)
    first, second = (ipsets.changes(node(ipsets=(each,)), of())[2] for each in (MINE, again))
    assert first.action.parts[-1] is second.action.parts[-1]


# --- on a real kernel -----------------------------------------------------------------------


def right(inside: Namespace, wished: Node) -> set[str]:
    """Return the names of what is not as wanted; namespaces have no systemd."""
    return {f.name for f in inside.verify(wished, TOPICS) if f.status is Status.FAIL} - {"at boot"}


def summaries(inside: Namespace, wished: Node) -> list[str]:
    changes: tuple[Change, ...] = plan.changes(wished, inside.look(wished, TOPICS), TOPICS)
    return [change.summary for change in changes]


@NEEDS_ROOT
def test_apply_makes_the_sets_and_leaves_everything_foreign_as_it_was(
    inside_each: Namespace,
) -> None:
    inside_each.ask(FOREIGN)
    before = inside_each.ask(EVERYTHING_FOREIGN)
    wished = node(ipsets=(MINE, NETS), bypass_rules=(BypassRule(set="myset", comment="mine"),))
    inside_each.apply(wished, TOPICS)
    assert right(inside_each, wished) == set()
    assert summaries(inside_each, wished) == []
    assert inside_each.ask("ipset list -n | sort").split() == [
        *("list:mine", "myset", "nets", "theirs")
    ]
    assert inside_each.ask(EVERYTHING_FOREIGN) == before
    inside_each.apply(node(ipsets=(), bypass_rules=()), TOPICS)
    assert inside_each.ask(EVERYTHING_FOREIGN) == before
    assert inside_each.ask("ipset list -n | sort").split() == ["list:mine", "theirs"]
    assert inside_each.ask("find /etc/nodeprep -type f") == ""


@NEEDS_ROOT
def test_drift_is_told_with_examples_and_taken_back(inside_each: Namespace) -> None:
    inside_each.apply(WANTED, TOPICS)
    inside_each.ask("ipset del myset 192.168.1.1; ipset add myset 9.9.9.9; ipset add myset 8.8.8.8")
    judged = named(inside_each.verify(WANTED, TOPICS), "myset")
    assert judged.actual.startswith("3 entries, 2 too many, 1 missing: +8.8.8.8, +9.9.9.9, -192.")
    inside_each.apply(WANTED, TOPICS)
    assert right(inside_each, WANTED) == set()
    assert inside_each.ask("ipset list -n") == "myset\n"


@NEEDS_ROOT
def test_a_changed_parameter_is_swapped_in_below_a_rule(inside: Namespace) -> None:
    inside.apply(WANTED, TOPICS)
    inside.ask("iptables -A INPUT -m set --match-set myset src -j ACCEPT")
    larger = node(ipsets=(dataclasses.replace(MINE, maxelem=70000, timeout=60),))
    inside.apply(larger, TOPICS)
    assert right(inside, larger) == set()
    assert "myset src" in inside.ask("iptables-save")


@NEEDS_ROOT
def test_another_kind_follows_where_nothing_refers_to_the_set(inside: Namespace) -> None:
    inside.apply(WANTED, TOPICS)
    nets = node(ipsets=(dataclasses.replace(MINE, type="hash:net"),))
    inside.apply(nets, TOPICS)
    assert right(inside, nets) == set()
    inside.ask("iptables -A INPUT -m set --match-set myset src -j ACCEPT")
    assert summaries(inside, WANTED) == []
    assert right(inside, WANTED) >= {"myset"}
    said = inside.run(f"sh {SCRIPT} load myset; ipset list -n\n").decode()
    assert LOADING not in said


@NEEDS_ROOT
def test_what_others_add_for_a_time_is_theirs_and_is_carried_over(inside_each: Namespace) -> None:
    timed = dataclasses.replace(MINE, timeout=600)
    wished = node(ipsets=(timed,))
    inside_each.apply(wished, TOPICS)
    inside_each.ask("ipset add myset 9.9.9.9; ipset -exist add myset 192.168.1.1 timeout 300")
    judged = named(inside_each.verify(wished, TOPICS), "myset")
    assert "1 missing: -192.168.1.1" in judged.actual
    inside_each.apply(wished, TOPICS)
    assert right(inside_each, wished) == set()
    saved = inside_each.ask("ipset save myset")
    assert "192.168.1.1 timeout 0\n" in saved
    assert "9.9.9.9 timeout 5" in saved


@NEEDS_ROOT
def test_a_set_of_another_hand_is_taken_over_only_when_told(inside: Namespace) -> None:
    inside.ask("ipset create myset hash:ip; ipset add myset 192.0.2.1")
    before = inside.ask("ipset save myset")
    inside.apply(WANTED, TOPICS)
    assert inside.ask("ipset save myset") == before
    adopting = node(ipsets=(MINE,), adopt=True)
    inside.apply(adopting, TOPICS)
    assert right(inside, adopting) == set()
    assert right(inside, WANTED) == set()


@NEEDS_ROOT
def test_a_set_and_its_rules_go_together_and_the_rest_stays(inside_each: Namespace) -> None:
    both = node(
        ipsets=(MINE, NETS),
        bypass_rules=(
            BypassRule(set="myset", comment="myset"),
            BypassRule(set="nets", comment="nets", family=6),
        ),
    )
    inside_each.apply(both, TOPICS)
    one = node(ipsets=(NETS,), bypass_rules=(BypassRule(set="nets", comment="nets", family=6),))
    inside_each.apply(one, TOPICS)
    assert right(inside_each, one) == set()
    assert inside_each.ask("ipset list -n; iptables-save | grep -c myset || :") == "nets\n0\n"


@NEEDS_ROOT
def test_the_sets_alone_can_be_taken_away_and_their_rules_go_before_them(
    inside: Namespace,
) -> None:
    both = node(ipsets=(MINE,), bypass_rules=(BypassRule(set="myset", comment="myset"),))
    inside.apply(both, TOPICS)
    inside.apply(node(ipsets=()), (ipsets,))
    assert inside.ask("ipset list -n; iptables-save | grep -c myset || :") == "0\n"
    assert "myset" not in inside.ask(f"cat {bypass_rules.RECORD}")


@NEEDS_ROOT
def test_the_unit_loads_all_again_where_the_kernel_has_forgotten(inside_each: Namespace) -> None:
    wished = node(ipsets=(MINE, NETS))
    inside_each.apply(wished, TOPICS)
    inside_each.ask("ipset destroy; ipset create theirs hash:ip")
    inside_each.ask(f"sh {SCRIPT} load")
    assert right(inside_each, wished) == set()
    assert inside_each.ask("ipset list -n | sort").split() == ["myset", "nets", "theirs"]


@NEEDS_ROOT
def test_a_load_that_was_cut_short_leaves_the_set_as_it_was(inside: Namespace) -> None:
    inside.apply(WANTED, TOPICS)
    inside.ask(f"echo 'add myset nonsense' >>{FOLDER}/myset; ipset create {LOADING} hash:net")
    before = inside.ask("ipset save myset")
    said = inside.run(f"sh {SCRIPT} load myset; echo $?\n").decode()
    assert said.endswith("the ipset myset could not be loaded\n1\n")
    assert inside.ask("ipset save") == before


MANY = tuple(sorted(f"100.{64 + n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(65536)))


@NEEDS_ROOT
def test_65536_entries_go_over_in_one_script_and_come_back_as_a_digest(
    inside_each: Namespace,
) -> None:
    wished = node(ipsets=(IpSet(name="many", entries=MANY),))
    inside_each.apply(wished, TOPICS)
    output = inside_each.run(probe.script(wished, TOPICS, NONCE))
    assert len(output) < 20_000
    facts = probe.parse(output, wished, TOPICS, NONCE)
    judged = named(verify.findings(wished, facts, TOPICS), "many")
    assert (judged.status, judged.actual) == (Status.OK, "hash:ip inet, 65536 entries")
    assert inside_each.ask("ipset save many | grep -c '^add '") == "65536\n"


# Two addresses that are in each set, and a rule right behind ours that counts what it missed.
TRAFFIC = """\
import socket, sys, time
ways = []
for address in ("100.64.0.1", "100.64.255.254"):
    way = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    way.bind((address, 0))
    ways.append(way)
print("ready", flush=True)
while True:
    for way in ways:
        way.sendto(b"x", ("127.0.0.1", 9))
"""
COUNTING = """\
ip addr add 100.64.0.1/32 dev lo; ip addr add 100.64.255.254/32 dev lo
iptables -t raw -A PREROUTING -s 100.64.0.0/16 -m comment --comment missed
"""
COUNTS = "iptables -t raw -nvxL PREROUTING | awk '/match-set/ { print $1 } /missed/ { print $1 }'"


def counted(inside: Namespace) -> tuple[int, int]:
    """Return how many packets our rule took, and how many came past it."""
    took, missed = map(int, inside.ask(COUNTS).split())
    return took, missed


@NEEDS_ROOT
def test_under_load_65536_entries_are_swapped_and_no_packet_goes_the_wrong_way(
    inside: Namespace,
) -> None:
    def wished(*entries: str) -> Node:
        rule = BypassRule(set="many", comment="many", table="raw")
        return node(ipsets=(IpSet(name="many", entries=entries),), bypass_rules=(rule,))

    half = tuple(e for e in MANY if int(e.rpartition(".")[2]) in (1, 254))
    inside.ask(COUNTING)
    inside.apply(wished(*MANY), TOPICS)
    inside.ask("iptables -t raw -Z PREROUTING")
    sender = subprocess.Popen(
        (*inside.enter, sys.executable, "-c", TRAFFIC), stdout=subprocess.PIPE
    )
    try:
        assert sender.stdout
        assert sender.stdout.readline() == b"ready\n"
        for entries in (half, MANY, half, MANY):
            inside.apply(wished(*entries), TOPICS)
        took, missed = counted(inside)
        assert missed == 0
        assert took > 1000
        # So it is done without a swap, and seen to go wrong.
        inside.ask(f"ipset flush many; ipset -exist restore <{FOLDER}/many")
        assert counted(inside)[1] > 0
    finally:
        sender.kill()
        sender.communicate()


def test_shellcheck_finds_nothing_in_the_script() -> None:
    (script,) = [c for c in ipsets.changes(WANTED, of()) if c.subject == SCRIPT]
    text = script.action.parts[-1]
    assert isinstance(text, str)
    assert complaints(text[1:-1].replace("'\\''", "'")) == ""


def test_the_mark_stands_in_the_first_line_of_a_set() -> None:
    assert files.MARK in file_of(MINE).text.splitlines()[0]
