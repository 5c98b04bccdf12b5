"""The ipsets: how many, and how full.

A set of a hash type takes ``maxelem`` entries and refuses the next: kube-proxy then leaves services
out of its rules (kubernetes#129389). Only headers are asked for, so that a set of a million
addresses costs no more than an empty one. A set made with ``forceadd`` drops an entry for a new one
instead; a header does not say so (seen with ipset 7.17), and it is told as full like any other.
"""

from dataclasses import dataclass

from nodeprep.model import Fact
from nodeprep.rollout.artefacts import LOOKING

NEARLY_FULL = 80
"""Percent of its maximum from which a set is named."""

NAMED = 50
"""Sets that are named at most."""


@dataclass(frozen=True, kw_only=True)
class IpSet:
    """A set that has a maximum."""

    name: str
    entries: int
    maximum: int

    @property
    def percent(self) -> float:
        """How full it is."""
        return 100 * self.entries / self.maximum if self.maximum else 0.0

    @property
    def own(self) -> bool:
        """Whether its name is one that kube-proxy would give."""
        return self.name.startswith("KUBE-")


@dataclass(frozen=True, kw_only=True)
class IpSets:
    """All sets and their entries; ``named`` are those to know of, fullest first.

    These are the fullest one, those that are nearly full, and kube-proxy's own that are not empty.
    """

    sets: int = 0
    entries: int = 0
    own_sets: int = 0
    own_entries: int = 0
    named: tuple[IpSet, ...] = ()

    @property
    def fullest(self) -> IpSet | None:
        """The set that has the least room left, by its share."""
        return self.named[0] if self.named else None

    @property
    def nearly_full(self) -> tuple[IpSet, ...]:
        """Those above 80 percent."""
        return tuple(one for one in self.named if one.percent > NEARLY_FULL)


# Types without maxelem, bitmaps and lists, have a place for all that they can hold.
_COUNTING = """\
function done(  share) {
  if (name == "") return
  sets++
  entries += many
  own = name ~ /^KUBE-/
  if (own) { own_sets++; own_entries += many }
  if (!maximum) return
  share = many / maximum
  if (share > most || fullest == "") { most = share; fullest = line() }
  if (share > @NEARLY@ / 100 && named < @NAMED@) { named++; print "set " line() }
  else if (own && many && owned < @NAMED@) { owned++; print "set " line() }
}
function line() { return name " " many + 0 " " maximum }
$1 == "Name:" { done(); name = $2; many = maximum = 0 }
$1 == "Header:" { for (i = 2; i < NF; i++) if ($i == "maxelem") maximum = $(i + 1) }
/^Number of entries:/ { many = $4 }
END {
  done()
  if (sets) print "sets", sets, entries + 0, own_sets + 0, own_entries + 0
  if (fullest != "") print "set", fullest
}
"""

SCRIPT = (
    LOOKING
    + """\
may_look ip_set && ipset list -t 2>/dev/null | awk '@COUNTING@'
:""".replace("@COUNTING@", _COUNTING)
    .replace("@NEARLY@", str(NEARLY_FULL))
    .replace("@NAMED@", str(NAMED))
)


def parse(text: str) -> IpSets:
    r"""Read ``set NAME ENTRIES MAXIMUM`` lines, and ``sets`` with four sums.

    >>> parse("set KUBE-CLUSTER-IP 8 65536\nsets 17 20 16 19\n").fullest.entries
    8
    """
    lines = [line.split(" ") for line in text.splitlines()]
    sums = next((words for kind, *words in lines if kind == "sets"), ["0"] * 4)
    sets, entries, own_sets, own_entries = map(int, sums)
    named = {one.name: one for one in (_set(words) for kind, *words in lines if kind == "set")}
    return IpSets(
        sets=sets,
        entries=entries,
        own_sets=own_sets,
        own_entries=own_entries,
        named=tuple(sorted(named.values(), key=lambda one: (-one.percent, one.name))),
    )


def _set(words: list[str]) -> IpSet:
    name, entries, maximum = words
    return IpSet(name=name, entries=int(entries), maximum=int(maximum))


FACT = Fact(name="dataplane.sets", script=lambda _: SCRIPT, parse=parse)
