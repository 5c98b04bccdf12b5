"""Ipsets and the rules that match them, as an inventory says them: values, and what is refused."""

from pathlib import Path

import pytest

from nodeprep import files
from nodeprep.errors import InventoryError, Problem
from nodeprep.inventory import load, parse
from nodeprep.inventory.ipsets import LIMIT, MOST
from nodeprep.inventory.schema import IpSetEntry
from nodeprep.ipset import NAME_BYTES, TYPES
from nodeprep.model import BypassRule, Desired, IpSet

from .samples import BASE, HOME, node, problems

N = "nodes: [{name: n}]\n"
SET = "ipsets: {myset: {}}\n"


def desired(text: str) -> Desired:
    return node(text).desired


def of_file(content: bytes, settings: str = "entries_from: ./list.txt") -> tuple[Problem, ...]:
    """Return what is wrong with a set that reads a file of this content."""
    text = f"{N}defaults: {{ipsets: {{myset: {{{settings}}}}}}}"
    try:
        parse(text.encode(), "inventory.yaml", HOME, BASE, read=lambda _: content)
    except InventoryError as error:
        return error.problems
    return ()


# --- values ---------------------------------------------------------------------------------


def test_an_inventory_that_does_not_speak_of_sets_leaves_them_alone() -> None:
    assert (desired("").ipsets, desired("").bypass_rules) == (None, None)


def test_an_empty_mapping_and_an_empty_list_say_that_none_are_wanted() -> None:
    found = desired("ipsets: {}\nbypass_rules: []")
    assert (found.ipsets, found.bypass_rules) == ((), ())


def test_the_articles_set_and_rule() -> None:
    found = desired(
        "ipsets: {myset: {type: 'hash:ip', entries: [192.168.2.226, 192.168.1.1]}}\n"
        "bypass_rules: [{set: myset}]"
    )
    assert found.ipsets == (IpSet(name="myset", entries=("192.168.1.1", "192.168.2.226")),)
    assert found.bypass_rules == (BypassRule(set="myset", comment="myset"),)


def test_every_setting_of_a_set_and_a_rule_arrives() -> None:
    found = desired(
        "ipsets:\n"
        "  a: {type: 'hash:net,iface', family: inet6, timeout: 60, maxelem: 9, hashsize: 64}\n"
        "bypass_rules:\n"
        "  - {set: a, table: raw, chain: OUTPUT, position: last, match: 'dst,dst',\n"
        "     comment: on purpose, target: DROP}\n"
    )
    assert found.ipsets == (
        IpSet(
            name="a",
            type="hash:net,iface",
            family="inet6",
            timeout=60,
            maxelem=9,
            hashsize=64,
        ),
    )
    assert found.bypass_rules == (
        BypassRule(
            set="a",
            comment="on purpose",
            family=6,
            table="raw",
            chain="OUTPUT",
            position="last",
            match="dst,dst",
            target="DROP",
        ),
    )


def test_a_set_of_mac_addresses_has_no_family() -> None:
    (found,) = desired("ipsets: {a: {type: 'hash:mac'}}").ipsets or ()
    assert found.family == ""


def test_sets_are_merged_by_name_and_one_of_the_same_name_is_replaced_whole() -> None:
    text = (
        "defaults: {ipsets: {a: {entries: [10.0.0.1]}, b: {maxelem: 9}}}\n"
        "nodes: [{name: n, ipsets: {b: {entries: [10.0.0.2]}}}]"
    )
    (found,) = parse(text.encode(), "inventory.yaml", HOME, BASE).nodes
    assert found.desired.ipsets == (
        IpSet(name="a", entries=("10.0.0.1",)),
        IpSet(name="b", entries=("10.0.0.2",)),
    )


def test_nodes_share_the_entries_of_a_set() -> None:
    text = (
        "defaults: {ipsets: {a: {entries: [10.0.0.1]}}}\nnodes: [{name: n}, {name: m, adopt: true}]"
    )
    first, second = parse(text.encode(), "inventory.yaml", HOME, BASE).nodes
    assert first.desired.ipsets
    assert second.desired.ipsets
    assert first.desired.ipsets[0].entries is second.desired.ipsets[0].entries


def test_the_types_are_those_that_can_be_checked() -> None:
    said = IpSetEntry.model_json_schema()["properties"]["type"]["enum"]
    assert tuple(said) == tuple(TYPES)


