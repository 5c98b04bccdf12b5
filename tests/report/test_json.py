"""The JSON of every verb has the documented shape, whatever came of the nodes."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from nodeprep import __version__, probe
from nodeprep.model import Facts, Node, Outcome
from nodeprep.report import json as report
from nodeprep.story import STORY
from tests.report.outcomes import ALL, NASTY, node, read
from tests.shells import PATH

SCHEMA = json.loads(Path(__file__).with_name("result.schema.json").read_text())
VERBS = ("facts", "verify", "plan", "apply")


def document(verb: str, outcomes: Sequence[Outcome], exit_code: int = 0) -> Any:
    body = json.loads(report.document(verb, outcomes, exit_code))
    jsonschema.Draft202012Validator(SCHEMA).validate(body)
    return body


@pytest.mark.parametrize("verb", VERBS)
def test_the_result_of_every_verb_has_the_documented_shape(verb: str) -> None:
    body = document(verb, ALL, 130)
    assert (body["command"], body["exit_code"]) == (verb, 130)
    assert body["nodeprep"] == __version__
    assert [each["name"] for each in body["nodes"]] == [outcome.node.name for outcome in ALL]


@pytest.mark.parametrize("verb", VERBS)
def test_no_node_at_all_is_a_result_too(verb: str) -> None:
    assert document(verb, ())["nodes"] == []


def test_readiness_is_true_false_or_not_known() -> None:
    ready = {each["name"]: each["ready"] for each in document("verify", ALL)["nodes"]}
    assert ready == {
        "ready1": True,
        "ready2": True,
        "wrong1": False,
        "broken1": False,
        "lost1": None,
        "lost2": None,
        "stale1": None,
        "held1": None,
        "late1": None,
    }


def test_an_error_is_told_by_kind_message_hint_and_code() -> None:
    errors = {each["name"]: each["error"] for each in document("verify", ALL)["nodes"]}
    assert errors["ready1"] is None
    assert errors["lost1"] == {
        "kind": "Unreachable",
        "message": "gone",
        "hint": "look",
        "exit_code": 4,
    }


def test_steps_tell_what_was_done_what_failed_and_what_was_not_tried() -> None:
    broken = next(each for each in document("apply", ALL)["nodes"] if each["name"] == "broken1")
    assert [step["exit_status"] for step in broken["steps"]] == [0, 1, None]


@pytest.mark.parametrize("verb", VERBS)
def test_no_secret_and_no_content_of_a_file_is_in_it(verb: str) -> None:
    text = report.document(verb, ALL, 0)
    assert "canary" not in text
    assert "secret content" not in text


def test_it_is_plain_ascii_whatever_a_node_said() -> None:
    outcome = Outcome(node=node("a"), facts=Facts({"greeting": NASTY}))
    text = report.document("facts", [outcome], 0)
    assert text.isascii()
    assert set(text) - {"\n"} <= {chr(code) for code in range(0x20, 0x7F)}
    assert json.loads(text)["nodes"][0]["facts"]["greeting"] == NASTY


# --- facts ----------------------------------------------------------------------------------


class Version(NamedTuple):
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class Inner:
    names: frozenset[str]


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    version: Version | None
    many: dict[str, Inner]


def test_facts_become_plain_values_by_name() -> None:
    inner = Inner(frozenset({"b", "a"}))
    value = Outer((inner,), Version(1, 34), {"x": inner})
    outcome = Outcome(node=node("a"), facts=Facts({"fact": value}))
    plain = {"names": ["a", "b"]}
    assert document("facts", [outcome])["nodes"][0]["facts"] == {
        "fact": {"inner": [plain], "version": "1.34", "many": {"x": plain}},
        "files": {},
    }


def test_a_file_is_shown_with_its_mode_as_people_write_it() -> None:
    shown = document("facts", [read("a")])["nodes"][0]["facts"]["files"]["/etc/a.conf"]
    assert shown["mode"] == "0640"
    assert "content" not in shown


def test_the_facts_of_this_machine_have_the_documented_shape() -> None:
    here = Node(name="here", address="local")
    script = probe.script(here, STORY, "0" * 16).reveal()
    output = subprocess.run(
        ("sh", "-s"),
        input=script.encode(),
        stdout=subprocess.PIPE,
        env={"PATH": PATH, "LC_ALL": "C"},
        check=False,
    ).stdout
    facts = probe.parse(output, here, STORY, "0" * 16)
    shown = document("facts", [Outcome(node=here, facts=facts)])["nodes"][0]["facts"]
    assert set(shown) == {"files", *(fact.name for topic in STORY for fact in topic.FACTS)}
    assert shown["system"]["uid"] == os.geteuid()
