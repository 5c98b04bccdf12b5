"""What nodes answered: ``facts/FACT/SYSTEM.json`` holds an answer, its source, and its meaning.

docs/facts-sources.md tells which system has which, and what of it was framed by us.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from nodeprep.model import Fact

T = TypeVar("T")

FOLDER = Path(__file__).parent


def folders() -> frozenset[str]:
    """Return the names of the facts that have recordings."""
    return frozenset(path.parent.name for path in FOLDER.glob("*/*.json"))


def systems(fact: str) -> list[str]:
    """Return the names of the systems that have a recording of this fact."""
    return sorted(path.stem for path in (FOLDER / fact).glob("*.json"))


def recording(fact: str, system: str) -> Mapping[str, Any]:
    """Return one recording: its system, source, output and value."""
    text = (FOLDER / fact / f"{system}.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def read(fact: Fact[T], system: str) -> T:
    """Return what the recorded output of a system means."""
    return fact.parse(recording(fact.name, system)["output"])
