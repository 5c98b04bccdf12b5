"""How a rule of ours stands in its chain; and that the node's own script sees the same.

What is right is decided twice: here, for plan and verify, and on the node at boot, where nobody
else is. A real chain in any order shows that both decide alike.
"""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeprep import chains, files
from nodeprep.chains import key_of, text_of, verdict
from nodeprep.model import APPLY, BypassRule, Status
from nodeprep.topics import bypass_rules
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT
from tests.topics import node, of

FIRST = BypassRule(set="a", comment="first")
SECOND = BypassRule(set="b", comment="second", target="ACCEPT")
LAST = BypassRule(set="a", comment="the last", position="last")
JUMP = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
THEIRS = "-s 192.0.2.0/24 -j RETURN"


def chain(*texts: str) -> chains.Chain:
    lines = (f"{number}:-A PREROUTING {text}" for number, text in enumerate(texts, 1))
    return chains.read("\n".join(("chain nft 4 nat PREROUTING", *lines)))


def judged(rule: BypassRule, *texts: str, beside: Sequence[BypassRule] = ()) -> tuple[Status, str]:
    told = verdict(rule, beside or [rule], chain(*texts))
    assert (told.hint == APPLY) is (told.status is Status.FAIL)
    return told.status, told.actual.rpartition(": ")[2]


def test_a_rule_ahead_of_kube_proxys_jump_is_right() -> None:
    assert judged(FIRST, THEIRS, text_of(FIRST), JUMP) == (Status.OK, "rule 2 (IPv4, nft backend)")


def test_where_kube_proxy_has_no_jump_any_place_is_right() -> None:
    assert judged(FIRST, text_of(FIRST))[0] is Status.OK
    assert judged(LAST, text_of(LAST))[0] is Status.OK


@pytest.mark.parametrize(
    ("rule", "texts", "told"),
    [
        (FIRST, (), "not there"),
        (FIRST, (text_of(FIRST),) * 2, "there are 2 of it"),
        (FIRST, (text_of(FIRST).replace(" src", " dst"),), "it says -m set --match-set a dst"),
        (FIRST, (JUMP, text_of(FIRST)), "behind kube-proxy's jump, rule 1"),
        (LAST, (text_of(LAST), THEIRS, JUMP), "ahead of kube-proxy's jump, rule 3"),
        (LAST, (JUMP, text_of(LAST), JUMP), "ahead of kube-proxy's jump, rule 3"),
    ],
)
def test_what_is_wrong_is_said(rule: BypassRule, texts: tuple[str, ...], told: str) -> None:
    status, actual = judged(rule, *texts)
    assert status is Status.FAIL
    assert actual.startswith(told)


def test_rules_stand_in_the_order_of_the_inventory() -> None:
    beside = [FIRST, SECOND]
    right = text_of(FIRST), text_of(SECOND)
    assert judged(FIRST, *right, beside=beside)[0] is Status.OK
    told = judged(FIRST, *reversed(right), beside=beside)
    assert told == (Status.FAIL, "not in the order of the inventory")


def test_a_chain_that_is_not_there_is_for_somebody_else_to_make() -> None:
    absent = chains.read("absent nft 4 nat THEIRS\n")
    told = verdict(dataclasses.replace(FIRST, chain="THEIRS"), [FIRST], absent)
    assert told.status is Status.FAIL
    assert told.hint != APPLY


@pytest.mark.parametrize("said", ["Another app is holding: the lock.", ""])
def test_a_chain_that_could_not_be_read_is_neither_there_nor_not(said: str) -> None:
    unread = chains.read(f"unread legacy 6 nat PREROUTING\n{said}\n")
    assert unread.unread == (said or "iptables gave no reason")
    assert (unread.exists, unread.rules, unread.jumps) == (True, (), ())
    assert chain(JUMP).unread == ""


def test_only_its_place_beside_kube_proxys_jump_may_be_a_matter_of_time() -> None:
    assert verdict(FIRST, [FIRST], chain(JUMP, text_of(FIRST))).beside_jump
    assert not verdict(FIRST, [FIRST], chain(JUMP)).beside_jump


def test_a_rule_of_others_with_that_comment_but_no_set_is_not_taken_for_ours() -> None:
    seen = chain("-m comment --comment first -j ACCEPT")
    assert seen.rules == ()
    assert verdict(FIRST, [FIRST], seen).actual == "not there"


# --- the node decides alike -----------------------------------------------------------------

RULES = (FIRST, SECOND, LAST)
TEXTS = st.sampled_from(
    [
        *(text_of(rule) for rule in RULES),
        text_of(FIRST).replace("RETURN", "ACCEPT"),
        JUMP,
        THEIRS,
        "-m set --match-set b src -m comment --comment theirs -j RETURN",
        '-m comment --comment "a -j KUBE-SERVICES" -j ACCEPT',
    ]
)
LISTING = "iptables -t nat -S PREROUTING | grep '^-A' | grep -n -e '--match-set' -e 'KUBE-'"


@pytest.fixture(scope="module")
def prepared(kernel: Namespace) -> Namespace:
    """The node with our script and a record of all three rules."""
    wanted = node(ipsets=(), bypass_rules=RULES)
    record = {change.subject: change for change in bypass_rules.changes(wanted, of())}
    head = f"run=r1\nstate=/run/state\n{files.PUT}\n"
    for path in (bypass_rules.SCRIPT, bypass_rules.RECORD):
        assert kernel.run(head + record[path].action.reveal() + "\n") == b""
    kernel.ask("ipset create a hash:ip; ipset create b hash:ip; iptables -t nat -N KUBE-SERVICES")
    return kernel


@NEEDS_ROOT
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(texts=st.lists(TEXTS, max_size=6))
def test_the_nodes_own_script_finds_right_what_we_do_and_mends_the_rest(
    prepared: Namespace, texts: list[str]
) -> None:
    lines = "\n".join(f"-A PREROUTING {text}" for text in texts)
    restored = f"*nat\n-F PREROUTING\n{lines}\nCOMMIT\n"
    prepared.ask(f"iptables-restore --noflush <<'END'\n{restored}END\n")
    before = read(prepared)
    said = prepared.ask(f"sh {bypass_rules.SCRIPT} place")
    right = all(verdict(rule, RULES, before).status is Status.OK for rule in RULES)
    assert (said == "") is right
    after = read(prepared)
    assert {verdict(rule, RULES, after).status for rule in RULES} == {Status.OK}
    assert others(prepared) == [text for text in texts if text in THEIR_TEXTS]


THEIR_TEXTS = (
    JUMP,
    THEIRS,
    "-m set --match-set b src -m comment --comment theirs -j RETURN",
    '-m comment --comment "a -j KUBE-SERVICES" -j ACCEPT',
)


def read(kernel: Namespace) -> chains.Chain:
    listing = kernel.ask(f"{LISTING} || :")
    return chains.read(f"chain nft 4 nat PREROUTING\n{listing}")


def others(kernel: Namespace) -> list[str]:
    """Return the rules that are not ours, in their order."""
    listing = kernel.ask("iptables -t nat -S PREROUTING | grep '^-A' || :").splitlines()
    texts = [line.removeprefix("-A PREROUTING ") for line in listing]
    return [text for text in texts if text in THEIR_TEXTS]


def test_a_rule_is_known_by_its_comment_within_its_chain() -> None:
    assert key_of(FIRST) == (4, "nat", "PREROUTING", "first")
