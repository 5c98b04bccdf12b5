"""Only what is asked for changes in a config.conf, whoever wrote it and however."""

import difflib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.kubernetes.config_text import ConfigTextError, Settings, edited, read
from tests.kubernetes.samples import RELEASES, config

TO_IPVS = Settings(mode="ipvs", scheduler="lc", strict_arp=True, exclude_cidrs=("192.0.2.0/24",))


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


# --- as kubeadm writes it -------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_in_kubeadms_own_text_only_the_asked_values_change(release: str) -> None:
    before = config(release)
    after = edited(before, TO_IPVS)
    assert changed_lines(before, after) == [
        "-   excludeCIDRs: null",
        '+   excludeCIDRs: ["192.0.2.0/24"]',
        '-   scheduler: ""',
        '+   scheduler: "lc"',
        "-   strictARP: false",
        "+   strictARP: true",
        '- mode: ""',
        '+ mode: "ipvs"',
    ]
    assert read(after) == Settings(
        mode="ipvs",
        scheduler="lc",
        strict_arp=True,
        exclude_cidrs=("192.0.2.0/24",),
        cluster_cidr="10.244.0.0/16",
    )


@pytest.mark.parametrize("release", RELEASES)
def test_what_it_says_already_leaves_every_byte(release: str) -> None:
    once = edited(config(release), TO_IPVS)
    assert edited(once, TO_IPVS) == once
    assert edited(once, Settings()) == once


# --- as people write it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mode: iptables\n", "mode: ipvs\n"),
        ("mode: iptables", "mode: ipvs"),
        ('mode: ""', 'mode: "ipvs"'),
        ("mode: ''\n", "mode: 'ipvs'\n"),
        ('mode: "iptables"  # why\n', 'mode: "ipvs"  # why\n'),
        ("mode: iptables\t# a tab\n", "mode: ipvs\t# a tab\n"),
        ("mode:\nkind: x\n", "mode: ipvs\nkind: x\n"),
        ("mode: # not set\nkind: x\n", "mode: ipvs # not set\nkind: x\n"),
        ("mode: ~\n", "mode: ipvs\n"),
        ("mode: null\r\nkind: x\r\n", "mode: ipvs\r\nkind: x\r\n"),
        ("'mode':   iptables\n", "'mode':   ipvs\n"),
        ("---\nmode: iptables\n", "---\nmode: ipvs\n"),
        ("---\nmode: iptables\n...\n", "---\nmode: ipvs\n...\n"),
        ('{"mode": "", "kind": "x"}', '{"mode": "ipvs", "kind": "x"}'),
        ('{"kind": "x"}', '{"mode": "ipvs", "kind": "x"}'),
        ("kind: x # the kind\n# end\n", "kind: x # the kind\nmode: ipvs\n# end\n"),
        ("kind: x", "kind: x\nmode: ipvs"),
        ("kind: x\r\nport: 1\r\n", "kind: x\r\nport: 1\r\nmode: ipvs\r\n"),
        ("iptables:\n  a: 1\n", "mode: ipvs\niptables:\n  a: 1\n"),
        ("# head\na: |\n  mode: x\n", "# head\nmode: ipvs\na: |\n  mode: x\n"),
        ("mode: &m iptables\n", "mode: ipvs\n"),
    ],
)
def test_the_mode_is_set_where_it_stands_or_where_it_belongs(before: str, after: str) -> None:
    assert edited(before, Settings(mode="ipvs")) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\nipvs:\n  scheduler: rr\n", "a: 1\nipvs:\n  scheduler: lc\n"),
        (
            "a: 1\nipvs:\n    syncPeriod: 0s\n",
            "a: 1\nipvs:\n    syncPeriod: 0s\n    scheduler: lc\n",
        ),
        ("a: 1\nipvs: {}\n", 'a: 1\nipvs: {"scheduler": "lc"}\n'),
        ("a: 1\nipvs: {x: 1} # y\n", 'a: 1\nipvs: {"scheduler": "lc", x: 1} # y\n'),
        ("a: 1\nipvs: null\n", 'a: 1\nipvs: {"scheduler": "lc"}\n'),
        ("a: 1\nipvs: # none\n", 'a: 1\nipvs: {"scheduler": "lc"} # none\n'),
        ("a: 1\nipvs:", 'a: 1\nipvs: {"scheduler": "lc"}'),
        ("a: 1\n", "a: 1\nipvs:\n  scheduler: lc\n"),
        ("ipvs:\n  x:\n    - 1\n", "ipvs:\n  scheduler: lc\n  x:\n    - 1\n"),
    ],
)
def test_the_scheduler_is_set_in_every_form_of_ipvs(before: str, after: str) -> None:
    assert edited(before, Settings(scheduler="lc")) == after


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("ipvs: {excludeCIDRs: []}", ("10.0.0.0/8",), 'ipvs: {excludeCIDRs: ["10.0.0.0/8"]}'),
        (
            "ipvs:\n  excludeCIDRs:\n  - 10.0.0.0/8 # ours\n",
            ("10.0.0.0/8", "fd00::/8"),
            'ipvs:\n  excludeCIDRs:\n  - 10.0.0.0/8 # ours\n  - "fd00::/8"\n',
        ),
        (
            "ipvs:\n  excludeCIDRs:\n    - 10.0.0.0/8\n    - 10.1.0.0/16 # more\n  x: 1\n",
            ("10.0.0.0/8",),
            "ipvs:\n  excludeCIDRs:\n    - 10.0.0.0/8\n    # more\n  x: 1\n",
        ),
        (
            "ipvs:\n  excludeCIDRs:\n    - 10.0.0.0/8\n    # why\n    - 10.1.0.0/16",
            (),
            "ipvs:\n  excludeCIDRs: []\n    # why",
        ),
        (
            "ipvs:\n  excludeCIDRs:\n  - '10.0.0.0/8'\n",
            ("10.9.0.0/16",),
            "ipvs:\n  excludeCIDRs:\n  - '10.9.0.0/16'\n",
        ),
    ],
)
def test_the_excluded_networks_are_set_item_by_item(
    before: str, wanted: tuple[str, ...], after: str
) -> None:
    assert edited(before, Settings(exclude_cidrs=wanted)) == after


