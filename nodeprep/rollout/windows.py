"""The hours in which nodes may be begun, by the controller's own clock and time zone."""

import re
from dataclasses import dataclass
from datetime import datetime, time

from nodeprep.errors import UsageError


@dataclass(frozen=True)
class Window:
    """From ``begin`` to ``end``, over midnight where ``end`` comes first."""

    begin: time
    end: time

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"

    def refusal(self, now: datetime) -> str:
        """Return why no node may be begun at this local time, or nothing."""
        at = now.time()
        if self.begin < self.end:
            is_open = self.begin <= at < self.end
        else:
            is_open = at >= self.begin or at < self.end
        return "" if is_open else f"the window {self} is closed"


def parse_window(text: str) -> Window:
    """Read ``22:00-05:30``. Raises UsageError for anything else, and for a window of no length."""
    match = re.fullmatch(r"(\d{2}:\d{2})-(\d{2}:\d{2})", text.strip())
    try:
        begin, end = map(time.fromisoformat, match.groups()) if match else (None, None)
    except ValueError:
        begin = end = None
    if begin is None or end is None or begin == end:
        raise UsageError(f"--window: {text!r} is no window", hint="--window 22:00-05:30")
    return Window(begin, end)
