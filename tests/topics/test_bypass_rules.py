"""Rules that match ipsets: found by their comment, in the right backend, ahead of kube-proxy's."""

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from nodeprep import chains, plan
from nodeprep.chains import text_of
from nodeprep.model import APPLY, BypassRule, FileState, Finding, IpSet, Node, Status
from nodeprep.topics import bypass_rules, ipsets
from nodeprep.topics.bypass_rules import PLACING, RECORD, SCRIPT, SEEN, UNITS, WATCHING, Seen
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT, complaints
from tests.topics import named, node, of

TOPICS = (ipsets, bypass_rules)
SETS = (IpSet(name="myset", entries=("192.168.1.1",)), IpSet(name="six", family="inet6"))
MINE = BypassRule(set="myset", comment="myset")
SIX = BypassRule(set="six", comment="six", family=6)
NAME = "nat PREROUTING myset"
WANTED = node(ipsets=SETS, bypass_rules=(MINE,))
NOTHING = node(ipsets=SETS, bypass_rules=())
JUMP = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
ENABLED = {PLACING: "enabled", WATCHING: "enabled"}
PATHS = (SCRIPT, RECORD, f"{UNITS}/{PLACING}", f"{UNITS}/{WATCHING}")
ELSEWHERE = "legacy 4 nat PREROUTING"


def seen(
    *texts: str, other: tuple[str, ...] = (), place: str = "nft 4 nat PREROUTING", **changed: Any
) -> Mapping[Any, object]:
    """Return what is in nat PREROUTING; ``other`` are the rules of the legacy backend."""
    found = tuple(chain(at, *rules) for at, rules in ((place, texts), (ELSEWHERE, other)))
    known = {"own": "nft", "chains": found, "units": ENABLED}
    return {SEEN: Seen(**{**known, **changed})}


def chain(place: str, *texts: str) -> chains.Chain:
    name = place.rpartition(" ")[2]
    lines = (f"{number}:-A {name} {text}" for number, text in enumerate(texts, 1))
    return chains.read("\n".join((f"chain {place}", *lines)))


def recorded(*rules: BypassRule) -> tuple[FileState, ...]:
    """Return our files as they are where these rules are on record."""
    wished = node(ipsets=SETS, bypass_rules=rules or (MINE,))
    written = {c.subject: c for c in bypass_rules.changes(wished, of(seen())) if c.guard}
    states = []
    for path, change in written.items():
        _, _, _, digest, content = change.action.reveal().split(" ", 4)
        text = content[1:-1].replace("'\\''", "'")
        states.append(
            FileState(
                path=path,
                kind="regular",
                mode=0o644,
                digest=digest,
                content=text.encode(),
                real_parent=path.rpartition("/")[0],
                ours=True,
            )
        )
    return tuple(states)


def told(wished: Node, values: Mapping[Any, object], *states: FileState) -> list[str]:
    return [change.summary for change in bypass_rules.changes(wished, of(values, *states))]


def judged(
    wished: Node, values: Mapping[Any, object], *states: FileState, name: str = NAME
) -> Finding:
    return named(bypass_rules.findings(wished, of(values, *states)), name)


# --- planning and judging -------------------------------------------------------------------


def test_a_fresh_node_gets_the_files_the_units_and_the_rule() -> None:
    units = {PLACING: "", WATCHING: ""}
    assert told(WANTED, seen(units=units)) == [
        *(f"write {path}" for path in PATHS),
        f"enable {PLACING} and {WATCHING}",
        "put the bypass rules in place",
    ]


def test_a_node_without_iptables_yet_is_planned_as_one_with_it() -> None:
    assert "put the bypass rules in place" in told(WANTED, seen(own=None))


def test_a_node_that_has_it_all_gets_nothing() -> None:
    values = seen(text_of(MINE), JUMP)
    assert told(WANTED, values, *recorded()) == []
    findings = bypass_rules.findings(WANTED, of(values, *recorded()))
    assert {finding.status for finding in findings} == {Status.OK}
    assert judged(WANTED, values, *recorded()).actual == "rule 1 (IPv4, nft backend)"


