"""Kernel parameters: set now, kept in a file of our own, and watched for a later file's word.

The bridge parameters exist only while ``br_netfilter`` is loaded, so this topic comes after the
modules. Values are compared exactly (``1`` is not ``10``), runs of white space as one space.
"""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass

from nodeprep import files
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Node, Status, Sysctl
from nodeprep.render import render
from nodeprep.shell import Script, quote, words

NAME = "sysctl"
TITLE = "Sysctls"

DROP_IN = "/etc/sysctl.d/99-nodeprep.conf"

BASE = (
    Sysctl(key="net.ipv4.ip_forward", value="1"),
    Sysctl(key="net.bridge.bridge-nf-call-iptables", value="1"),
    Sysctl(key="net.bridge.bridge-nf-call-ip6tables", value="1"),
)
"""What kube-proxy needs in every mode and does not set itself."""


def desired(node: Node) -> tuple[Sysctl, ...]:
    """Return the parameters this node should have; the inventory's word counts over ours."""
    # A key may be written with dots or with slashes: its file is what makes it one.
    wanted = {proc_path(sysctl.key): sysctl for sysctl in (*BASE, *node.desired.sysctls)}
    return tuple(wanted.values())


def proc_path(key: str) -> str:
    """Return the file of a parameter, by the rules of sysctl(8).

    The first separator that appears decides which one separates.

    >>> proc_path("net.ipv4.ip_forward")
    '/proc/sys/net/ipv4/ip_forward'
    >>> proc_path("net/ipv4/conf/eth0.100/rp_filter")
    '/proc/sys/net/ipv4/conf/eth0.100/rp_filter'
    """
    slashed = "/" in key and ("." not in key or key.index("/") < key.index("."))
    path = key if slashed else key.translate(str.maketrans("./", "/."))
    return f"/proc/sys/{path}"


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One line of a sysctl file: where it stands, in the order in which files are read."""

    file: str
    line: int
    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Values in force, ``None`` for a parameter this kernel does not have, and lines in files."""

    values: Mapping[str, str | None]
    assignments: tuple[Assignment, ...]


# One grep reads all values. The shell's own `read` would not do: dash reads byte by byte, and a
# number in /proc/sys has only one byte for a reader of that kind.
# Files of one name in several folders: the first folder counts, as sysctl.d(5) says;
# /etc/sysctl.conf is read last by procps, wherever it is read at all.
_PROBE = """\
set -- %s
for path do [ -e "$path" ] || printf 'absent %%s\\n' "$path"; done
grep -sH '' -- "$@"
grep -sHnE '^[[:space:]]*-?[[:space:]]*(%s)[[:space:]]*=' \\
  /etc/sysctl.d/*.conf /run/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf \\
  /usr/lib/sysctl.d/*.conf /lib/sysctl.d/*.conf /etc/sysctl.conf
:"""


def _script(node: Node) -> str:
    keys = [sysctl.key for sysctl in desired(node)]
    pattern = "|".join((*map(_dotted, keys), "[^#;=]*[*?][^=]*"))
    return _PROBE % (words(*map(proc_path, keys)), pattern)


def _dotted(key: str) -> str:
    return re.sub(r"[./]", "[./]", re.sub(r"([+*?()|^$])", r"[\1]", key))


def parse(text: str) -> Parameters:
    """Read ``absent PATH``, then grep's ``PATH:VALUE`` and ``FILE:LINE:KEY = VALUE`` lines."""
    values: dict[str, str | None] = {}
    found: list[Assignment] = []
    for line in text.splitlines():
        if line.startswith("absent "):
            values[line.removeprefix("absent ")] = None
        elif line.startswith("/proc/sys/"):
            path, _, value = line.partition(":")
            values[path] = " ".join(f"{values.get(path) or ''} {value}".split())
        elif match := re.match(r"(/[^:]+):(\d+):([^=]+)=(.*)", line):
            found.append(_assignment(*match.groups()))
    return Parameters(values=values, assignments=tuple(_in_order(found)))


def _assignment(file: str, number: str, key: str, value: str) -> Assignment:
    # A minus before the key lets sysctl(8) ignore a failure: the line counts all the same.
    name, text = key.strip().removeprefix("-").strip(), " ".join(value.split())
    return Assignment(file=file, line=int(number), key=name, value=text)


def _in_order(found: list[Assignment]) -> list[Assignment]:
    folders = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
    winner: dict[str, str] = {}
    for folder in (*folders, "/lib/sysctl.d"):
        for each in found:
            if each.file.rpartition("/")[0] == folder:
                winner.setdefault(each.file.rpartition("/")[2], each.file)
    counted = [a for a in found if winner.get(a.file.rpartition("/")[2], a.file) == a.file]
    return sorted(counted, key=lambda a: (a.file == "/etc/sysctl.conf", a.file.rpartition("/")[2]))


