"""The kinds of nodes: apt, dnf, zypper. Adding one is adding a value.

A kind is the package manager that a node has, and no other is there to be found. All else is the
same for all: Debian's kernel, its programs and how it boots. Debian has dnf and zypper as packages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nodeprep.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of node.

    ``variant`` is what mmdebstrap begins with, ``packages`` are Debian's, in the image beside those
    of every image, and ``guest`` the folders of ``guest`` whose files come into it.
    ``source`` is the file that tells a node where packages are, ``source_text`` what is in it, with
    ``{url}`` for the repository. ``rpm_names`` maps Debian's names of packages to the family's, and
    is None where packages are Debian's own.
    """

    name: str
    variant: str
    packages: tuple[str, ...]
    guest: tuple[str, ...]
    source: str
    source_text: str
    rpm_names: Mapping[str, str] | None = None


_REPOSITORY = "[lab]\nname=The lab\nbaseurl={url}\nenabled=1\ngpgcheck=0\n"

APT = Kind(
    name="apt",
    variant="minbase",
    packages=("iptables",),
    guest=("files", "apt"),
    source="etc/apt/sources.list",
    source_text="deb [trusted=yes] {url} ./\n",
)
# On Enterprise Linux 9 and 10 no package is named iptables: one that provides it is.
DNF = Kind(
    name="dnf",
    variant="essential",
    packages=("dnf", "rpm"),
    guest=("files", "rpm"),
    source="etc/yum.repos.d/lab.repo",
    source_text=_REPOSITORY,
    rpm_names={"conntrack": "conntrack-tools", "iptables": "iptables-nft"},
)
ZYPPER = Kind(
    name="zypper",
    variant="essential",
    packages=("zypper", "rpm"),
    guest=("files", "rpm"),
    source="etc/zypp/repos.d/lab.repo",
    source_text=f"{_REPOSITORY}autorefresh=1\n",
    rpm_names={"conntrack": "conntrack-tools"},
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (APT, DNF, ZYPPER)}
"""All kinds by name."""


def kind(name: str) -> Kind:
    """Return the kind of this name. Raises UsageError if there is none."""
    if name not in KINDS:
        raise UsageError(f"no kind of node is named {name!r}", hint=f"--kinds {','.join(KINDS)}")
    return KINDS[name]


def with_packages(kind: Kind, installed: tuple[str, ...]) -> Kind:
    """Return a kind whose image has more of Debian's packages."""
    return replace(kind, packages=(*kind.packages, *installed))
