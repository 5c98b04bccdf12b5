"""The entries of one ipset as an inventory gives them: in the file itself, in another, or both.

What is wrong is told entry by entry, each with its place in the file in which it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from nodeprep.inventory.allowed import Surroundings
from nodeprep.inventory.characters import printable
from nodeprep.inventory.entries import Line, lines, listed

LIMIT = 16 * 1024 * 1024
"""The largest file of entries in bytes."""

MOST = 200_000
"""The most entries that an inventory may give a set: the longest of them fill 29 MiB on a node."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an inventory says of a set's entries; ``file`` is a path on this machine, or nothing."""

    type: str
    family: str
    maxelem: int
    entries: Sequence[str]
    file: str | None


def entries(wish: Wish, around: Surroundings) -> tuple[str, ...]:
    """Return the entries in ipset's own form, sorted, each once.

    Raises ValidationError with all that is wrong, in places relative to the set.
    """
    rows = _rows(wish.file, around) if wish.file else ()
    texts = (*wish.entries, *(row.text for row in rows))
    most = min(wish.maxelem, MOST)
    found = listed(wish.type, wish.family, texts, most=most)
    faults = [_fault(wish, rows, at, message) for at, message in found.faults.items()]
    if len(found.entries) > most:
        way_out = "raise `maxelem`" if most == wish.maxelem else "make two sets of them"
        message = f"there are more than {most} entries: {way_out}"
        faults.append(_wrong(message, "entries_from" if wish.file else "entries"))
    if faults:
        raise _refusal(*faults)
    return found.entries


def _rows(path: str, around: Surroundings) -> Sequence[Line]:
    try:
        text = around.read(Path(path))
        if len(text) <= LIMIT:
            return lines(text.decode("utf-8-sig"))
        reason = f"it is larger than {LIMIT // 1024**2} MiB"
    except UnicodeDecodeError:
        reason = "it is no UTF-8 text"
    except OSError as error:
        reason = str(error.strerror)
    raise _refusal(_wrong(f"cannot read {printable(path)}: {reason}", "entries_from"))


def _fault(wish: Wish, rows: Sequence[Line], at: int, message: str) -> InitErrorDetails:
    if at < len(wish.entries):
        return _wrong(message, "entries", at)
    row = rows[at - len(wish.entries)]
    file = printable(wish.file or "")
    return _wrong(message, "entries_from", file=file, line=row.line, column=row.column)


def _wrong(message: str, *path: str | int, **elsewhere: str | int) -> InitErrorDetails:
    context = {"message": message, **elsewhere}
    kind = PydanticCustomError("elsewhere" if elsewhere else "wanted", "{message}", context)
    return InitErrorDetails(type=kind, loc=path, input=None)


def _refusal(*faults: InitErrorDetails) -> ValidationError:
    # Raised by a validator, pydantic puts it into the whole with its places behind the set's own.
    return ValidationError.from_exception_data("ipset", list(faults))
