"""What topics ask together: one program answers the questions of all of them.

On a small node, to start a program costs more than all that the shell itself does. So lines of
files are found by one grep, and units are asked of systemd at once. What was found stays in
variables of the shell: each fact takes its share, and prints it in a form of its own. A fact that
is asked alone asks for itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nodeprep.model import Node
from nodeprep.shell import words


@dataclass(frozen=True, kw_only=True)
class Search:
    """Lines of ``files`` that ``pattern`` matches, an extended regular expression.

    ``files`` are words of the shell, patterns of names among them. ``name`` is one word. Lines of
    the files that others' patterns match are found as well: who reads them takes only what it
    knows.
    """

    name: str
    pattern: str
    files: tuple[str, ...]

    @property
    def script(self) -> str:
        """Statements after which ``$lines`` has these lines and others, as ``FILE:NUMBER:LINE``."""
        return (
            f"case ${{searched:-}} in *' {self.name} '*) ;; *)\n"
            f"  searched=' {self.name} '\n"
            f"  lines=$(grep -sHnE {words(self.pattern)} {' '.join(self.files)}) ;;\n"
            "esac\n"
        )


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of systemd's that is asked about where ``condition``, a shell command, holds."""

    name: str
    condition: str = ":"


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one topic asks together with others, on one node."""

    searches: tuple[Search, ...] = ()
    units: tuple[Unit, ...] = ()


def each_of(variable: str) -> str:
    """Return the beginning of a loop over the lines of a variable; :data:`LAST_LINE` ends it."""
    return f"set -f\nIFS='\n'\nfor line in ${variable}; do\n"


EACH_LINE = each_of("lines")
"""Begins a loop over what a search found."""

LAST_LINE = """\
done
set +f
unset IFS
"""

_PROPERTIES = " ".join(
    f"-p {name}"
    for name in (
        *("Id", "LoadState", "ActiveState", "UnitFileState", "FragmentPath", "DropInPaths"),
        *("NeedDaemonReload", "MainPID", "ExecMainStartTimestampMonotonic"),
    )
)

UNIT_SHOWN = f"""\
units=
ask_units() {{
  command -v systemctl >/dev/null || set --
  units=$*
  units_shown=
  [ $# -eq 0 ] || units_shown=$(timeout 10 systemctl show {_PROPERTIES} "$@")
}}
unit_shown() {{
  # shellcheck disable=SC2086
  case " $units " in *" $1 "*) ;; *) ask_units $units "$1" ;; esac
  remaining=$units_shown
  for unit in $units; do
    shown=${{remaining%%"

"*}}
    [ "$unit" != "$1" ] || return 0
    remaining=${{remaining#"$shown"}}
    remaining=${{remaining#"

"}}
  done
  shown=
}}
"""
"""Defines ``unit_shown UNIT``: sets ``$shown`` to what systemd says of it, nothing where it is not
running; and ``ask_units UNIT...``, which asks for several at once."""


def script(shares: Iterable[Share]) -> str:
    """Return statements that ask what topics share, for the facts that follow."""
    shares = list(shares)
    searches = {search.name: search for share in shares for search in share.searches}
    units = dict.fromkeys(unit for share in shares for unit in share.units)
    return _search(list(searches.values())) + _units(list(units))


def _search(searches: list[Search]) -> str:
    if not searches:
        return "unset searched\n"
    pattern = "|".join(f"({search.pattern})" for search in searches)
    files = dict.fromkeys(file for search in searches for file in search.files)
    names = " ".join(search.name for search in searches)
    grep = f"grep -sHnE {words(pattern)} \\\n  {' '.join(files)}"
    return f"searched=' {names} '\n{{ lines=$({grep}); }} 2>/dev/null </dev/null\n"


def _units(units: list[Unit]) -> str:
    if not units:
        return "units=\n"
    chosen = "".join(
        f'{unit.condition} && set -- "$@" {words(unit.name)}\n' if unit.condition != ":" else ""
        for unit in units
    )
    always = words(*(unit.name for unit in units if unit.condition == ":"))
    return f'set -- {always}\n{chosen}{{ ask_units "$@"; }} 2>/dev/null </dev/null\n'


def of(topics: Iterable[object], node: Node) -> tuple[Share, ...]:
    """Return what those of ``topics`` that share questions ask together of ``node``."""
    return tuple(topic.share(node) for topic in topics if hasattr(topic, "share"))