@pytest.mark.parametrize(
    ("texts", "actual"),
    [
        ((JUMP, text_of(MINE)), "behind kube-proxy's jump, rule 1"),
        ((text_of(MINE), text_of(MINE)), "there are 2 of it"),
        ((text_of(MINE).replace("RETURN", "ACCEPT"),), "it says"),
        ((JUMP,), "not there"),
    ],
)
def test_what_is_wrong_is_told_and_put_right(texts: tuple[str, ...], actual: str) -> None:
    found = judged(WANTED, seen(*texts), *recorded())
    assert (found.status, found.hint) == (Status.FAIL, APPLY)
    assert actual in found.actual
    assert told(WANTED, seen(*texts), *recorded()) == ["put the bypass rules in place"]


def test_while_the_order_is_looked_after_a_jump_in_front_is_a_matter_of_time() -> None:
    values = seen(JUMP, text_of(MINE), watching=True)
    found = judged(WANTED, values, *recorded())
    assert (found.status, found.hint) == (Status.WARN, f"wait: {WATCHING} runs, and will move it")
    assert told(WANTED, values, *recorded()) == []
    assert judged(WANTED, seen(JUMP, watching=True), *recorded()).status is Status.FAIL


def test_it_goes_where_kube_proxys_jumps_are_and_leaves_the_other_backend() -> None:
    values = seen(text_of(MINE), other=(JUMP,))
    assert "not there" in judged(WANTED, values, *recorded()).actual
    assert told(WANTED, values, *recorded()) == [
        f"rewrite {RECORD}",
        "put the bypass rules in place",
        f"remove rule 1 of nat PREROUTING (IPv4, nft backend): {text_of(MINE)}",
    ]


def test_with_jumps_in_both_backends_it_goes_where_plain_iptables_writes() -> None:
    assert told(WANTED, seen(text_of(MINE), JUMP, other=(JUMP,)), *recorded()) == []


def test_a_rule_of_ours_in_the_backend_that_is_not_used_is_a_finding() -> None:
    values = seen(text_of(MINE), other=(text_of(MINE),))
    found = bypass_rules.findings(WANTED, of(values, *recorded()))
    (stray,) = [f for f in found if f.status is Status.FAIL]
    assert (stray.name, stray.hint) == (f"{NAME}, legacy backend", APPLY)
    assert "legacy backend" in stray.actual
    assert told(WANTED, values, *recorded()) == [
        f"remove rule 1 of nat PREROUTING (IPv4, legacy backend): {text_of(MINE)}"
    ]


def test_another_hands_rule_of_that_comment_there_is_only_told() -> None:
    values = seen(other=(text_of(MINE),))
    found = bypass_rules.findings(WANTED, of(values))
    (double,) = [f for f in found if f.status is Status.WARN]
    assert "is not nodeprep's" in double.actual
    assert not any("remove" in summary for summary in told(WANTED, values))


def test_another_hands_rule_of_that_comment_is_refused_until_adopted() -> None:
    values = seen(text_of(MINE).replace("RETURN", "ACCEPT"))
    found = judged(WANTED, values)
    assert (found.status, found.actual) == (
        Status.FAIL,
        "another hand made a rule with this comment",
    )
    assert "adopt: true" in found.hint
    assert "put the bypass rules in place" not in told(WANTED, values)
    adopting = node(ipsets=SETS, bypass_rules=(MINE,), adopt=True)
    assert "put the bypass rules in place" in told(adopting, values)


def test_a_rule_that_is_refused_is_not_on_the_record_that_boots() -> None:
    values = seen(text_of(MINE))
    (record,) = [c for c in bypass_rules.changes(WANTED, of(values)) if c.subject == RECORD]
    assert "match-set" not in record.action.reveal()


def test_no_rule_is_made_for_a_set_of_another_hand() -> None:
    values = seen(foreign_sets=("myset",))
    assert judged(WANTED, values).actual == "another hand made the ipset myset"
    assert "put the bypass rules in place" not in told(WANTED, values)


BUSY = "Another app is currently holding the xtables lock."


def unread(place: str = ELSEWHERE) -> chains.Chain:
    return chains.read(f"unread {place}\n{BUSY}\n")


