"""What each release of kube-proxy knows: modes, flags, configuration fields.

Read from the sources and release notes of Kubernetes 1.14 to 1.37 (cmd/kube-proxy/app/server.go,
staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go). A release that is not known counts as a
new one: it has everything that was not removed.

>>> knows_flag("logtostderr", Version(1, 26))
False
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from nodeprep.model import Mode


class Version(NamedTuple):
    """A release by its two numbers that matter; patch releases change neither flags nor fields."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


NEWEST = Version(1, 99)

_SINCE: Mapping[str, Version] = {"ipvs-strict-arp": Version(1, 15)}
_REMOVED: Mapping[str, Version] = {"logtostderr": Version(1, 26)}
_MODES: Mapping[Mode, tuple[Version, Version]] = {
    "iptables": (Version(1, 0), NEWEST),
    "ipvs": (Version(1, 8), Version(1, 43)),
    "nftables": (Version(1, 29), NEWEST),
}


def parse_version(text: str) -> Version | None:
    """Read ``v1.20.2``, ``1.34`` or what ``kube-proxy --version`` prints; ``None`` for neither.

    >>> parse_version("Kubernetes v1.29.4+k3s1")
    Version(major=1, minor=29)
    """
    match = re.search(r"(?:^|\bv|\s)(\d+)\.(\d+)", text)
    return Version(int(match[1]), int(match[2])) if match else None


def knows_flag(flag: str, version: Version) -> bool:
    """Tell whether a unit with ``--flag`` starts; an unknown flag ends in a restart loop."""
    return _SINCE.get(flag, version) <= version < _REMOVED.get(flag, Version(99, 0))


def knows_mode(mode: Mode, version: Version) -> bool:
    """Tell whether this release has the mode at all."""
    first, gone = _MODES[mode]
    return first <= version and (version < gone or gone == NEWEST)


def knows_scheduler(scheduler: str, version: Version) -> bool:
    """Tell whether this release accepts an IPVS scheduler; from 1.27 on the kernel alone decides.

    Source: ValidateIPVSSchedulerMethod in kube-proxy up to 1.26, removed by kubernetes#114878.
    """
    return scheduler in _FIRST_SCHEDULERS or version >= Version(1, 27)


_FIRST_SCHEDULERS = frozenset({"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq"})


def feature_gates(mode: Mode, version: Version) -> Mapping[str, bool]:
    """Return the gates without which this release refuses the mode (nftables was alpha in two)."""
    alpha = mode == "nftables" and version in (Version(1, 29), Version(1, 30))
    return {"NFTablesProxyMode": True} if alpha else {}
