"""Whatever a file holds, it is accepted or refused with places; what is accepted stays as it is."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.errors import InventoryError, Problem
from nodeprep.inventory.source import read
from nodeprep.model import Node

from .samples import parsed, problems

LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]

WORDS = st.sampled_from(
    [
        *(
            "nodes:",
            "defaults:",
            "groups:",
            "name:",
            "ssh:",
            "user:",
            "sudo:",
            "labels:",
            "sysctls:",
        ),
        *("password:", "kube_proxy:", "mode:", "a", "5", "true", "0644", "[1-3]", "\\u202e", "\\"),
        *("&a", "*a", "<<:", "!!str", "---", "...", "~", *"-[]{},|>?:'\"#&*!%@`"),
        *("\n", "\n  ", "\n- ", "\n  - ", "\t", "\r", "\0", "\x85", "\u202e", "\ud800"),
    ]
)
YAML_LIKE = st.lists(WORDS, max_size=40).map(" ".join)
HOSTILE = st.text(
    st.sampled_from(
        "$()`'\";|&<>*?[]{}!~#=%\\/-@:., \t\nabAB01_\x1b\x7f\x9b\u202e\u200b\u00e9\u0301"
    )
    | st.characters(),
    max_size=40,
)


def refused_or_nodes(text: bytes) -> tuple[Node, ...]:
    """Return the nodes; of a refused text none, after a look at what was said."""
    told = problems(text)
    for problem in told:
        assert problem.line >= 1
        assert problem.column >= 1
        assert str(problem).isprintable()
    return () if told else parsed(text).nodes


def problems_of_reading(text: bytes, loader: Any) -> tuple[Problem, ...]:
    try:
        return read(text, "f", loader=loader).problems
    except InventoryError as error:
        return error.problems


@given(st.binary(max_size=300))
def test_any_bytes(text: bytes) -> None:
    refused_or_nodes(text)


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    refused_or_nodes(text.encode("utf-8", "surrogatepass"))


@given(YAML_LIKE)
def test_any_text_that_looks_like_yaml(text: str) -> None:
    refused_or_nodes(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("loader", LOADERS)
@given(text=YAML_LIKE)
def test_both_readers_of_yaml_accept_or_refuse(loader: Any, text: str) -> None:
    told = problems_of_reading(text.encode("utf-8", "surrogatepass"), loader)
    assert all(str(problem).isprintable() for problem in told)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("escape", [r"\U00110000", r"\UFFFFFFFF", r"\ud800", r"\x00", r"\x9b"])
def test_an_escape_that_is_no_character_is_refused(loader: Any, escape: str) -> None:
    assert len(problems_of_reading(f'a: "{escape}"'.encode(), loader)) == 1


def test_both_readers_of_yaml_give_the_same_values_and_places() -> None:
    text = "\ufeffa: {b: [1, 'x', true]}\r\n'\u00e9 \U0001f600': \U0001f600 x # y\nc: d"
    documents = [read(text.encode(), "f", loader=loader) for loader in LOADERS]
    assert all(document == documents[0] for document in documents)


# --- what is accepted stays as it is -----------------------------------------------------------


def _quoted(text: str) -> str:
    """Return a YAML string in which every character is written by its number."""
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


FIELDS: dict[str, tuple[str, Callable[[Node], str]]] = {
    "name": ("name: {}", lambda node: node.name),
    "address": ("name: n\n  address: {}", lambda node: node.address),
    "user": ("name: n\n  ssh: {{user: {}}}", lambda node: str(node.ssh.user)),
    "jump": ("name: n\n  ssh: {{jump: {}}}", lambda node: node.ssh.jump[0]),
    "label": ("name: n\n  labels: {{r: {}}}", lambda node: node.labels["r"]),
    "label key": ("name: n\n  labels: {{? {}\n  : x}}", lambda node: next(iter(node.labels))),
    "module": ("name: n\n  modules: [{}]", lambda node: node.desired.modules[0]),
    "package": ("name: n\n  packages: [{}]", lambda node: node.desired.packages[0]),
    "sysctl": ("name: n\n  sysctls: {{a.b: {}}}", lambda node: node.desired.sysctls[0].value),
    "sysctl key": (
        "name: n\n  sysctls: {{? {}\n  : 1}}",
        lambda node: node.desired.sysctls[0].key,
    ),
    "binary": (
        "name: n\n  kube_proxy: {{binary: {}}}",
        lambda node: node.desired.kube_proxy.binary,
    ),
    "scheduler": (
        "name: n\n  kube_proxy: {{scheduler: {}}}",
        lambda node: node.desired.kube_proxy.scheduler,
    ),
}


@pytest.mark.parametrize("name", FIELDS)
@given(text=HOSTILE)
def test_a_string_is_refused_or_reaches_the_node_byte_for_byte(name: str, text: str) -> None:
    template, read_back = FIELDS[name]
    found = refused_or_nodes(f"nodes:\n- {template.format(_quoted(text))}".encode())
    if len(found) == 1:
        assert read_back(found[0]) == text or re.search(r"\[.*\]", text)
        assert text.isprintable()


@pytest.mark.parametrize("name", FIELDS)
def test_a_string_of_200_kb_is_refused(name: str) -> None:
    template, _ = FIELDS[name]
    assert refused_or_nodes(f"nodes:\n- {template.format('a' * 200_000)}".encode()) == ()


HARMFUL = ["-x", "a b", "$(id)", "`id`", "a;b", "a|b", "a'b", 'a"b', "a\\b", "{{7}}"]


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"sysctl"}))
@pytest.mark.parametrize("text", HARMFUL)
def test_what_a_shell_or_a_template_knows_is_refused(name: str, text: str) -> None:
    template, _ = FIELDS[name]
    assert refused_or_nodes(f"nodes:\n- {template.format(_quoted(text))}".encode()) == ()