@pytest.mark.parametrize("place", [ELSEWHERE, "nft 4 nat PREROUTING"])
def test_beside_a_chain_that_could_not_be_read_nothing_is_done_and_nothing_judged(
    place: str,
) -> None:
    values = seen(chains=(chain("nft 4 nat PREROUTING"), unread(place)))
    for wished, states in ((WANTED, ()), (WANTED, recorded()), (NOTHING, recorded())):
        assert told(wished, values, *states) == []
        (found,) = bypass_rules.findings(wished, of(values, *states))
        assert (found.status, found.actual) == (Status.FAIL, f"could not be read: {BUSY}")
        assert found.name.startswith("nat PREROUTING (IPv4, ")
        assert found.hint != APPLY


def test_where_no_rule_is_wanted_and_none_on_record_a_chain_may_be_unread() -> None:
    values = seen(chains=(unread(),))
    assert told(NOTHING, values) == []
    assert bypass_rules.findings(NOTHING, of(values)) == ()


def test_a_chain_that_is_not_there_is_said_and_the_rest_goes_on() -> None:
    theirs = dataclasses.replace(MINE, chain="THEIRS")
    wished = node(ipsets=SETS, bypass_rules=(MINE, theirs))
    values = seen(text_of(MINE))
    found = judged(wished, values, *recorded(MINE, theirs), name="nat THEIRS myset")
    assert (found.status, found.actual) == (Status.FAIL, "there is no chain THEIRS")
    assert found.hint != APPLY
    assert told(wished, values, *recorded(MINE, theirs)) == []


def test_what_is_not_wanted_any_more_leaves_the_kernel_before_it_leaves_the_record() -> None:
    other = BypassRule(set="myset", comment="other")
    wished = node(ipsets=SETS, bypass_rules=(other,))
    assert told(wished, seen(text_of(MINE)), *recorded()) == [
        f"remove rule 1 of nat PREROUTING (IPv4, nft backend): {text_of(MINE)}",
        f"rewrite {RECORD}",
        "put the bypass rules in place",
    ]


def test_with_no_rule_wanted_ours_go_and_what_put_them_in_place_too() -> None:
    assert told(NOTHING, seen(text_of(MINE)), *recorded()) == [
        f"remove rule 1 of nat PREROUTING (IPv4, nft backend): {text_of(MINE)}",
        f"remove {PLACING} and {WATCHING}, which have no rule left",
    ]
    assert told(NOTHING, seen()) == []


def test_without_a_record_no_rule_is_ours_to_remove() -> None:
    assert told(NOTHING, seen(text_of(MINE))) == []


@pytest.mark.parametrize(
    ("units", "run", "status", "hint"),
    [
        ({PLACING: "enabled", WATCHING: "disabled"}, "if-present", Status.FAIL, APPLY),
        (
            {PLACING: "masked", WATCHING: "enabled"},
            *("if-present", Status.FAIL, f"systemctl unmask {PLACING}"),
        ),
        ({}, "if-present", Status.FAIL, "init"),
        ({}, "never", Status.SKIP, "init"),
    ],
)
def test_whether_it_is_in_place_after_a_boot_is_a_check(
    units: Mapping[str, str], run: str, status: Status, hint: str
) -> None:
    wished = node(ipsets=SETS, bypass_rules=(MINE,), run=run)
    found = judged(wished, seen(text_of(MINE), units=units), *recorded(), name="at boot")
    assert found.status is status
    assert hint in found.hint
    changes = told(wished, seen(text_of(MINE), units=units), *recorded())
    assert bool(changes) is (hint == APPLY)


def test_that_nftables_mode_is_not_skipped_is_said() -> None:
    wished = node(ipsets=SETS, bypass_rules=(MINE,), mode="nftables")
    found = judged(wished, seen(text_of(MINE)), name=f"{NAME}: effect")
    assert found.status is Status.WARN
    assert not any(f.name.endswith("effect") for f in bypass_rules.findings(WANTED, of(seen())))


def test_beside_a_refused_file_nothing_is_done() -> None:
    theirs = FileState(path=SCRIPT, kind="regular", digest="0", real_parent="/etc/nodeprep")
    assert told(WANTED, seen(), theirs) == []
    assert judged(WANTED, seen(), theirs).hint == f"see {SCRIPT} first"


