"""Connections that the kernel follows, against the maximum: a full table drops new ones."""

from dataclasses import dataclass

from nodeprep.model import Fact


@dataclass(frozen=True, kw_only=True)
class Conntrack:
    """Entries in use and their maximum; both are 0 where connections are not followed."""

    used: int = 0
    maximum: int = 0

    @property
    def percent(self) -> float:
        """How full the table is."""
        return 100 * self.used / self.maximum if self.maximum else 0.0


SCRIPT = """\
cat /proc/sys/net/netfilter/nf_conntrack_count /proc/sys/net/netfilter/nf_conntrack_max
:"""


def parse(text: str) -> Conntrack:
    r"""Read the two numbers, a line each; an empty answer is that of a kernel without conntrack.

    >>> round(parse("1024\n65536\n").percent, 2)
    1.56
    """
    if not text.strip():
        return Conntrack()
    used, maximum = map(int, text.split())
    return Conntrack(used=used, maximum=maximum)


FACT = Fact(name="dataplane.conntrack", script=lambda _: SCRIPT, parse=parse)
