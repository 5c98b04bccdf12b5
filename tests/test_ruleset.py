"""Rules of a node as they are listed, and which of them are meant to go."""

import pytest

from nodeprep import frames, probe
from nodeprep.errors import UsageError
from nodeprep.model import BypassRule, Facts, Status
from nodeprep.ruleset import (
    MOST,
    Found,
    Listing,
    Query,
    Wanted,
    found,
    is_kube_proxys,
    is_put_back,
    parse,
    removal,
    specified,
)
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT
from tests.topics import node

RULES = """\
ipset create myset hash:ip
iptables -t nat -N THEIRS
iptables -t nat -A PREROUTING -j THEIRS
iptables -t nat -A PREROUTING -m set --match-set myset src -m comment --comment "my set" -j RETURN
iptables -t nat -A PREROUTING -m set --match-set myset dst -m comment --comment "my set" -j RETURN
iptables -t nat -A THEIRS -d 192.0.2.1/32 -j RETURN
iptables-legacy -A INPUT -s 192.0.2.6/32 -m comment --comment "my set" -j DROP
ip6tables -A INPUT -s fd00::/64 -j DROP
"""
NODE = node()


def look(inside: Namespace, query: Query) -> Found:
    return found(inside.look(NODE, (Listing(query=query),)))


def lines(told: Found) -> list[str]:
    return [f"{rule} {rule.number} {rule.text}" for rule in told.rules]


@pytest.fixture(scope="module")
def ruled(kernel: Namespace) -> Namespace:
    """The node with rules in both backends and both families."""
    kernel.ask(RULES)
    return kernel


# --- listing --------------------------------------------------------------------------------


@NEEDS_ROOT
def test_every_rule_is_told_with_its_backend_and_its_number(ruled: Namespace) -> None:
    mine = '-m set --match-set myset {} -m comment --comment "my set" -j RETURN'
    dropped = '-s 192.0.2.6/32 -m comment --comment "my set" -j DROP'
    assert lines(look(ruled, Query())) == [
        "nat PREROUTING (IPv4, nft backend) 1 -j THEIRS",
        f"nat PREROUTING (IPv4, nft backend) 2 {mine.format('src')}",
        f"nat PREROUTING (IPv4, nft backend) 3 {mine.format('dst')}",
        "nat THEIRS (IPv4, nft backend) 1 -d 192.0.2.1/32 -j RETURN",
        "filter INPUT (IPv6, nft backend) 1 -s fd00::/64 -j DROP",
        f"filter INPUT (IPv4, legacy backend) 1 {dropped}",
    ]


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (Query(table="nat", chain="PREROUTING"), [1, 2, 3]),
        (Query(table="nat", text="match-set myset dst"), [3]),
        (Query(chain="THEIRS"), [1]),
        (Query(text="no such text"), []),
        (Query(text="a'b\\n\"$(touch /run/canary)"), []),
    ],
)
def test_a_part_is_chosen_and_keeps_its_numbers(
    ruled: Namespace, query: Query, numbers: list[int]
) -> None:
    assert [rule.number for rule in look(ruled, query).rules] == numbers
    assert "canary" not in ruled.ask("ls /run")


@NEEDS_ROOT
def test_all_shells_tell_the_same(inside_each: Namespace) -> None:
    inside_each.ask(RULES)
    assert len(look(inside_each, Query()).rules) == 6


@NEEDS_ROOT
def test_more_rules_than_one_answer_holds_are_cut_and_said_so(inside: Namespace) -> None:
    rules = "".join(f"-A INPUT -s 10.{n // 256}.{n % 256}.0/24 -j ACCEPT\n" for n in range(20000))
    inside.ask(f"iptables-restore --noflush <<'END'\n*filter\n{rules}COMMIT\nEND\n")
    told = look(inside, Query())
    assert told.cut
    assert MOST < frames.CAP
    assert not look(inside, Query(text="10.9.9.0/24")).cut


def test_a_place_that_could_not_be_read_is_said() -> None:
    told = parse("@ nft 4\n# unread\n@ nft 6\n*nat\n1:-A OUTPUT -j THERE\n")
    assert told.unread == ("nft 4",)
    assert [str(rule) for rule in told.rules] == ["nat OUTPUT (IPv6, nft backend)"]


# --- choosing -------------------------------------------------------------------------------

SPECIFIED = 'PREROUTING -m set --match-set myset src -m comment --comment "my set" -j RETURN'


