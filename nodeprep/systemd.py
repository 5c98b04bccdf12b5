"""A unit as systemd sees it, and its process as the kernel does."""

import re
from dataclasses import dataclass

from nodeprep.sharing import EACH_LINE, LAST_LINE, Search
from nodeprep.shell import words


@dataclass(frozen=True, kw_only=True)
class Service:
    """The unit as systemd sees it, by its own property names; times in seconds of the node's clock.

    ``load`` is empty where systemd does not run; ``offline`` says that it is there all the same,
    as in an image. ``started`` is ``None`` where nothing runs.
    """

    load: str = ""
    offline: bool = False
    active: str = ""
    enabled: str = ""
    fragment: str = ""
    drop_ins: tuple[str, ...] = ()
    needs_reload: bool = False
    pid: int = 0
    started: int | None = None
    now: int = 0


def script(unit: str) -> str:
    """Return the statements that ask for a unit; without systemd they print nothing of it."""
    searched = {"search": BOOT.script, "each": EACH_LINE, "last": LAST_LINE}
    return _SCRIPT % {"unit": words(unit), **searched}


BOOT = Search(name="boot", pattern="^btime ", files=("/proc/stat",))
"""The line with the time of boot, which /proc counts from."""


# Field 22 of /proc/PID/stat counts from boot, in hundredths of a second on every architecture.
_SCRIPT = """\
if command -v systemctl >/dev/null; then
  unit_shown %(unit)s
  printf '%%s\\n' "$shown"
  # In an image that is not booted, systemctl still knows what is enabled.
  [ "$shown" ] || printf 'Offline=yes\\nUnitFileState=%%s\\n' "$(systemctl is-enabled %(unit)s)"
  pid=${shown##*MainPID=}
  pid=${pid%%%%[!0-9]*}
  if [ "${pid:-0}" -gt 0 ]; then
    read -r process <"/proc/$pid/stat" && printf 'Process=%%s\\n' "$process"
    %(search)s%(each)s      case $line in /proc/stat:*) printf '%%s\\n' "${line#*:*:}" ;; esac
    %(last)s  fi
fi
if [ "${clock:-}" ]; then echo "now=$clock"; else date +now=%%s; fi"""


def parse(text: str) -> Service:
    """Read ``systemctl show`` and, where something runs, what /proc says of its start."""
    shown = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    boot = re.search(r"^btime (\d+)$", text, re.MULTILINE)
    # The command's name may hold spaces and brackets: count from behind its last bracket.
    after_name = shown.get("Process", "").rpartition(")")[2].split()
    ticks = int(after_name[19]) if len(after_name) > 19 and boot else None  # noqa: PLR2004
    return Service(
        load=shown.get("LoadState", ""),
        offline=shown.get("Offline") == "yes",
        active=shown.get("ActiveState", ""),
        enabled=shown.get("UnitFileState", ""),
        fragment=shown.get("FragmentPath", ""),
        drop_ins=tuple(shown.get("DropInPaths", "").split()),
        needs_reload=shown.get("NeedDaemonReload") == "yes",
        pid=int(shown.get("MainPID") or 0),
        started=int(boot[1]) + ticks // 100 if boot and ticks is not None else None,
        now=int(shown.get("now") or 0),
    )