PARAMETERS = Fact(name="sysctl", script=_script, parse=parse)
FACTS = (PARAMETERS,)


# --- comparing ------------------------------------------------------------------------------


def _value(sysctl: Sysctl, parameters: Parameters) -> str | None:
    return parameters.values.get(proc_path(sysctl.key))


def satisfied(sysctl: Sysctl, actual: str | None) -> bool:
    """Tell whether a value in force is what is wanted."""
    if actual is None:
        return False
    if not sysctl.at_least:
        return actual == " ".join(sysctl.value.split())
    return bool(re.fullmatch(r"-?[0-9]{1,20}", actual)) and int(actual) >= int(sysctl.value)


def override(sysctl: Sysctl, parameters: Parameters) -> Assignment | None:
    """Return the line of a later file that takes our parameter back at the next boot, if any."""
    path = proc_path(sysctl.key)
    later = [
        assignment
        for assignment in parameters.assignments
        if _after_ours(assignment.file) and fnmatch.fnmatchcase(path, proc_path(assignment.key))
    ]
    return later[-1] if later and not satisfied(sysctl, later[-1].value) else None


def _after_ours(file: str) -> bool:
    ours = DROP_IN.rpartition("/")[2]
    return file == "/etc/sysctl.conf" or file.rpartition("/")[2] > ours


def _kept(node: Node, parameters: Parameters) -> tuple[Sysctl, ...]:
    # A minimum is written only where it was needed: writing it everywhere would lower, at the
    # next boot, what a machine's own defaults set higher. Once ours, it stays.
    ours = {proc_path(a.key) for a in parameters.assignments if a.file == DROP_IN}
    return tuple(
        sysctl
        for sysctl in desired(node)
        if not sysctl.at_least
        or proc_path(sysctl.key) in ours
        or not satisfied(sysctl, _value(sysctl, parameters))
    )


def _drop_in(node: Node, parameters: Parameters) -> files.ManagedFile:
    values = {"mark": files.MARK, "sysctls": _kept(node, parameters)}
    return files.ManagedFile(path=DROP_IN, content=render("sysctl.conf.j2", values))


# --- the contract ---------------------------------------------------------------------------


def paths(_: Node) -> tuple[str, ...]:
    """Return our drop-in file."""
    return (DROP_IN,)


def secrets(_: Node) -> tuple[str, ...]:
    """Nothing here is secret."""
    return ()


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Persist, then set: each parameter that differs, and no other."""
    parameters, file = facts[PARAMETERS], _drop_in(node, facts[PARAMETERS])
    written = files.change(NAME, file, facts.file(DROP_IN), adopt=node.desired.adopt)
    wrong = (s for s in desired(node) if not satisfied(s, _value(s, parameters)))
    return (*filter(None, (written,)), *(_set(s, _value(s, parameters)) for s in wrong))


def _set(sysctl: Sysctl, actual: str | None) -> Change:
    was = "not there yet" if actual is None else f"was {actual}"
    return Change(
        topic=NAME,
        subject=sysctl.key,
        summary=f"set {sysctl.key} = {sysctl.value} ({was})",
        action=Script("printf '%s\\n' ") + quote(sysctl.value) + f" >{proc_path(sysctl.key)}",
    )


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how each parameter stands, now and at the next boot, and how our file stands."""
    parameters, file = facts[PARAMETERS], _drop_in(node, facts[PARAMETERS])
    stand = (_finding(sysctl, parameters) for sysctl in desired(node))
    adopt = node.desired.adopt
    return (*stand, files.finding(NAME, file, facts.file(DROP_IN), adopt=adopt))


def _finding(sysctl: Sysctl, parameters: Parameters) -> Finding:
    actual = _value(sysctl, parameters)
    wanted = f"at least {sysctl.value}" if sysctl.at_least else sysctl.value
    late = override(sysctl, parameters)
    if not satisfied(sysctl, actual):
        state, hint = "not there" if actual is None else actual, APPLY
    elif late:
        state = f"{actual} now, {late.value} after a reboot ({late.file}:{late.line})"
        hint = f"take `{late.key}` out of {late.file}, line {late.line}"
    else:
        return Finding(topic=NAME, name=sysctl.key, status=Status.OK, actual=actual or "")
    return Finding(
        topic=NAME, name=sysctl.key, status=Status.FAIL, actual=state, wanted=wanted, hint=hint
    )