# --- on a real kernel -----------------------------------------------------------------------

FOREIGN = """\
ipset create theirs hash:ip
iptables -t nat -N THEIRS; iptables -t nat -A PREROUTING -j THEIRS
iptables -t nat -A PREROUTING -m set --match-set theirs src -m comment --comment theirs -j RETURN
iptables -t nat -A THEIRS -m set --match-set theirs src -m comment --comment myset -j RETURN
iptables-legacy -A INPUT -s 192.0.2.9 -m comment --comment myset -j DROP
ip6tables -t mangle -A INPUT -s fd00::/64 -j MARK --set-mark 1
"""
SAVED = "{ iptables-save; iptables-legacy-save; ip6tables-save; } | grep -e ^-A -e '^:[A-Z]* - '"
START_OF_KUBE_PROXY = f"""\
iptables -t nat -N KUBE-SERVICES
iptables -t nat -I PREROUTING {JUMP}
"""
BOTH = node(ipsets=SETS, bypass_rules=(MINE, SIX))


def wrong(inside: Namespace, wished: Node) -> dict[str, str]:
    """Return what is not as wanted; namespaces have no systemd."""
    found = {f.name: f.actual for f in inside.verify(wished, TOPICS) if f.status is Status.FAIL}
    return {name: actual for name, actual in found.items() if name != "at boot"}


def place_of_ours(inside: Namespace, of_backend: str = "iptables") -> list[str]:
    """Return comments and targets of a chain, in its order."""
    rules = inside.ask(f"{of_backend} -t nat -S PREROUTING | grep '^-A' || :").splitlines()
    return [line.rpartition("--comment ")[2] for line in rules]


@NEEDS_ROOT
def test_apply_makes_the_rules_and_leaves_everything_foreign_as_it_was(
    inside_each: Namespace,
) -> None:
    inside_each.ask(FOREIGN)
    before = inside_each.ask(SAVED)
    inside_each.apply(BOTH, TOPICS)
    assert wrong(inside_each, BOTH) == {}
    assert plan.changes(BOTH, inside_each.look(BOTH, TOPICS), TOPICS) == ()
    ours = {f"-A PREROUTING {text_of(rule)}" for rule in (MINE, SIX)}
    lines = inside_each.ask(SAVED).splitlines()
    assert ours < set(lines)
    assert [line for line in lines if line not in ours] == before.splitlines()
    inside_each.apply(node(ipsets=(), bypass_rules=()), TOPICS)
    assert inside_each.ask(SAVED) == before


@NEEDS_ROOT
def test_a_rule_that_kube_proxy_got_ahead_of_is_moved_in_front(inside_each: Namespace) -> None:
    inside_each.apply(BOTH, TOPICS)
    inside_each.ask(START_OF_KUBE_PROXY)
    assert "behind kube-proxy's jump, rule 1" in wrong(inside_each, BOTH)[NAME]
    inside_each.apply(BOTH, TOPICS)
    assert wrong(inside_each, BOTH) == {}
    assert place_of_ours(inside_each)[0] == "myset -j RETURN"


@NEEDS_ROOT
def test_the_watch_moves_it_by_itself_and_ends(inside: Namespace) -> None:
    inside.apply(BOTH, TOPICS)
    inside.ask("mkdir /run/bin; printf '#!/bin/sh\\nexec /bin/sleep 0.1\\n' >/run/bin/sleep")
    inside.ask("chmod +x /run/bin/sleep")
    # Its own PATH is fixed: a quicker sleep is put in front of it.
    inside.ask(f"sed 's,^PATH=,&/run/bin:,' {SCRIPT} >/run/watch.sh")
    inside.ask(
        "sh /run/watch.sh watch >/run/said & sleep 1; "
        f"{START_OF_KUBE_PROXY} wait; test -s /run/said"
    )
    assert wrong(inside, BOTH) == {}
    assert place_of_ours(inside)[0] == "myset -j RETURN"


