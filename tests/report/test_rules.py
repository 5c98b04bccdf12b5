"""Rules as a person sees them: what nodes share once, and nothing that a terminal obeys."""

from click import unstyle

from nodeprep.errors import Unreachable
from nodeprep.model import Change, Facts, Outcome
from nodeprep.report.rules import listed, meant
from nodeprep.ruleset import Query, Wanted, parse, removal
from tests.report.outcomes import NASTY, failed, node

MINE = "-m set --match-set a src -m comment --comment a -j RETURN"
ANSWER = f"@ nft 4\n*nat\n1:-A PREROUTING {MINE}\n7:-A OUTPUT -j THEIRS\n"


def answered(name: str, text: str) -> Outcome:
    facts = Facts({"rules": parse(text)})
    topic = removal(Wanted(query=Query(), comment="a"))
    changes: tuple[Change, ...] = topic.changes(node(name), facts)
    return Outcome(node=node(name), facts=facts, changes=changes)


def test_equal_nodes_are_told_once_with_the_numbers_of_each_chain() -> None:
    said = unstyle(listed([answered("n1", ANSWER), answered("n2", ANSWER), answered("n3", "")]))
    assert said.splitlines() == [
        "n[1-2]",
        "  nat PREROUTING (IPv4, nft backend)",
        f"        1  {MINE}",
        "  nat OUTPUT (IPv4, nft backend)",
        "        7  -j THEIRS",
        "n3",
        "  no such rule",
    ]


def test_what_could_not_be_read_or_told_is_said() -> None:
    said = unstyle(listed([answered("n1", f"@ legacy 6\n# unread\n{ANSWER}# cut\n")]))
    assert "  legacy 6: could not be read" in said
    assert "more than could be told" in said


def test_a_node_that_did_not_answer_is_named() -> None:
    said = unstyle(listed([failed("n1", Unreachable("no way", hint="look"))]))
    assert said.splitlines() == ["n1: Unreachable: no way", "          type: look"]


def test_what_would_go_is_told_once_for_equal_nodes() -> None:
    said = unstyle(meant([answered("n1", ANSWER), answered("n2", ANSWER), answered("n3", "")]))
    assert said.splitlines() == [
        "n[1-2]",
        f"  ~ remove rule 1 of nat PREROUTING (IPv4, nft backend): {MINE}",
    ]


def test_no_character_that_a_terminal_obeys_is_printed() -> None:
    hostile = answered("n1", f"@ nft 4\n*nat\n1:-A A -m comment --comment {NASTY.strip()} -j X\n")
    assert all(line.isprintable() for line in unstyle(listed([hostile])).splitlines())
