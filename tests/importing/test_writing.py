"""The written inventory: what a person would write, and what our loader reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing.imported import Imported, Machine, Settings
from nodeprep.importing.writing import complaint, flow, scalar, text
from nodeprep.inventory.source import read

WORKER: Settings = {("ssh", "user"): "admin", ("ssh", "port"): 2222, ("sudo",): "ask"}


def machines(*numbers: int) -> tuple[Machine, ...]:
    return tuple(
        Machine(name=f"w{n:02d}", address=f"10.0.0.{n}", groups=("k8s", "workers"), settings=WORKER)
        for n in numbers
    )


def test_an_inventory_reads_as_a_person_would_write_it() -> None:
    edge = Machine(
        name="edge",
        address="fd00::1",
        groups=("k8s",),
        settings={
            **WORKER,
            ("ssh", "user"): "root",
            ("ssh", "jump"): ("ops@bastion:2222", "inner"),
            ("sudo",): "none",
            ("labels", "role"): "edge",
            ("kube_proxy", "mode"): "nftables",
        },
    )
    written = text(Imported(machines=(*machines(1, 2, 3), edge)), "Mine.\nAll of it.")
    assert (
        written
        == """\
# Mine.
# All of it.

defaults:
  ssh:
    user: admin
    port: 2222
  sudo: {password: ask}

groups:
  k8s: {}
  workers: {}

nodes:
  - {name: "w[01-03]", address: "10.0.0.[1-3]", groups: [k8s, workers]}
  - name: edge
    address: "fd00::1"
    groups: [k8s]
    ssh: {user: root, jump: ["ops@bastion:2222", inner]}
    sudo: none
    labels: {role: edge}
    kube_proxy: {mode: nftables}
"""
    )


def test_without_settings_and_groups_there_are_only_nodes() -> None:
    assert text(Imported(machines=(Machine(name="a", address="a"),)), "x") == (
        "# x\n\nnodes:\n  - {name: a}\n"
    )


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("worker", "worker"),
        ("~/.ssh/id_ed25519", "~/.ssh/id_ed25519"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("example.com/role", "example.com/role"),
        ("no", '"no"'),
        ("true", '"true"'),
        ("null", '"null"'),
        ("~", '"~"'),
        ("", '""'),
        ("1", '"1"'),
        ("1.34", '"1.34"'),
        ("0644", '"0644"'),
        ("1e3", '"1e3"'),
        ("12:30:45", '"12:30:45"'),
        ("2024-01-01", '"2024-01-01"'),
        ("-x", '"-x"'),
        ("a b", '"a b"'),
        ("a: b", '"a: b"'),
        ("fd00::", '"fd00::"'),
        ("[1-3]", '"[1-3]"'),
        ("caf\u00e9", '"caf\u00e9"'),
        ('say "hi"', '"say \\"hi\\""'),
    ],
)
def test_a_word_is_in_quotes_where_it_could_be_something_else(word: str, written: str) -> None:
    assert scalar(word) == written


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"]))


@given(PRINTABLE)
def test_any_printable_word_is_read_back_as_it_is(word: str) -> None:
    for written in (f"a: {scalar(word)}", f"{{a: {scalar(word)}}}", f"a: [{flow(word)}]"):
        document = read(written.encode(), "f")
        if not document.problems:  # what is not in Unicode normal form is refused anywhere
            assert document.value in ({"a": word}, {"a": [word]})


@given(st.text(max_size=10))
def test_a_setting_is_complained_of_or_read_back(word: str) -> None:
    if not complaint(("ssh", "user"), word):
        machine = Machine(name="n", address="n", settings={("ssh", "user"): word})
        assert f"user: {scalar(word)}" in text(Imported(machines=(machine,)), "x")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("ssh", "user"), "a b"),
        (("ssh", "port"), 0),
        (("ssh", "port"), "22"),
        (("ssh", "jump"), ("-x",)),
        (("kube_proxy", "mode"), "userspace"),
        (("kube_proxy", "nothing"), "x"),
        (("labels", "a b"), "x"),
    ],
)
def test_what_our_inventory_does_not_take_is_complained_of(
    key: tuple[str, ...], value: str | int
) -> None:
    assert complaint(key, value)
