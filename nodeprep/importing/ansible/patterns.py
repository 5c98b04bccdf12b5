"""Ansible's way to write many hosts in one word: ``web[01:50]``, ``db-[a:f]``, ``n[1:9:2]:2222``.

>>> expanded("db-[a:c].example.com:2222")
(['db-a.example.com', 'db-b.example.com', 'db-c.example.com'], 2222)

The rules are those of Ansible's own reader (lib/ansible/plugins/inventory/__init__.py and
lib/ansible/parsing/utils/addresses.py).
"""

import itertools
import math
import re
import string
from collections.abc import Sequence

from nodeprep.inventory.characters import shown
from nodeprep.inventory.folding import LIMIT

_RANGE = re.compile(r"\[([^\[\]]*)\]")
_LABEL = r"(?:\w|\[[^\[\]]+\])(?:[\w-]|\[[^\[\]]+\])*(?<![_-])"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_BRACKETED = re.compile(r"\[(.+)\]:([0-9]+)")
_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")


def expanded(pattern: str) -> tuple[list[str], int | None]:
    """Return the hosts that one word of an inventory stands for, and their port if it has one.

    Raises ValueError with what is wrong.
    """
    host, port = _split(pattern)
    if "[" not in host and "]" not in host:
        return [host], port
    pieces = _RANGE.split(host)
    if any(c in literal for literal in pieces[::2] for c in "[]"):
        raise ValueError(f"a bracket of {shown(pattern)} is not closed")
    axes = [_axis(piece) if at % 2 else [piece] for at, piece in enumerate(pieces)]
    if math.prod(map(len, axes)) > LIMIT:
        raise ValueError(f"{shown(pattern)} stands for more than {LIMIT} hosts")
    return ["".join(parts) for parts in itertools.product(*axes)], port


def _split(pattern: str) -> tuple[str, int | None]:
    found = _BRACKETED.fullmatch(pattern) or _WITH_PORT.fullmatch(pattern)
    if found and (_is_ip6(found[1]) or _HOST.fullmatch(found[1])):
        return found[1], int(found[2])
    if pattern.endswith(":"):
        raise ValueError(f"{shown(pattern)} ends in a colon, behind which a port should stand")
    return pattern, None


def _is_ip6(text: str) -> bool:
    return text.count(":") > 1 and bool(re.fullmatch(r"[0-9A-Fa-f:.]+", text))


def _axis(content: str) -> Sequence[str]:
    bounds = content.split(":")
    if len(bounds) not in {2, 3}:
        raise ValueError(f"{shown(f'[{content}]')} is no range: write [first:last] or [1:9:2]")
    first, last, step = bounds[0] or "0", bounds[1], (bounds[2] if bounds[2:] else "1")
    if not last:
        raise ValueError(f"{shown(f'[{content}]')} has no end")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", step):
        raise ValueError(f"{shown(f'[{content}]')} has no step that leads on")
    if len(first) == 1 and len(last) == 1 and first.isalpha() and last.isalpha():
        return _letters(content, first, last, int(step))
    if not re.fullmatch(r"[0-9]{1,18}", first) or not re.fullmatch(r"[0-9]{1,18}", last):
        raise ValueError(f"{shown(f'[{content}]')} is no range: numbers, or single letters")
    return _numbers(content, first, last, int(step))


def _letters(content: str, first: str, last: str, step: int) -> Sequence[str]:
    known = string.ascii_letters
    if first not in known or last not in known or known.index(first) > known.index(last):
        raise ValueError(f"{shown(f'[{content}]')} runs backwards")
    return known[known.index(first) : known.index(last) + 1 : step]


def _numbers(content: str, first: str, last: str, step: int) -> Sequence[str]:
    width = len(first) if first.startswith("0") and len(first) > 1 else 0
    if width and width != len(last):
        raise ValueError(f"{shown(f'[{content}]')} mixes widths: write [001:100], or [1:100]")
    numbers = range(int(first), int(last) + 1, step)
    if not numbers:
        raise ValueError(f"{shown(f'[{content}]')} runs backwards")
    if len(numbers) > LIMIT:
        raise ValueError(f"{shown(f'[{content}]')} stands for more than {LIMIT} hosts")
    return [f"{number:0{width}d}" for number in numbers]
