"""One script asks everything, changes nothing, and its answer is facts or an error by name."""

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep import frames, probe
from nodeprep.errors import FactError
from nodeprep.model import Desired as Wish
from nodeprep.model import Fact, Node, Sysctl
from nodeprep.shell import whole
from nodeprep.story import STORY
from nodeprep.topics import packages, sysctl, system
from tests.sample_topic import SampleTopic
from tests.shells import PATH, Machine

NODE = Node(name="node1", address="192.0.2.1")
HOSTILE = Node(
    name="node1",
    address="192.0.2.1",
    desired=Wish(sysctls=(Sysctl(key="net.x'y", value="$(touch canary)`touch canary`'"),)),
)
NONCE = "0123456789abcdef"
PARSERS = {fact.name: fact for topic in STORY for fact in topic.FACTS}


def doubtful(text: str) -> int:
    return int(text)


NUMBER = Fact(name="number", script=lambda _: "echo 42", parse=doubtful)
TOPIC = SampleTopic(FACTS=(NUMBER,))


def answered(machine: Machine, topic: SampleTopic) -> bytes:
    return machine.run(probe.script(NODE, (topic,), NONCE))


# --- asking ---------------------------------------------------------------------------------


def test_the_whole_story_is_asked_in_one_script_of_any_shell(machine: Machine) -> None:
    facts = probe.parse(machine.run(probe.script(NODE, STORY, NONCE)), NODE, STORY, NONCE)
    assert set(facts.values) == set(PARSERS)
    assert facts[system.SYSTEM].kernel == subprocess.check_output(("uname", "-r")).decode().strip()


def test_all_shells_learn_the_same() -> None:
    dash, *others = (learned(name) for name in ("dash", "bash", "busybox") if shutil.which(name))
    assert all(other == dash for other in others)


def learned(shell: str) -> object:
    done = subprocess.run(
        (shell, *(("sh",) if shell == "busybox" else ()), "-s"),
        input=probe.script(NODE, (system, sysctl, packages), NONCE).reveal().encode(),
        stdout=subprocess.PIPE,
        env={"PATH": PATH, "LC_ALL": "C"},
        check=False,
    )
    return probe.parse(done.stdout, NODE, (system, sysctl, packages), NONCE)


def test_a_question_is_only_asked_when_its_topic_is_chosen(dash: Machine) -> None:
    facts = probe.parse(dash.run(probe.script(NODE, (system,), NONCE)), NODE, (system,), NONCE)
    assert set(facts.values) == {fact.name for fact in system.FACTS}


def test_a_value_of_the_inventory_is_never_run(machine: Machine) -> None:
    script = probe.script(HOSTILE, (sysctl,), NONCE)
    machine.run(whole(f"cd {machine.folder}\n") + "main\n" + script)
    assert list(machine.folder.iterdir()) == []


def test_fact_names_are_unique_and_can_be_framed() -> None:
    names = [fact.name for topic in STORY for fact in topic.FACTS]
    taken = ["lock", "guard", "log", *(f"files.{part}" for part in ("stat", "content"))]
    assert len({*names, *taken}) == len(names) + len(taken)
    assert not any(name.startswith("step_") for name in names)


def test_a_question_without_a_script_is_not_asked_and_has_its_empty_answer(dash: Machine) -> None:
    silent = Fact(name="silent", script=lambda _: "", parse=lambda text: f"<{text}>")
    topic = SampleTopic(FACTS=(NUMBER, silent))
    output = answered(dash, topic)
    assert b"silent" not in output
    assert probe.parse(output, NODE, (topic,), NONCE)[silent] == "<>"


# --- reading --------------------------------------------------------------------------------


def test_an_answer_becomes_a_value_of_the_facts_type(dash: Machine) -> None:
    assert probe.parse(answered(dash, TOPIC), NODE, (TOPIC,), NONCE)[NUMBER] == 42


def test_an_answer_that_cannot_be_read_is_an_error_that_names_the_fact(dash: Machine) -> None:
    output = answered(dash, TOPIC).replace(b"\n42\n", b"\nforty-two\n")
    with pytest.raises(FactError, match="the answer to number cannot be read") as caught:
        probe.parse(output, NODE, (TOPIC,), NONCE)
    assert caught.value.hint


def test_an_answer_that_is_missing_is_an_error_that_names_the_fact(dash: Machine) -> None:
    output = answered(dash, SampleTopic(FACTS=()))
    with pytest.raises(FactError, match="no answer to number"):
        probe.parse(output, NODE, (TOPIC,), NONCE)


@pytest.mark.parametrize("cut", [0, 1, 100, -20, -1])
def test_a_torn_answer_is_an_error(dash: Machine, cut: int) -> None:
    with pytest.raises(FactError):
        probe.parse(answered(dash, TOPIC)[:cut], NODE, (TOPIC,), NONCE)


NAMES = ("number", "files.parents", "files.stat", "files.digest", "files.marked", "files.content")


@given(st.lists(st.binary(max_size=40), min_size=len(NAMES), max_size=len(NAMES)))
def test_whatever_a_node_answers_is_facts_or_a_fact_error(bodies: list[bytes]) -> None:
    mark = f"\n@{NONCE}".encode()
    framed = (
        b"%b begin %b\n%b%b end %b 0\n" % (mark, name.encode(), body, mark, name.encode())
        for name, body in zip(NAMES, bodies, strict=True)
    )
    output = b"".join(itertools.chain(framed, (b"%b total %d\n" % (mark, len(NAMES)),)))
    try:
        facts = probe.parse(output, NODE, (TOPIC,), NONCE)
    except FactError:
        return
    assert isinstance(facts[NUMBER], int)
    assert len(output) < frames.CAP
