"""Packages: the tools that the proxy mode needs, through the system's own package manager.

What is installed is left at its version: preparing a node for kube-proxy is no upgrade.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Mode, Node, Status
from nodeprep.package_managers import AT_NEXT_BOOT, NONE, Manager, asking, manager
from nodeprep.shell import Script

NAME = "packages"
TITLE = "Packages"

BY_MODE: Mapping[Mode, tuple[str, ...]] = {
    "iptables": ("iptables", "conntrack"),
    "ipvs": ("ipset", "ipvsadm", "iptables", "conntrack"),
    "nftables": ("nftables", "conntrack"),
}
"""kube-proxy runs ipset and iptables itself, and conntrack up to 1.31; ipvsadm is for people."""


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The node's package manager, and versions by the family's names.

    ``at_next_boot`` are packages that were installed into the system that the next boot brings.
    """

    manager: str
    versions: Mapping[str, str]
    at_next_boot: tuple[str, ...] = ()


def desired(node: Node) -> tuple[str, ...]:
    """Return the packages this node should have, by our names."""
    wish = node.desired
    sets = (*(("ipset",) if wish.ipsets else ()), *(("iptables",) if wish.bypass_rules else ()))
    return tuple(dict.fromkeys((*BY_MODE[wish.kube_proxy.mode], *sets, *wish.packages)))


def _script(node: Node) -> str:
    return (
        f"[ ! -e {AT_NEXT_BOOT} ] || sed 's/^/at next boot: /' {AT_NEXT_BOOT}\n"
        f"{asking(desired(node))}\n:"
    )


def parse(text: str) -> Installed:
    """Read ``at next boot: NAME`` lines, ``manager NAME``, then what that one's query prints."""
    waiting = re.findall(r"^at next boot: (\S+)$", text, re.MULTILINE)
    _, name, listing = re.split(r"^manager (\S+)\n?", text, maxsplit=1, flags=re.MULTILINE)
    return Installed(
        manager=name,
        versions=manager(name).parse(listing),
        at_next_boot=tuple(dict.fromkeys(waiting)),
    )


INSTALLED = Fact(name="packages", script=_script, parse=parse)
FACTS = (INSTALLED,)


# --- the contract ---------------------------------------------------------------------------


def paths(_: Node) -> tuple[str, ...]:
    """Files of packages are the package manager's, not ours."""
    return ()


secrets = paths


def _version(family: Manager, installed: Installed, name: str) -> str | None:
    versions = (installed.versions.get(each) for each in family.family_names(name))
    return next(filter(None, versions), None)


def _to_install(node: Node, family: Manager, installed: Installed) -> tuple[str, ...]:
    missing = (n for n in desired(node) if _version(family, installed, n) is None)
    names = (family.family_names(name)[0] for name in missing)
    return tuple(name for name in names if name not in installed.at_next_boot)


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Install what is missing, all at once."""
    installed = facts[INSTALLED]
    family = manager(installed.manager)
    missing = _to_install(node, family, installed)
    if not missing or family.install is None:
        return ()
    directory = node.desired.packages_from or ""
    source = f" from {directory}" if directory else ""
    when = ", for the next boot" if family.at_next_boot else ""
    return (
        Change(
            topic=NAME,
            subject=family.name,
            summary=f"install {', '.join(missing)} with {family.name}{source}{when}",
            action=Script(family.install(missing, directory)),
        ),
    )


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say for each package whether it is there, and in which version."""
    installed = facts[INSTALLED]
    family = manager(installed.manager)
    return tuple(_finding(family, installed, name) for name in desired(node))


def _finding(family: Manager, installed: Installed, name: str) -> Finding:
    version = _version(family, installed, name)
    family_name = family.family_names(name)[0]
    if version:
        return Finding(topic=NAME, name=family_name, status=Status.OK, actual=version)
    actual, hint = _absence(family, installed, family_name)
    return Finding(
        topic=NAME,
        name=family_name,
        status=Status.FAIL,
        actual=actual,
        wanted="installed",
        hint=hint,
    )


def _absence(family: Manager, installed: Installed, name: str) -> tuple[str, str]:
    if name in installed.at_next_boot:
        return "installed for the next boot", "reboot"
    if family is NONE:
        return (
            "no such program, and no package manager that nodeprep knows",
            f"install {name} by hand; on Flatcar as a system extension: systemd-sysext",
        )
    return "not installed", APPLY