# --- a file of entries ----------------------------------------------------------------------


def test_entries_come_from_a_file_beside_the_inventory_too(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# theirs\n10.0.0.1/24\n10.0.0.2/24\n")
    (tmp_path / "inventory.yaml").write_text(
        f"{N}defaults: {{ipsets: {{a: {{type: 'hash:net', entries: [10.1.0.0/16], "
        "entries_from: ./list.txt}}}\n"
    )
    (found,) = load(tmp_path / "inventory.yaml").nodes
    assert found.desired.ipsets == (
        IpSet(name="a", type="hash:net", entries=("10.0.0.0/24", "10.1.0.0/16")),
    )


def test_65536_entries_are_read(tmp_path: Path) -> None:
    every = (f"100.64.{n >> 8}.{n & 255}\n" for n in range(65536))
    (tmp_path / "list.txt").write_text("".join(every))
    (tmp_path / "inventory.yaml").write_text(
        f"{N}defaults: {{ipsets: {{a: {{entries_from: list.txt}}}}}}\n"
    )
    (found,) = load(tmp_path / "inventory.yaml").nodes
    assert found.desired.ipsets
    assert len(found.desired.ipsets[0].entries) == 65536


def test_what_is_wrong_in_it_has_its_own_line_and_column() -> None:
    found = of_file(
        b"10.0.0.1\n\n  10.0.0.256 # why\nx\n", "entries: [y], entries_from: ./list.txt"
    )
    inventory, *others = sorted(found, key=lambda problem: problem.file != "inventory.yaml")
    assert (inventory.line, inventory.path) == (2, "defaults.ipsets.myset.entries[0]")
    assert [(p.file, p.line, p.column) for p in others] == [
        (f"{BASE}/list.txt", 3, 3),
        (f"{BASE}/list.txt", 4, 1),
    ]
    assert {p.path for p in others} == {"defaults.ipsets.myset.entries_from"}


def test_other_faults_are_told_with_it() -> None:
    text = f"{N}defaults: {{adop: true, ipsets: {{a: {{entries: [x]}}}}, modules: [-y]}}"
    assert [p.path for p in problems(text)] == [
        "defaults.adop",
        "defaults.ipsets.a.entries[0]",
        "defaults.modules[0]",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe", "it is no UTF-8 text"),
        (b"#" * (LIMIT + 1), "it is larger than 16 MiB"),
    ],
    ids=["no text", "too large"],
)
def test_a_file_that_cannot_be_read_is_told_where_it_is_named(content: bytes, told: str) -> None:
    (found,) = of_file(content)
    assert (found.file, found.line) == ("inventory.yaml", 2)
    assert told in found.message


def test_the_longest_set_that_is_taken_fits_on_a_node() -> None:
    longest = f"{'1234:' * 7}1234,udplite:65535,{'abcd:' * 7}abcd/127 timeout 0 nomatch"
    line = f"add {'x' * NAME_BYTES} {longest}\n"
    assert MOST * len(line) < files.LARGE


def test_more_entries_than_are_taken_are_refused_whatever_maxelem_says() -> None:
    text = (f"10.{n // 256}.{n % 256}.0/24\n" for n in range(900))
    (found,) = of_file("".join(text).encode(), "maxelem: 500000, entries_from: ./list.txt")
    assert "there are more than 200000 entries: make two sets" in found.message


def test_a_file_that_is_not_there_is_told_where_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(f"{N}defaults: {{ipsets: {{a: {{entries_from: ./no.txt}}}}}}\n")
    with pytest.raises(InventoryError, match="is not a file"):
        load(path)


# --- what is refused ------------------------------------------------------------------------

