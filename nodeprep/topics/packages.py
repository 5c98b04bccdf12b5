"""Packages: the tools that the proxy mode needs, through the system's own package manager.

A package manager is one :class:`Manager` value; adding one is adding a value. What is installed
is left at its version: preparing a node for kube-proxy is no upgrade.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Mode, Node, Status
from nodeprep.shell import Script, words

NAME = "packages"
TITLE = "Packages"

LOCK_SECONDS = 300
"""How long an install waits for another one on the node, such as an unattended upgrade."""

BY_MODE: Mapping[Mode, tuple[str, ...]] = {
    "iptables": ("iptables", "conntrack"),
    "ipvs": ("ipset", "ipvsadm", "iptables", "conntrack"),
    "nftables": ("nftables", "conntrack"),
}
"""kube-proxy runs ipset and iptables itself, and conntrack up to 1.31; ipvsadm is for people."""


@dataclass(frozen=True, kw_only=True)
class Manager:
    """One package manager.

    ``program`` tells that the system has it. ``names`` maps our names to the family's, of which
    the first is installed and any counts. ``query`` prints what is installed, ``parse`` reads
    that into versions by name, ``install`` returns the shell statements that install.
    """

    name: str
    program: str
    names: Mapping[str, tuple[str, ...]]
    query: str
    parse: Callable[[str], Mapping[str, str]]
    install: Callable[[tuple[str, ...]], str]


# --- apt ------------------------------------------------------------------------------------


def parse_dpkg(text: str) -> Mapping[str, str]:
    """Read ``ii  NAME VERSION`` lines; a package whose files are gone (``rc``) is not installed."""
    rows = (line.split() for line in text.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0].endswith("i")}  # noqa: PLR2004


# needrestart would restart services that are none of our business. The lists are fetched only where
# the install fails without; their lock is the one that apt itself does not wait for.
def _install_with_apt(names: tuple[str, ...]) -> str:
    return f"""\
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
set -- apt-get -q -y -o DPkg::Lock::Timeout={LOCK_SECONDS} -o Dpkg::Use-Pty=0 \\
  -o Dpkg::Options::=--force-confold \\
  install --no-install-recommends --no-upgrade --no-remove {words(*names)}
"$@" && return
dpkg --configure -a
tries=0
until said=$(apt-get -q update 2>&1); do
  case $tries-$said in
    [0-9]-*lists/lock* | [12][0-9]-*lists/lock*) sleep {LOCK_SECONDS // 30}; tries=$((tries + 1)) ;;
    *) break ;;
  esac
done
printf '%s\\n' "$said"
"$@\""""


APT = Manager(
    name="apt",
    program="apt-get",
    names={},
    query="dpkg-query -W -f='${db:Status-Abbrev} ${Package} ${Version}\\n' -- %s",
    parse=parse_dpkg,
    install=_install_with_apt,
)


# --- dnf and yum ----------------------------------------------------------------------------


def parse_rpm(text: str) -> Mapping[str, str]:
    """Read ``NAME VERSION-RELEASE`` lines; ``package x is not installed`` is no such line."""
    return dict(re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE))


def _install_with(program: str) -> Callable[[tuple[str, ...]], str]:
    # Both wait for another run's lock by themselves; the limit keeps them from waiting for ever.
    return lambda names: f"timeout {LOCK_SECONDS + 600} {program} -q -y install {words(*names)}"


_EL_NAMES = {
    "conntrack": ("conntrack-tools",),
    "iptables": ("iptables", "iptables-nft", "iptables-legacy"),
}
_RPM_QUERY = "timeout 20 rpm -q --qf '%%{NAME} %%{VERSION}-%%{RELEASE}\\n' %s"

DNF = Manager(
    name="dnf",
    program="dnf",
    names=_EL_NAMES,
    query=_RPM_QUERY,
    parse=parse_rpm,
    install=_install_with("dnf"),
)
YUM = Manager(
    name="yum",
    program="yum",
    names=_EL_NAMES,
    query=_RPM_QUERY,
    parse=parse_rpm,
    install=_install_with("yum"),
)


# --- zypper ---------------------------------------------------------------------------------