@pytest.mark.parametrize(
    "words",
    [
        [f"-t nat {SPECIFIED}"],
        [f"-t nat -A {SPECIFIED}"],
        ["-t", "nat", *SPECIFIED.replace('"', "").split()],
        ["--table", "nat", "-D", *SPECIFIED.replace('"', "").split()],
    ],
)
def test_a_rule_is_specified_in_one_word_or_in_many(words: list[str]) -> None:
    wanted = specified(words, Query())
    assert (wanted.query.table, wanted.query.chain) == ("nat", "PREROUTING")
    assert wanted.text == SPECIFIED.partition(" ")[2].replace('"', "")


@pytest.mark.parametrize("words", [["PREROUTING", "-j", "X"], ["-t"], ["-t", "nat"], ["-t nat A"]])
def test_a_rule_that_is_not_whole_is_a_wrong_word(words: list[str]) -> None:
    with pytest.raises(UsageError):
        specified(words, Query())


def test_a_word_that_has_no_end_is_a_wrong_word() -> None:
    with pytest.raises(UsageError):
        specified(['-t nat A "x'], Query())


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("1:-A KUBE-SERVICES -d 10.0.0.1/32 -j RETURN", True),
        ("1:-A PREROUTING -j KUBE-SERVICES", True),
        ('1:-A OUTPUT -m comment --comment "kubernetes health check rules" -j ACCEPT', True),
        ('1:-A OUTPUT -m comment --comment "not -j KUBE-X" -j ACCEPT', False),
        ("1:-A MY-KUBE -j RETURN", False),
    ],
)
def test_kube_proxys_rules_are_told_apart(text: str, *, theirs: bool) -> None:
    (rule,) = parse(f"@ nft 4\n*nat\n{text}\n").rules
    assert is_kube_proxys(rule) is theirs


def test_a_rule_that_the_inventory_wants_is_known() -> None:
    (rule,) = parse(f"@ nft 4\n*nat\n1:-A {SPECIFIED}\n").rules
    wishing = node(bypass_rules=(BypassRule(set="myset", comment="my set"),))
    assert is_put_back(wishing, rule)
    assert not is_put_back(NODE, rule)


# --- removing -------------------------------------------------------------------------------


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("wanted", "gone"),
    [
        (Wanted(query=Query(), comment="my set"), {"src", "dst", "192.0.2.6"}),
        (Wanted(query=Query(backend="legacy"), comment="my set"), {"192.0.2.6"}),
        (Wanted(query=Query(table="nat"), comment="my set"), {"src", "dst"}),
        (specified([f"-t nat {SPECIFIED}"], Query()), {"src"}),
        (Wanted(query=Query(family="6"), comment="my set"), set()),
        (Wanted(query=Query(), comment="my"), set()),
    ],
)
def test_just_what_is_meant_goes(inside: Namespace, wanted: Wanted, gone: set[str]) -> None:
    inside.ask(RULES)
    before = lines(look(inside, Query()))
    topic = removal(wanted)
    inside.apply(NODE, (topic,))
    after = {rule.text for rule in look(inside, Query()).rules}
    left = [line for line in before if not any(f" {part}" in line for part in gone)]
    assert len(after) == len(left)
    assert not any(f" {part}" in text for part in gone for text in after)


def test_what_is_still_there_is_a_failure() -> None:
    topic = removal(Wanted(query=Query(), comment="my set"))
    facts = Facts({"rules": parse(f"@ nft 4\n*nat\n1:-A {SPECIFIED}\n")})
    (finding,) = topic.findings(NODE, facts)
    assert finding.status is Status.FAIL
    assert [change.subject for change in topic.changes(NODE, facts)] == [finding.name]


def test_a_place_that_could_not_be_read_is_a_failure_too() -> None:
    topic = removal(Wanted(query=Query(), comment="my set"))
    facts = Facts({"rules": parse("@ nft 4\n# unread\n@ nft 6\n*nat\n")})
    (finding,) = topic.findings(NODE, facts)
    assert (finding.status, finding.name) == (Status.FAIL, "nft 4")
    assert topic.changes(NODE, facts) == ()


def test_a_node_is_asked_for_no_more_than_is_meant() -> None:
    script = probe.script(NODE, (removal(Wanted(query=Query(), comment="it's")),), "n").reveal()
    assert "text='' awk" in script
    plain = probe.script(NODE, (removal(Wanted(query=Query(), comment="my set")),), "n").reveal()
    assert "text='\"my set\"' awk" in plain


def test_a_listing_finds_nothing_wrong_and_changes_nothing() -> None:
    topic, facts = Listing(query=Query()), Facts({"rules": Found(rules=())})
    assert (topic.changes(NODE, facts), topic.findings(NODE, facts)) == ((), ())
    assert (topic.paths(NODE), topic.secrets(NODE)) == ((), ())