@NEEDS_ROOT
def test_a_chain_that_could_not_be_read_is_not_taken_for_one_that_is_not_there(
    inside: Namespace,
) -> None:
    inside.apply(BOTH, TOPICS)
    for name in ("iptables-nft", "iptables", "iptables-legacy"):
        inside.ask(f"mkdir -p /run/bin; printf '#!/bin/sh\\nexit 4\\n' >/run/bin/{name}")
    inside.ask("chmod +x /run/bin/*")
    inside.ask(f"sed 's,^PATH=,&/run/bin:,' {SCRIPT} >/run/busy.sh; cp {RECORD} /run/before")
    for verb in ("place", "forget myset"):
        said = inside.run(f"sh /run/busy.sh {verb} || echo failed\n").decode()
        assert "the rules of nat PREROUTING (IPv4) could not be read" in said
        assert said.endswith("failed\n")
    inside.ask(f"cmp {RECORD} /run/before")


LOCKED = "exec 9>/run/xtables.lock; flock 9; echo held >/run/held; exec sleep 60"


@contextlib.contextmanager
def xtables_lock(inside: Namespace) -> Iterator[None]:
    """Hold the lock that the legacy programs wait for, as a long iptables-restore does."""
    holder = subprocess.Popen((*inside.enter, "sh", "-c", LOCKED))
    try:
        inside.ask("until [ -e /run/held ]; do sleep 0.05; done")
        yield
    finally:
        holder.kill()
        holder.wait()


@NEEDS_ROOT
def test_while_another_program_holds_the_lock_nothing_is_said_of_its_chains(
    inside: Namespace,
) -> None:
    inside.ask(f"{FOREIGN}{START_OF_KUBE_PROXY.replace('iptables', 'iptables-legacy')}")
    inside.apply(WANTED, TOPICS)
    before = inside.ask(f"{SAVED}; cat {RECORD}")
    with xtables_lock(inside):
        for wished in (WANTED, node(ipsets=SETS, bypass_rules=())):
            seen_now = inside.look(wished, TOPICS)
            assert plan.changes(wished, seen_now, (bypass_rules,)) == ()
            (found,) = bypass_rules.findings(wished, seen_now)
            assert found.name == "nat PREROUTING (IPv4, legacy backend)"
            assert "could not be read: Another app is currently holding" in found.actual
    assert inside.ask(f"{SAVED}; cat {RECORD}") == before
    assert wrong(inside, WANTED) == {}


@NEEDS_ROOT
def test_a_lock_that_is_let_go_in_time_is_waited_for(inside: Namespace) -> None:
    inside.ask("iptables-legacy -t nat -S >/run/legacy")
    inside.apply(WANTED, TOPICS)
    inside.ask(
        f"({LOCKED.replace('60', '1')}) >/run/said 2>&1 & until [ -e /run/held ]; do :; done"
    )
    assert wrong(inside, WANTED) == {}


@NEEDS_ROOT
def test_a_chain_that_nft_made_its_own_is_not_taken_for_one_that_is_not_there(
    inside_each: Namespace,
) -> None:
    inside_each.ask("iptables -t nat -A PREROUTING -s 192.0.2.9 -j RETURN")
    inside_each.ask("nft add rule ip nat PREROUTING quota over 1 mbytes dnat to 192.0.2.1")
    theirs = node(ipsets=SETS, bypass_rules=(MINE, dataclasses.replace(MINE, chain="THEIRS")))
    found = bypass_rules.findings(theirs, inside_each.look(theirs, TOPICS))
    assert {f.name for f in found} == {
        f"nat {c} (IPv4, nft backend)" for c in ("PREROUTING", "THEIRS")
    }
    assert all("incompatible" in f.actual for f in found)


@NEEDS_ROOT
def test_a_chain_that_is_not_there_is_no_chain_that_could_not_be_read(
    inside_each: Namespace,
) -> None:
    inside_each.ask("iptables-legacy -t nat -S >/run/legacy")
    theirs = node(ipsets=SETS, bypass_rules=(dataclasses.replace(MINE, chain="THEIRS"),))
    found = {chain.name: chain for chain in inside_each.look(theirs, TOPICS)[SEEN].chains}
    assert (found["THEIRS"].exists, found["THEIRS"].unread) == (False, "")