def _install_with_zypper(names: tuple[str, ...]) -> str:
    return (
        f"timeout {LOCK_SECONDS + 600} zypper --non-interactive --quiet install"
        f" --no-recommends {words(*names)}"
    )


ZYPPER = Manager(
    name="zypper",
    program="zypper",
    names={"conntrack": ("conntrack-tools",)},
    query=_RPM_QUERY,
    parse=parse_rpm,
    install=_install_with_zypper,
)

MANAGERS = (APT, DNF, YUM, ZYPPER)
"""In the order in which they are looked for: where there is dnf, yum is another name for it."""


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The node's package manager, ``None`` where it has none we know, and versions by name."""

    manager: str | None
    versions: Mapping[str, str]


def desired(node: Node) -> tuple[str, ...]:
    """Return the packages this node should have, by our names."""
    proxy = node.desired.kube_proxy
    return tuple(dict.fromkeys((*BY_MODE[proxy.mode], *node.desired.packages)))


def _family_names(manager: Manager, name: str) -> tuple[str, ...]:
    return manager.names.get(name, (name,))


def _script(node: Node) -> str:
    branches = "\nel".join(
        f"if command -v {manager.program} >/dev/null; then\n"
        f"  echo manager {manager.name}\n"
        f"  {manager.query % words(*_asked(manager, node))}"
        for manager in MANAGERS
    )
    return f"{branches}\nfi\n:"


def _asked(manager: Manager, node: Node) -> tuple[str, ...]:
    return tuple(each for name in desired(node) for each in _family_names(manager, name))


def parse(text: str) -> Installed:
    """Read ``manager NAME``, then what that manager's query prints."""
    head, _, rest = text.partition("\n")
    manager = _manager(head.removeprefix("manager "))
    if manager is None:
        return Installed(manager=None, versions={})
    return Installed(manager=manager.name, versions=manager.parse(rest))


def _manager(name: str | None) -> Manager | None:
    return next((manager for manager in MANAGERS if manager.name == name), None)


INSTALLED = Fact(name="packages", script=_script, parse=parse)
FACTS = (INSTALLED,)


# --- the contract ---------------------------------------------------------------------------


def paths(_: Node) -> tuple[str, ...]:
    """Files of packages are the package manager's, not ours."""
    return ()


secrets = paths


def _missing(node: Node, manager: Manager, installed: Installed) -> tuple[str, ...]:
    return tuple(n for n in desired(node) if _version(manager, installed, n) is None)


def _version(manager: Manager, installed: Installed, name: str) -> str | None:
    versions = (installed.versions.get(each) for each in _family_names(manager, name))
    return next(filter(None, versions), None)


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Install what is missing, all at once."""
    installed = facts[INSTALLED]
    manager = _manager(installed.manager)
    if manager is None:
        return ()
    missing = tuple(_family_names(manager, name)[0] for name in _missing(node, manager, installed))
    if not missing:
        return ()
    return (
        Change(
            topic=NAME,
            subject=manager.name,
            summary=f"install {', '.join(missing)} with {manager.name}",
            action=Script(manager.install(missing)),
        ),
    )


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say for each package whether it is there, and in which version."""
    installed = facts[INSTALLED]
    manager = _manager(installed.manager)
    if manager is None:
        return (_no_manager(node),)
    return tuple(_finding(manager, installed, name) for name in desired(node))


def _finding(manager: Manager, installed: Installed, name: str) -> Finding:
    version = _version(manager, installed, name)
    family_name = _family_names(manager, name)[0]
    if version:
        return Finding(topic=NAME, name=family_name, status=Status.OK, actual=version)
    return Finding(
        topic=NAME,
        name=family_name,
        status=Status.FAIL,
        actual="not installed",
        wanted="installed",
        hint=APPLY,
    )


def _no_manager(node: Node) -> Finding:
    return Finding(
        topic=NAME,
        name="package manager",
        status=Status.FAIL,
        actual="none that nodeprep knows",
        wanted=", ".join(manager.name for manager in MANAGERS),
        hint=f"install {' '.join(desired(node))} by hand",
    )
