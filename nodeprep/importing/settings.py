"""Settings on their way into our inventory: does it take them, and where do their paths begin."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

from nodeprep.importing.imported import Key, Value
from nodeprep.importing.writing import complaint

_PATHS = frozenset({("ssh", "identity_file"), ("ssh", "known_hosts"), ("ssh", "config")})


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where relative paths begin: ``here`` is put before them, None leaves them as they are.

    For Ansible and ssh they begin where the command runs, in our inventory at its own folder.
    """

    here: PurePath | None = None

    def told(self, path: str) -> str:
        """Return a path as our inventory should have it; ``%d`` is the user's home for ssh."""
        path = path.replace("${HOME}", "~").replace("$HOME", "~")
        path = f"~{path[2:]}" if path.startswith("%d/") else path
        return path if self.here is None or path.startswith(("/", "~")) else str(self.here / path)

    def of(self, settings: Mapping[Key, Value]) -> Mapping[Key, Value]:
        """Return settings with all their paths told so."""
        return {key: self._of(value) if key in _PATHS else value for key, value in settings.items()}

    def _of(self, value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(map(self.told, value))
        return self.told(value) if isinstance(value, str) else value


@lru_cache(maxsize=65536, typed=True)  # ten thousand nodes have the same few
def fitting(key: Key, value: Value) -> str:
    """Return why our inventory does not take a setting, or an empty text."""
    return complaint(key, value)