def test_what_is_so_by_default_adds_no_line() -> None:
    wish = Settings(scheduler="rr", strict_arp=False, exclude_cidrs=())
    assert edited("mode: ipvs\n", wish) == "mode: ipvs\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mode: a\n---\nmode: b\n", "2 documents"),
        ("", "0 documents"),
        ("- a\n", "not a mapping"),
        ("mode: a\nmode: b\n", "stands in it twice"),
        ("a: &x {scheduler: rr}\nipvs: *x\n", "an alias"),
        ("a: [&x b, *x]\n", "an alias"),
        ("mode: |\n  iptables\n", "several lines"),
        ("ipvs: 7\n", "`ipvs` is not a mapping"),
        ("mode: [ipvs]\n", "unknown form"),
        ("a: [\n", "no YAML"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigTextError, match=said):
        edited(text, Settings(mode="ipvs", scheduler="lc"))


# --- whatever it looks like -----------------------------------------------------------------

WORDS = st.sampled_from(("", "x", "0s", "10.0.0.0/8", "a: b", "# no", "it's", '"', "yes", "0x1"))
COMMENTS = st.sampled_from(("", " # a comment", "\t# with: a colon", "   # {[&*"))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 99), WORDS)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw a config.conf in somebody's hand: indents, comments, quotes, line ends of all kinds."""
    eol = draw(st.sampled_from(("\n", "\r\n")))
    indent = " " * draw(st.sampled_from((2, 4)))

    def scalar(value: Any) -> str:
        return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]

    def line(key: str, value: Any) -> list[str]:
        above = draw(st.sampled_from(([], ["# above"], [""])))
        return [*above, f"{key}: {scalar(value)}{draw(COMMENTS)}"]

    blocks = [
        line("apiVersion", "kubeproxy.config.k8s.io/v1alpha1"),
        line("unknownField", draw(SCALARS)),
        ["conntrack:", f"{indent}mode: {scalar(draw(WORDS))}"],
    ]
    if draw(st.booleans()):
        quoted = draw(st.sampled_from(('""', "''", "iptables", '"iptables"', "~", "'ipvs'")))
        blocks.append([f"mode: {quoted}{draw(COMMENTS)}"])
    inner = [
        *(line("scheduler", draw(WORDS)) if draw(st.booleans()) else ()),
        *(line("strictARP", draw(st.booleans())) if draw(st.booleans()) else ()),
        *(line("syncPeriod", "0s") if draw(st.booleans()) else ()),
    ]
    cidrs = draw(st.sampled_from((None, [], ["10.0.0.0/8"], ["10.0.0.0/8", "fd00::/8"])))
    if cidrs:
        dash = draw(st.sampled_from(("", indent)))
        inner += ["excludeCIDRs:", *(f"{dash}- {each}{draw(COMMENTS)}" for each in cidrs)]
    elif cidrs is not None:
        inner += [f"excludeCIDRs: []{draw(COMMENTS)}"]
    if any(part and not part.startswith("#") for part in inner):
        blocks.append(["ipvs:", *(indent + part if part else "" for part in inner)])
    elif draw(st.booleans()):
        blocks.append([f"ipvs: {draw(st.sampled_from(('{}', 'null', '', '~')))}{draw(COMMENTS)}"])
    lines = [each for block in draw(st.permutations(blocks)) for each in block]
    return eol.join(lines) + draw(st.sampled_from(("", eol)))


WISHES = st.builds(
    Settings,
    mode=st.sampled_from((None, "iptables", "ipvs", "nftables")),
    scheduler=st.sampled_from((None, "rr", "lc")),
    strict_arp=st.sampled_from((None, True, False)),
    exclude_cidrs=st.sampled_from((None, (), ("192.0.2.0/24",), ("10.0.0.0/8", "::1/128", "a"))),
)


@given(texts(), WISHES)
def test_the_result_says_what_was_asked_and_keeps_every_other_line(
    text: str, wish: Settings
) -> None:
    after = edited(text, wish)
    said, before = read(after), read(text)
    assert said.effective_mode == (wish.mode or before.effective_mode)
    assert said.effective_scheduler == (wish.scheduler or before.effective_scheduler)
    arp = bool(before.strict_arp) if wish.strict_arp is None else wish.strict_arp
    assert bool(said.strict_arp) == arp
    cidrs = before.exclude_cidrs if wish.exclude_cidrs is None else wish.exclude_cidrs
    assert (said.exclude_cidrs or ()) == (cidrs or ())
    ours = ("mode:", "ipvs:", "scheduler:", "strictARP:", "excludeCIDRs:", "- ")
    kept = [line for line in text.split("\n") if not line.strip().startswith(ours)]
    rest = iter(after.split("\n"))
    assert all(line.rstrip("\r") in (each.rstrip("\r") for each in rest) for line in kept)
    assert [part for part in _comments(text) if part not in _comments(after)] == []
    assert after.endswith("\n") == text.endswith("\n")
    assert ("\r\n" in after) == ("\r\n" in text) or "\n" not in text


def _comments(text: str) -> list[str]:
    return [line.partition(" # ")[2] for line in text.splitlines() if " # " in line]


@given(texts(), WISHES)
def test_a_second_time_changes_nothing(text: str, wish: Settings) -> None:
    once = edited(text, wish)
    assert edited(once, wish) == once