@NEEDS_ROOT
def test_a_kernel_without_nf_tables_has_no_chain_there(inside: Namespace) -> None:
    inside.ask("iptables-legacy -t nat -S >/run/legacy; mkdir /run/bin")
    said = "iptables v1.8.7 (nf_tables): Could not fetch rule set generation id: Invalid argument"
    for name in ("iptables-nft", "ip6tables-nft"):
        inside.ask(f"printf '#!/bin/sh\necho \"{said}\" >&2; exit 4\n' >/run/bin/{name}")
    inside.ask("chmod +x /run/bin/*")
    script = f"PATH=/run/bin:$PATH\n{SEEN.script(WANTED)}"
    found = SEEN.parse(inside.run(script).decode())
    assert [(c.backend, c.exists, c.unread) for c in found.chains] == [
        ("nft", False, ""),
        ("legacy", True, ""),
    ]


@NEEDS_ROOT
def test_where_kube_proxy_is_in_the_legacy_tables_the_rules_are_too(inside: Namespace) -> None:
    inside.apply(WANTED, TOPICS)
    inside.ask(START_OF_KUBE_PROXY.replace("iptables", "iptables-legacy"))
    inside.apply(WANTED, TOPICS)
    assert wrong(inside, WANTED) == {}
    assert place_of_ours(inside, "iptables-legacy")[0] == "myset -j RETURN"
    assert place_of_ours(inside) == []


@NEEDS_ROOT
def test_after_a_boot_the_units_script_puts_all_back(inside_each: Namespace) -> None:
    inside_each.ask(FOREIGN)
    inside_each.apply(BOTH, TOPICS)
    inside_each.ask("iptables -t nat -F PREROUTING; ip6tables -t nat -F; ipset destroy myset")
    said = inside_each.ask(f"sh {ipsets.SCRIPT} load; sh {SCRIPT} place")
    assert "changed the rules of nat PREROUTING (IPv4)" in said
    assert wrong(inside_each, BOTH) == {}


@NEEDS_ROOT
def test_one_missing_set_keeps_no_other_rule_away(inside: Namespace) -> None:
    second = (IpSet(name="b"), BypassRule(set="b", comment="b"))
    wished = node(ipsets=(*SETS, second[0]), bypass_rules=(MINE, second[1]))
    inside.apply(wished, TOPICS)
    inside.ask("iptables -t nat -F PREROUTING; ipset destroy myset")
    inside.ask(f"sh {SCRIPT} place")
    assert place_of_ours(inside) == ["b -j RETURN"]


@NEEDS_ROOT
def test_a_changed_rule_is_replaced_in_one_transaction(inside: Namespace) -> None:
    inside.apply(WANTED, TOPICS)
    other = dataclasses.replace(MINE, target="ACCEPT", match="dst")
    wished = node(ipsets=SETS, bypass_rules=(other,))
    # What the script hands to iptables is written down on its way.
    inside.ask(
        "mkdir /run/bin; cat >/run/bin/iptables-restore <<'END'\n"
        '#!/bin/sh\ntee -a /run/restored | /usr/sbin/iptables-nft-restore "$@"\nEND\n'
        f"chmod +x /run/bin/iptables-restore; sed -i 's,^PATH=,&/run/bin:,' {SCRIPT}"
    )
    inside.ask(
        f"sed -i 's/ src -m/ dst -m/; s/RETURN/ACCEPT/' {RECORD}; sh {SCRIPT} place; "
        f"! sh {SCRIPT} place | grep ."
    )
    said = inside.ask("cat /run/restored").splitlines()
    assert said == [
        "*nat",
        f"-D PREROUTING {text_of(MINE)}",
        f"-I PREROUTING 1 {text_of(other)}",
        "COMMIT",
    ]
    assert named(inside.verify(wished, TOPICS), NAME).status is Status.OK


def test_shellcheck_finds_nothing_in_the_script() -> None:
    (script,) = [c for c in bypass_rules.changes(WANTED, of()) if c.subject == SCRIPT]
    text = script.action.parts[-1]
    assert isinstance(text, str)
    assert complaints(text[1:-1].replace("'\\''", "'")) == ""
