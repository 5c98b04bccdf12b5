"""An answer is read exactly, or not at all: noise, any bytes, torn, doubled, forged, hostile."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep import frames
from nodeprep.errors import FactError
from nodeprep.shell import Script, join, whole, words
from tests.shells import Machine

NONCE = "0123456789abcdef"
NAMES = st.text("abcxyz_.:-019", min_size=1, max_size=12)
BODIES = st.dictionaries(NAMES, st.binary(max_size=60), max_size=6)
LINES = (f"\n@{NONCE} begin a\n", f"\n@{NONCE} end a 0\n", f"\n@{NONCE} total 1\n", "\n", "@")


def answer(bodies: Mapping[str, bytes], nonce: str = NONCE) -> bytes:
    """Return what the shell functions of ``open_frames`` print."""
    parts = [
        b"\n@%b begin %b\n%b\n@%b end %b 0\n"
        % (nonce.encode(), name.encode(), body, nonce.encode(), name.encode())
        for name, body in bodies.items()
    ]
    return b"".join([*parts, f"\n@{nonce} total {len(bodies)}\n".encode()])


def read(output: bytes) -> Mapping[str, bytes]:
    return {name: frame.body for name, frame in frames.parse(output, NONCE).items()}


# --- what must arrive -----------------------------------------------------------------------


@given(bodies=BODIES, before=st.binary(max_size=80), after=st.binary(max_size=80))
def test_noise_before_and_after_changes_nothing(
    bodies: Mapping[str, bytes], before: bytes, after: bytes
) -> None:
    assert read(before + answer(bodies) + after) == bodies


@given(bodies=BODIES, mine=BODIES)
def test_frames_of_another_nonce_are_noise(
    bodies: Mapping[str, bytes], mine: Mapping[str, bytes]
) -> None:
    assert read(answer(bodies, "f" * 16) + answer(mine) + answer(bodies, "e" * 16)) == mine


def test_the_exit_status_of_each_body_is_told(machine: Machine) -> None:
    body = Script(frames.open_frames(NONCE))
    body += join([frames.framed(f"f{n}", f"(exit {n})") for n in (0, 1, 42, 255)], "") + "total\n"
    found = frames.parse(machine.run(whole(body)), NONCE)
    assert {name: frame.exit_status for name, frame in found.items()} == {
        "f0": 0,
        "f1": 1,
        "f42": 42,
        "f255": 255,
    }


def test_any_bytes_travel_through_any_shell(machine: Machine, tmp_path: Path) -> None:
    bodies = {
        "all": bytes(range(256)) * 9,
        "empty": b"",
        "newlines": b"\n\n\n",
        "bare": b"no newline at its end",
        "like": f"\n@{NONCE[:-1]} end like 0\n@ total 9\n".encode(),
    }
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    parts = [frames.framed(name, f"cat {words(str(tmp_path / name))}") for name in bodies]
    script = Script(frames.open_frames(NONCE)) + join(parts, "") + "total\n"
    assert read(machine.run(whole(script))) == bodies


def test_what_a_body_says_on_stderr_and_reads_on_stdin_is_nothing(machine: Machine) -> None:
    noisy = frames.framed("f", "echo noise >&2; cat; echo fact")
    script = Script(frames.open_frames(NONCE)) + noisy + "total\necho noise >&2\n"
    assert read(machine.run(whole(script))) == {"f": b"fact\n"}


def test_bytes_that_are_not_utf8_stay_visible() -> None:
    assert frames.Frame(body=b"a\xff\xc3b\xc3\xa9", exit_status=0).text == "a\\xff\\xc3b\u00e9"


# --- what must not be believed --------------------------------------------------------------


@given(bodies=BODIES, data=st.data())
def test_a_torn_answer_is_an_error_and_never_a_wrong_fact(
    bodies: Mapping[str, bytes], data: st.DataObject
) -> None:
    whole_answer = answer(bodies)
    cut = data.draw(st.integers(0, len(whole_answer) - 1))
    with pytest.raises(FactError):
        read(whole_answer[:cut])


@given(bodies=BODIES.filter(bool), data=st.data())
def test_an_answer_without_its_beginning_is_an_error(
    bodies: Mapping[str, bytes], data: st.DataObject
) -> None:
    whole_answer = answer(bodies)
    cut = data.draw(st.integers(1, len(whole_answer)))
    with pytest.raises(FactError):
        read(whole_answer[cut:])


@given(bodies=BODIES.filter(bool), data=st.data())
def test_a_doubled_frame_is_an_error(bodies: Mapping[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(bodies)))
    once_more = answer({name: bodies[name]}).partition(b"\n@" + NONCE.encode() + b" total")[0]
    with pytest.raises(FactError, match="twice"):
        read(once_more + answer(bodies))
    with pytest.raises(FactError, match="twice"):
        read(answer(bodies) + answer(bodies))


@given(bodies=BODIES)
def test_an_answer_to_another_question_is_an_error(bodies: Mapping[str, bytes]) -> None:
    with pytest.raises(FactError):
        frames.parse(answer(bodies), "f" * 16)


@given(bodies=BODIES.filter(bool), data=st.data())
def test_a_lost_line_of_a_frame_is_an_error(
    bodies: Mapping[str, bytes], data: st.DataObject
) -> None:
    lines = answer(bodies).split(b"@" + NONCE.encode())
    lost = data.draw(st.integers(1, len(lines) - 1))
    kept = lines[:lost] + lines[lost + 1 :]
    with pytest.raises(FactError):
        read((b"@" + NONCE.encode()).join(kept))


@given(st.lists(st.sampled_from(LINES) | st.text(max_size=4), max_size=30))
def test_a_node_that_knows_the_nonce_gets_frames_or_an_error(pieces: list[str]) -> None:
    with contextlib.suppress(FactError):
        read("".join(pieces).encode("utf-8", "replace"))


@pytest.mark.parametrize(
    "line", ["begin x", "end x 0", f"end x {'9' * 5000}", f"total {'9' * 5000}"]
)
def test_the_most_that_a_node_may_send_is_read_in_one_pass(line: str) -> None:
    hostile = f"\n@{NONCE} {line}\n".encode()
    with pytest.raises(FactError):
        read(hostile * (frames.CAP // len(hostile)))


def test_what_did_arrive_of_a_torn_answer_can_be_told() -> None:
    torn = answer({"a": b"one", "b": b"two"}).partition(b"two")[0]
    assert list(frames.parse_partial(torn, NONCE)) == ["a"]
