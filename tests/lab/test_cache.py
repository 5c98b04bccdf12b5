"""What is built once is whole or absent."""

from pathlib import Path

import pytest

from nodeprep.lab.cache import cached, digest


def write(folder: Path) -> None:
    (folder / "result").write_text("whole")


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    def never(_: Path) -> None:
        raise AssertionError

    cached(tmp_path / "thing", write)
    assert (cached(tmp_path / "thing", never) / "result").read_text() == "whole"


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]


def test_what_a_killed_build_left_behind_is_swept(tmp_path: Path) -> None:
    leftover = tmp_path / ".thing.tmp-killed"
    leftover.mkdir()
    (leftover / "half").touch()
    cached(tmp_path / "thing", write)
    assert not leftover.exists()


def test_ingredients_do_not_run_into_each_other() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", b"b") == digest("a", "b")