WRONG = [
    ("ipsets: {KUBE-X: {}}", "KUBE-X", "ipsets.KUBE-X", "not beginning with KUBE-"),
    ("ipsets: {NODEPREP-X: {}}", "NODEPREP", "ipsets.NODEPREP-X", "not beginning with KUBE-"),
    (f"ipsets: {{{'a' * 32}: {{}}}}", "aa", f"ipsets.{'a' * 32}", "at most 31 characters"),
    ("ipsets: {a/b: {}}", "a/b", "ipsets[a/b]", "an ipset's name"),
    ("ipsets: {a: {type: 'list:set'}}", "'l", "ipsets.a.type", "write hash:ip, hash:net"),
    ("ipsets: {a: {family: ipv4}}", "ipv4", "ipsets.a.family", "write inet or inet6"),
    ("ipsets: {a: {maxelm: 5}}", "maxelm", "ipsets.a.maxelm", "did you mean `maxelem`?"),
    ("ipsets: {a: {maxelem: 0}}", "0", "ipsets.a.maxelem", "greater than or equal to 1"),
    ("ipsets: {a: {hashsize: 9}}", "9", "ipsets.a.hashsize", "greater than or equal to 64"),
    ("ipsets: {a: {timeout: -1}}", "-1", "ipsets.a.timeout", "greater than or equal to 0"),
    ("ipsets: {a: {entries: [$x]}}", "$", "ipsets.a.entries[0]", "an address, a network"),
    ("ipsets: {a: {entries: [x]}}", "x]", "ipsets.a.entries[0]", "is no address"),
    (
        "ipsets: {a: {maxelem: 1, entries: [10.0.0.1, 10.0.0.2]}}",
        *("[", "ipsets.a.entries", "there are more than 1 entries: raise `maxelem`"),
    ),
    (
        "ipsets: {a: {type: 'hash:mac', family: inet}}",
        *("{type", "ipsets.a", "has no family"),
    ),
    ("bypass_rules: [{}]", "{}", "bypass_rules[0]", "the key `set` is missing"),
    ("bypass_rules: [{set: a}]", "a}", "bypass_rules[0].set", "no ipset is called `a`"),
    (
        "ipsets: {alpha: {}}, bypass_rules: [{set: alfa}]",
        *("alfa", "bypass_rules[0].set", "did you mean `alpha`?"),
    ),
    (
        "ipsets: {a: {}}, bypass_rules: [{set: a, match: 'src,dst'}]",
        *("'s", "bypass_rules[0].match", "an entry of hash:ip has 1 parts"),
    ),
    (
        "ipsets: {a: {type: 'hash:ip,port'}}, bypass_rules: [{set: a}]",
        *("{set", "bypass_rules[0]", "an entry of hash:ip,port has 2 parts"),
    ),
    (
        "ipsets: {a: {}}, bypass_rules: [{set: a, match: both}]",
        *("both", "bypass_rules[0].match", "src or dst"),
    ),
    (
        "ipsets: {a: {}}, bypass_rules: [{set: a}, {set: a, match: dst}]",
        *("{set: a, m", "bypass_rules[1]", "rule 0 of nat PREROUTING has this comment"),
    ),
    (
        "ipsets: {a: {}}, bypass_rules: [{set: a, chain: FORWARD}]",
        *("{set", "bypass_rules[0]", "the table nat has no FORWARD, but PREROUTING"),
    ),
    (
        "ipsets: {a: {}}, bypass_rules: [{set: a, target: DROP}]",
        *("{set", "bypass_rules[0]", "the table nat takes no DROP"),
    ),
    (
        "ipsets: {a: {}}, bypass_rules: [{set: a, chain: KUBE-SERVICES}]",
        *("KUBE", "bypass_rules[0].chain", "neither kube-proxy's nor nodeprep's"),
    ),
    *(
        (
            f"ipsets: {{a: {{}}}}, bypass_rules: [{{set: a, comment: '{bad}'}}]",
            *("'", "bypass_rules[0].comment", "other than kube-proxy's own"),
        )
        for bad in ["kubernetes service portals", "a -j b", 'a"b', "a\\b", " a", "a "]
    ),
]


@pytest.mark.parametrize(("text", "mark", "path", "told"), WRONG)
def test_is_refused_with_its_place(text: str, mark: str, path: str, told: str) -> None:
    (found,) = problems(f"{N}defaults: {{{text}}}")
    assert (found.line, found.column) == (2, 12 + text.index(mark))
    assert found.path == f"defaults.{path}"
    assert told in found.message


def test_two_families_may_have_rules_of_one_comment() -> None:
    assert not problems(
        f"{N}defaults: {{ipsets: {{a: {{}}, b: {{family: inet6}}}}, "
        "bypass_rules: [{set: a, comment: x}, {set: b, comment: x}]}"
    )
