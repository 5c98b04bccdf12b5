"""Secrets are read where they are kept, once, and say nothing of themselves."""

import getpass
import io
import os
import pickle
from pathlib import Path

import pytest

from nodeprep.credentials import passwords
from nodeprep.errors import UsageError
from nodeprep.model import Node, Sudo
from nodeprep.shell import Script, Secret

PLAIN = Node(name="b", address="192.0.2.2")


def asking(place: str) -> Node:
    return Node(name="a", address="192.0.2.1", sudo=Sudo(method="password", password=place))


def test_a_sudo_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("canary one\nsecond line\n")
    place = f"file:{file}"
    found = passwords([asking(place), asking(place), PLAIN])
    assert {key: secret.reveal() for key, secret in found.items()} == {place: "canary one"}
    assert "canary" not in str(found)


def test_a_sudo_password_is_read_from_a_descriptor(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("canary\n")
    with file.open() as stream:
        place = f"fd:{stream.fileno()}"
        assert passwords([asking(place)])[place].reveal() == "canary"
        os.fstat(stream.fileno())


def test_a_sudo_password_is_taken_before_the_descriptor_ends() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"canary\n")
    place = f"fd:{reader}"
    assert passwords([asking(place)])[place].reveal() == "canary"
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_sudo_password_that_is_not_there_is_a_usage_error(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="sudo: password"):
        passwords([asking(f"file:{file}")])


def test_a_descriptor_that_is_not_open_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="sudo: password"):
        passwords([asking("fd:987")])


def test_a_password_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["canary"])
    monkeypatch.setattr(getpass, "getpass", lambda _: next(answers))
    found = passwords([asking("ask")] * 3)
    assert [secret.reveal() for secret in found.values()] == ["canary"]


def test_without_a_terminal_a_password_cannot_be_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", ended)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="no terminal") as caught:
        passwords([asking("ask")])
    assert "`file`" in caught.value.hint


def test_no_password_is_fetched_that_no_node_needs() -> None:
    assert passwords([PLAIN]) == {}


def test_a_secret_is_not_pickled_wherever_it_stands() -> None:
    for value in (Secret("canary"), Script("echo ", Secret("canary")), [Secret("canary")]):
        with pytest.raises(TypeError, match="a secret is not pickled"):
            pickle.dumps(value)
