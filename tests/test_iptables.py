"""iptables on a node: what is read of a rule, and that a removal removes just that rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.inventory.schema import BypassRuleEntry
from nodeprep.iptables import BUILT_IN, LOOKING, Rule, comment_of, is_same, quoted, removal
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT, complaints

OURS = '-m set --match-set a src -m comment --comment "my a" -j RETURN'


def rule(text: str = OURS, **place: object) -> Rule:
    every = {"backend": "nft", "family": 4, "table": "nat", "chain": "PREROUTING", "number": 1}
    return Rule(**{**every, **place}, text=text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "comment", "target"),
    [
        (OURS, "my a", "RETURN"),
        ("-m comment --comment plain -j KUBE-SERVICES", "plain", "KUBE-SERVICES"),
        ('-m comment --comment "a -j DROP" -g THERE', "a -j DROP", "THERE"),
        (r'-m comment --comment "a \"quoted\" one" -j RETURN', 'a "quoted" one', "RETURN"),
        ('-m comment --comment "ends with -j KUBE"', "ends with -j KUBE", ""),
        ("-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1", "", ""),
        ("-s 10.0.0.0/8", "", ""),
    ],
)
def test_comment_and_target_are_read_from_a_rule(text: str, comment: str, target: str) -> None:
    assert (rule(text).comment, rule(text).target) == (comment, target)


def test_a_rule_says_where_it_stands() -> None:
    assert str(rule(family=6, backend="legacy")) == "nat PREROUTING (IPv6, legacy backend)"


def test_a_comment_in_quotes_is_the_same_without() -> None:
    assert is_same('--comment "a-b" -j RETURN', "--comment a-b -j RETURN")
    assert not is_same("--comment a -j RETURN", "--comment b -j RETURN")


def test_the_tables_that_an_inventory_may_name_are_known() -> None:
    said = BypassRuleEntry.model_json_schema()["properties"]["table"]["enum"]
    assert said == list(BUILT_IN)


def test_shellcheck_finds_nothing_in_what_looks() -> None:
    assert (
        complaints(f"#!/bin/sh\n{LOOKING}\nsaved_rules nft 4\nrules_program iptables nft\n") == ""
    )


@given(st.from_regex(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:/@+,=-]| (?=[A-Za-z0-9_]))*", fullmatch=True))
def test_any_comment_of_an_inventory_is_read_back(comment: str) -> None:
    assert comment_of(f"-m comment --comment {quoted(comment)} -j RETURN") == comment


# --- on a node ------------------------------------------------------------------------------

SETUP = """\
ipset create a hash:ip; ipset create b hash:ip
iptables -t nat -N THEIRS
iptables -t nat -A PREROUTING -j THEIRS
iptables -t nat -A PREROUTING -m set --match-set b src -m comment --comment "my b" -j RETURN
iptables -t nat -A PREROUTING -m set --match-set a src -m comment --comment "my a" -j RETURN
iptables-legacy -t nat -A PREROUTING -m set --match-set a src -m comment --comment "my a" -j RETURN
ip6tables -t filter -A INPUT -s fd00::/64 -j DROP
"""


@NEEDS_ROOT
def test_it_is_quoted_as_iptables_prints_it(kernel: Namespace) -> None:
    kernel.ask("iptables -N QUOTES")
    for comment in ("plain", "a-b_c", "a.b", "a b", "a:b", "a/b@c+d,e=f"):
        kernel.ask(f"iptables -A QUOTES -m comment --comment '{comment}' -j RETURN")
        told = kernel.ask("iptables -S QUOTES; iptables -F QUOTES").splitlines()[-1]
        assert f" --comment {quoted(comment)} -j" in told


@NEEDS_ROOT
def test_a_removal_takes_one_rule_and_leaves_every_other(inside_each: Namespace) -> None:
    inside_each.ask(SETUP)
    saving = "iptables-save -t nat; iptables-legacy-save -t nat; ip6tables-save"
    before = inside_each.ask(f"{{ {saving}; }} | grep -v '^#'")
    assert b"line" not in inside_each.run(removal([rule()]))
    after = inside_each.ask(f"{{ {saving}; }} | grep -v '^#'")
    gone = before.splitlines()
    gone.remove(f"-A PREROUTING {OURS}")
    assert after.splitlines() == gone


@NEEDS_ROOT
def test_a_rule_that_is_gone_already_is_no_failure(inside_each: Namespace) -> None:
    inside_each.ask(SETUP)
    twice = removal([rule(), rule(), rule(backend="legacy")]) + "\necho $?\n"
    assert inside_each.run(twice).endswith(b"0\n")
    assert "my a" not in inside_each.ask("iptables-save -t nat; iptables-legacy-save -t nat")


@NEEDS_ROOT
def test_looking_makes_no_table_of_either_backend(inside_each: Namespace) -> None:
    looking = "for backend in nft legacy; do saved_rules $backend 4; saved_rules $backend 6; done"
    inside_each.run(f"{LOOKING}{looking}\n")
    assert inside_each.ask("nft list tables; cat /proc/net/ip_tables_names") == ""
