"""How answers travel: named frames around whatever a snippet prints.

A node's answer is mixed with what we did not ask for: login banners, noise of start-up files,
escape sequences. So each answer stands between a ``begin`` and an ``end`` line that carry a nonce
which nothing on the node could know, and a last line counts them. What is torn, doubled or
missing is a :class:`~nodeprep.errors.FactError`, never a wrong fact.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from nodeprep.errors import FactError
from nodeprep.shell import Script

CAP = 1 << 20
"""Bytes that one session may answer; more is an error, not a fact."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What one snippet printed on its standard output, and its exit status."""

    body: bytes
    exit_status: int

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 stay visible as ``\\xNN``."""
        return self.body.decode("utf-8", "backslashreplace")


Answers = Mapping[str, Frame]


def open_frames(nonce: str) -> str:
    """Return the shell functions ``begin NAME``, ``end NAME STATUS`` and ``total``.

    The controller may be gone while they print: a closed pipe is not the node's failure.
    """
    return (
        "frames=0\n"
        f"begin() {{ printf '\\n@{nonce} begin %s\\n' \"$1\" 2>/dev/null || :; }}\n"
        f"end() {{ frames=$((frames + 1)); "
        f'printf \'\\n@{nonce} end %s %d\\n\' "$1" "$2" 2>/dev/null || :; }}\n'
        f"total() {{ printf '\\n@{nonce} total %d\\n' \"$frames\" 2>/dev/null || :; }}\n"
    )


def framed(name: str, body: Script | str) -> Script:
    """Return ``body`` with its answer framed as ``name``; what it says on stderr is dropped."""
    return Script(f"begin {name}\n{{\n") + body + f"\n}} </dev/null 2>/dev/null\nend {name} $?\n"


def parse(output: bytes, nonce: str) -> Mapping[str, Frame]:
    """Return the frames of a complete answer, by name.

    Raises FactError where a frame is torn or doubled, or where the last line does not count them.
    """
    frames = dict(_frames(output, nonce.encode()))
    total = re.search(rb"\n@%s total (\d{1,6})\n" % nonce.encode(), output)
    if total is None:
        raise FactError("the answer stops before its end", hint="run the command again")
    if int(total.group(1)) != len(frames):
        raise FactError(
            f"the answer has {len(frames)} frames and should have {int(total.group(1))}"
        )
    return frames


def parse_partial(output: bytes, nonce: str) -> Mapping[str, Frame]:
    """Return the frames that did arrive, for telling how far a lost session came."""
    return dict(_frames(output, nonce.encode()))


def _frames(output: bytes, nonce: bytes) -> list[tuple[str, Frame]]:
    # One pass over the marks: a pattern for whole frames would take a time that grows with the
    # square of what a hostile node sends.
    mark = rb"\n@%s (?:begin ([\w.:-]+)|end ([\w.:-]+) (\d{1,3}))\n" % nonce
    marks = list(re.finditer(mark, output))
    found = [
        (name.decode(), Frame(body=output[begin.end() : end.start()], exit_status=int(end[3])))
        for begin, end in pairwise(marks)
        if (name := begin[1]) is not None and name == end[2]
    ]
    names = [name for name, _ in found]
    if len(set(names)) != len(names):
        raise FactError("the answer has the same frame twice")
    return found
