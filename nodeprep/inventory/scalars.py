"""What an unquoted word of YAML means here: text, a decimal number, true or false.

YAML has many more readings: ``NO`` is false, ``0644`` is 420, ``12:30:45`` is 45045, ``1.20`` is
1.2, and readers do not agree on them. Each is refused, with what YAML would have read and what to
type instead.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import yaml

from nodeprep.inventory.characters import SHOWN, shown

_DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DISPUTED = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7]+|[-+]?[0-9]+[eE][-+]?[0-9]+")
_INSTEAD_OF_NOTHING = "write a value, '' for an empty text, or remove the key"
_TAG = "tag:yaml.org,2002:"
_RESOLVE: Callable[[type[yaml.Node], str, tuple[bool, bool]], str] = (
    yaml.resolver.Resolver().resolve
)
_VALUES = yaml.constructor.SafeConstructor()


@lru_cache(maxsize=1024)  # the same few keys stand in every entry
def plain(text: str) -> str | int | bool:
    """Return what the unquoted word ``text`` stands for.

    Raises ValueError, with a message for the user, where a reader of YAML could be surprised.
    """
    if text in {"true", "false"}:
        return text == "true"
    if _DECIMAL.fullmatch(text):
        return int(text)
    if reading := _surprise(text):
        raise ValueError(reading)
    return text


def _surprise(text: str) -> str:
    """Return what a reader of YAML could take ``text`` for and what to type, or an empty text."""
    kind = _RESOLVE(yaml.ScalarNode, text, (True, False)).removeprefix(_TAG)
    quoted = f"write '{text}' in quotes" if len(text) <= SHOWN else "write it in quotes"
    match kind:
        case "null" if text:
            told = f"YAML reads {shown(text)} as nothing: {_INSTEAD_OF_NOTHING}"
        case "null":
            told = f"there is no value: {_INSTEAD_OF_NOTHING}"
        case "merge":
            told = "merge keys are not read: put what nodes share into a group"
        case "timestamp":
            told = f"YAML reads {shown(text)} as a date: {quoted}"
        case "int" | "float":
            told = f"YAML reads {shown(text)} as {_number(kind, text)}: {quoted}"
        case "bool":
            told = f"YAML reads {shown(text)} as {_truth(text)}: write true or false, or {quoted}"
        case "str" if not _DISPUTED.fullmatch(text):
            told = ""
        case _:
            told = f"readers of YAML do not agree on {shown(text)}: {quoted}"
    return told


def _truth(text: str) -> str:
    truth = text.lower() in {"yes", "true", "on"}
    return "true" if truth else "false"


def _number(kind: str, text: str) -> str:
    node = yaml.ScalarNode(_TAG + kind, text)
    construct = _VALUES.construct_yaml_int if kind == "int" else _VALUES.construct_yaml_float
    try:
        return f"the number {construct(node)}"[:40]
    except (ValueError, OverflowError):
        return "a number"
