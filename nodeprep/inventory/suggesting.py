"""What somebody may have meant by a word that is not known."""

import difflib
from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str], most: int = 1) -> str:
    """Return ``did you mean `worker1`?`` with up to ``most`` close words, or an empty text."""
    close = difflib.get_close_matches(word[:100], list(known), n=most)
    return f"did you mean {', '.join(f'`{one}`' for one in close)}?" if close else ""
