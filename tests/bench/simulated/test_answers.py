"""What simulated nodes answer: what a real one said, each under its own name."""

import re
from pathlib import Path

import pytest

from bench.simulated import fleet
from bench.simulated.answers import NAME, NONCE, RECORDED, Record, garbage, nonce_of, recorded
from nodeprep import frames, inventory, probe, verify
from nodeprep.errors import FactError
from nodeprep.model import Facts, Node
from nodeprep.shell import Script, whole
from nodeprep.story import STORY

RECORD_ANEW = "the questions have changed: record the answer anew, see `python -m bench.record`"
ASKING = "0123456789abcdef"


@pytest.fixture(scope="module")
def record() -> Record:
    return Record.of((RECORDED / "verify.txt").read_bytes())


def node(number: int) -> Node:
    """Return a simulated node, as the inventory of a bench wants it."""
    lines = (RECORDED / "desired.yaml").read_text().splitlines()
    wishes = "\n".join(f"  {line}" for line in lines)
    text = f"defaults:\n{wishes}\nnodes:\n  - name: {fleet.name(number)}\n"
    (one,) = inventory.parse(text.encode(), "inventory.yaml", Path("/root"), Path("/bench")).nodes
    return one


def facts(record: Record, asked: Node, answering: str) -> Facts:
    answer = record.answer(ASKING.encode(), answering)
    return probe.parse(answer, asked, STORY, ASKING)


# --- the recorded answer --------------------------------------------------------------------


def test_the_recorded_node_answered_just_what_is_asked_today(record: Record) -> None:
    asked = re.findall(r"^begin (\S+)$", str(probe.script(node(0), STORY, NONCE)), re.MULTILINE)
    assert list(frames.parse(record.text, NONCE)) == asked, RECORD_ANEW


def test_the_recorded_answer_can_be_read_today(record: Record) -> None:
    assert facts(record, node(0), NAME.decode()).files, RECORD_ANEW


@pytest.mark.parametrize("number", [0, 1, 10_000])
def test_a_simulated_node_is_ready(record: Record, number: int) -> None:
    one = node(number)
    verdicts = verify.findings(one, facts(record, one, one.name), STORY)
    assert [v for v in verdicts if v.status == "fail"] == [], RECORD_ANEW


def test_a_file_with_another_nodes_name_is_not_as_wanted(record: Record) -> None:
    one = node(1)
    verdicts = verify.findings(one, facts(record, one, fleet.name(2)), STORY)
    assert [v.name for v in verdicts if v.status == "fail"] == ["/var/lib/kube-proxy/config.yaml"]


def test_no_two_nodes_answer_alike(record: Record) -> None:
    assert record.answer(b"x", fleet.name(1)) != record.answer(b"x", fleet.name(2))


# --- who asks -------------------------------------------------------------------------------


def test_the_nonce_is_found_in_the_script(record: Record) -> None:
    script = probe.script(node(1), STORY, ASKING).reveal().encode()
    assert nonce_of(script) == ASKING.encode()
    assert record.answer(ASKING.encode(), fleet.name(1)).count(f"@{ASKING} ".encode()) > 2


def test_a_script_without_frames_has_none() -> None:
    assert nonce_of(whole(Script("uname -r")).reveal().encode()) is None


def test_an_answer_is_recorded_without_its_nonce(record: Record) -> None:
    answer = record.answer(ASKING.encode(), NAME.decode())
    assert recorded(answer, ASKING) == record.text


# --- who does not answer well -----------------------------------------------------------------


@pytest.mark.parametrize("number", range(5))
def test_garbage_is_no_answer(number: int) -> None:
    with pytest.raises(FactError):
        frames.parse(garbage(ASKING.encode(), number), ASKING)


def test_what_is_no_answer_is_no_record(record: Record) -> None:
    with pytest.raises(FactError):
        Record.of(record.text[: len(record.text) // 2])
