"""Every recorded answer means what its file says, and no answer at all breaks a parser."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeprep import ipvs
from nodeprep.dataplane.reading import FACTS as DATA_PLANE
from nodeprep.errors import FactError
from nodeprep.rollout.artefacts import ARTEFACTS
from nodeprep.story import STORY
from tests import facts

PARSERS: Mapping[str, Callable[[str], object]] = {
    **{fact.name: fact.parse for topic in STORY for fact in topic.FACTS},
    "ipvsadm": ipvs.parse,
    ARTEFACTS.name: ARTEFACTS.parse,
    **{fact.name: fact.parse for fact in DATA_PLANE},
}
RECORDINGS = [(name, system) for name in sorted(PARSERS) for system in facts.systems(name)]


def plain(value: Any) -> Any:
    """Return a parsed value as JSON would give it back: sets in order, tuples as lists."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [plain(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize(("name", "system"), RECORDINGS)
def test_a_recorded_answer_means_what_its_file_says(name: str, system: str) -> None:
    recording = facts.recording(name, system)
    assert plain(PARSERS[name](recording["output"])) == recording["value"]


@pytest.mark.parametrize(("name", "system"), RECORDINGS)
def test_a_recording_says_where_it_is_from(name: str, system: str) -> None:
    recording = facts.recording(name, system)
    assert recording.keys() == {"system", "source", "output", "value"}
    assert recording["system"]
    assert recording["source"]


def test_every_fact_has_recordings_and_every_recording_a_fact() -> None:
    assert facts.folders() == PARSERS.keys()


def outputs(name: str) -> st.SearchStrategy[str]:
    """Draw a recorded answer, its lines dropped, doubled, mixed up or filled with anything."""
    lines = sorted(
        {
            line
            for system in facts.systems(name)
            for line in facts.recording(name, system)["output"].splitlines()
        }
    )
    return st.lists(st.sampled_from(lines) | cut(lines) | st.text(max_size=30), max_size=30).map(
        "\n".join
    )


def cut(lines: list[str]) -> st.SearchStrategy[str]:
    """Draw a line that lost its end to something else."""
    return st.builds(
        lambda line, at, rest: line[:at] + rest,
        st.sampled_from(lines),
        st.integers(0, 80),
        st.text(max_size=10),
    )


@pytest.mark.parametrize("name", sorted(PARSERS))
@settings(max_examples=30, deadline=1000)
@given(data=st.data())
def test_no_answer_makes_a_parser_do_more_than_refuse_it(name: str, data: st.DataObject) -> None:
    answer = data.draw(st.text() | outputs(name))
    with contextlib.suppress(ValueError, LookupError, FactError):
        PARSERS[name](answer)


PIECES = (" ", "=", "a", "a.", ":1:", "1 ", "\n", "\\", "TCP 1 a", "  -> ", "step_1 begins: ")
HEADS = ("", "/a:1:", "lists:\n/lib/modules/")


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_long_answer_takes_no_longer_than_its_length(name: str) -> None:
    for answer in (head + piece * 10_000 for head in HEADS for piece in PIECES):
        started = time.process_time()
        with contextlib.suppress(ValueError, LookupError, FactError):
            PARSERS[name](answer)
        assert time.process_time() - started < 1
