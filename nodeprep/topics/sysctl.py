"""Kernel parameters: set now, kept in a file of our own, and watched for a later file's word.

The bridge parameters exist only while ``br_netfilter`` is loaded, so this topic comes after the
modules. Values are compared exactly (``1`` is not ``10``), runs of white space as one space.
"""

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodeprep import files
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Node, Status, Sysctl
from nodeprep.proxy_sysctls import CONNTRACK_MAX, FORWARD6, needed, overruled
from nodeprep.render import render
from nodeprep.sharing import EACH_LINE, LAST_LINE, Search, Share
from nodeprep.shell import Script, quote, words

NAME = "sysctl"
TITLE = "Sysctls"

DROP_IN = "/etc/sysctl.d/99-nodeprep.conf"


def asked_for(node: Node, release: str) -> tuple[Sysctl, ...]:
    """Return the parameters that are asked about: ours, and the inventory's, whose word counts."""
    needed_ = needed(node.desired.kube_proxy, release)
    # A key may be written with dots or with slashes: its file is what makes it one.
    wanted = {proc_path(sysctl.key): sysctl for sysctl in (*needed_, *node.desired.sysctls)}
    # What an interface accepts from routers is to be settled before IPv6 is forwarded.
    return tuple(sorted(wanted.values(), key=lambda sysctl: sysctl == FORWARD6))


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
    """Values in force, ``None`` for a parameter that is not there, and lines in files.

    ``homes`` are the folders, and files, that are there once the parameters beside them can be.
    ``advertised`` are interfaces with a default route that a router's advertisement brought, each
    with its ``accept_ra``.
    """

    release: str
    values: Mapping[str, str | None]
    assignments: tuple[Assignment, ...]
    homes: frozenset[str] = frozenset()
    advertised: Mapping[str, str] = field(default_factory=dict)


# One grep reads all values and all lines of files; a value that is no row of numbers needs another.
# The shell's own `read` would not do: dash reads byte by byte, and a number in /proc/sys has only
# one byte for a reader of that kind.
# Files of one name in several folders: the first folder counts, as sysctl.d(5) says;
# /etc/sysctl.conf is read last by procps, wherever it is read at all.
_PROBE = """\
read -r release </proc/sys/kernel/osrelease; printf 'release %%s\\n' "$release"
for home in %s; do [ -e "$home" ] && printf 'home %%s\\n' "$home"; done
values=
assigned=
%s%s  case $line in
    /proc/sys/*) values="$values${line%%%%:*}:${line#*:*:}
" ;;
    */sysctl.d/*.conf:* | /etc/sysctl.conf:*) assigned="$assigned$line
" ;;
  esac
%sset --
for path in %s; do
  if [ ! -e "$path" ]; then printf 'absent %%s\\n' "$path"; continue; fi
  case "
$values" in *"
$path:"*) ;; *) set -- "$@" "$path" ;; esac
done
printf '%%s' "$values"
[ $# -eq 0 ] || grep -sH '' -- "$@"
%s
printf '%%s' "$assigned"
:"""


# RTF_ADDRCONF: the kernel's own work on an advertisement (include/uapi/linux/ipv6_route.h).
_ADVERTISED = """\
grep -E '^0{32} 00 .* [0-9a-f]{3}[4-7c-f][0-9a-f]{4} +[^ ]+$' /proc/net/ipv6_route |
  while read -r route; do
    interface=${route##* }
    printf 'accept_ra %s %s\\n' "$interface" "$(cat "/proc/sys/net/ipv6/conf/$interface/accept_ra")"
  done"""
_ACCEPT_RA = r"net[./]ipv6[./]conf[./][^=]*[./]accept_ra"


_NUMBERS = "^-?[0-9]+([[:space:]]+-?[0-9]+)*$"
_FOLDERS = (
    *("/etc/sysctl.d/*.conf", "/run/sysctl.d/*.conf", "/usr/local/lib/sysctl.d/*.conf"),
    *("/usr/lib/sysctl.d/*.conf", "/lib/sysctl.d/*.conf", "/etc/sysctl.conf"),
)


def _keys(node: Node) -> list[str]:
    # Whatever kernel answers: one of the middle asks for all that any may need.
    return [sysctl.key for sysctl in asked_for(node, "5.0")]


def _search(node: Node) -> Search:
    keys = _keys(node)
    accepting = (_ACCEPT_RA,) if FORWARD6.key in keys else ()
    pattern = "|".join((*map(_dotted, keys), *accepting, "[^#;=]*[*?][^=]*"))
    return Search(
        name="sysctl",
        pattern=f"{_NUMBERS}|^[[:space:]]*-?[[:space:]]*({pattern})[[:space:]]*=",
        files=(*(words(proc_path(key)) for key in keys), *_FOLDERS),
    )


def _script(node: Node) -> str:
    keys = _keys(node)
    paths_ = [proc_path(key) for key in keys]
    homes = words(*dict.fromkeys(map(_home, paths_)))
    advertised = _ADVERTISED if FORWARD6.key in keys else ":"
    searched = (_search(node).script, EACH_LINE, LAST_LINE)
    return _PROBE % (homes, *searched, words(*paths_), advertised)


def share(node: Node) -> Share:
    """Return what is asked together with other topics."""
    return Share(searches=(_search(node),))


def _home(path: str) -> str:
    """Return what is there as soon as a parameter can be.

    Parameters of one folder come with one module, but for those of the connection tracker.
    """
    folder = path.rpartition("/")[0]
    return proc_path(CONNTRACK_MAX) if path.startswith(f"{folder}/nf_conntrack_") else folder


def _dotted(key: str) -> str:
    return re.sub(r"[./]", "[./]", re.sub(r"([+*?()|^$])", r"[\1]", key))


def parse(text: str) -> Parameters:
    """Read ``release``, ``home``, ``absent`` and ``accept_ra`` lines, and what greps print."""
    values: dict[str, str | None] = {}
    found: list[Assignment] = []
    lines = text.splitlines()
    single = [line.partition(" ")[::2] for line in lines]
    for line in lines:
        if line.startswith("absent "):
            values[line.removeprefix("absent ")] = None
        elif line.startswith("/proc/sys/"):
            path, _, value = line.partition(":")
            values[path] = " ".join(f"{values.get(path) or ''} {value}".split())
        elif match := re.match(r"(/[^:]+):(\d+):([^=]+)=(.*)", line):
            found.append(_assignment(*match.groups()))
    return Parameters(
        release=next((rest for kind, rest in single if kind == "release"), ""),
        values=values,
        assignments=tuple(_in_order(found)),
        homes=frozenset(rest for kind, rest in single if kind == "home"),
        advertised=dict(rest.partition(" ")[::2] for kind, rest in single if kind == "accept_ra"),
    )


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


def desired(node: Node, parameters: Parameters) -> tuple[Sysctl, ...]:
    """Return the parameters this node should have, and that nobody else has the last word on."""
    return tuple(
        sysctl
        for sysctl in asked_for(node, parameters.release)
        if not _lacking(sysctl, parameters)
        and not overruled(sysctl, node.desired.kube_proxy)
        and not any(_cuts_off(sysctl, node, parameters))
    )


def _lacking(sysctl: Sysctl, parameters: Parameters) -> bool:
    """Tell whether this kernel does not have a parameter, and no module would bring it."""
    path = proc_path(sysctl.key)
    return parameters.values.get(path) is None and _home(path) in parameters.homes


def _cuts_off(sysctl: Sysctl, node: Node, parameters: Parameters) -> tuple[str, str]:
    """Return how the node would lose a default route if we forwarded IPv6, and what to type.

    Two '' where it would not. Each interface that was advertised one must go on accepting it, now
    and after a boot: ``accept_ra`` is 2 in force and in files, or the inventory makes it so.
    """
    if sysctl != FORWARD6:
        return "", ""
    told = (_exposed(name, node, parameters) for name in sorted(parameters.advertised))
    return next(filter(any, told), ("", ""))


def _exposed(interface: str, node: Node, parameters: Parameters) -> tuple[str, str]:
    wanted = Sysctl(key=f"net.ipv6.conf.{interface.replace('.', '/')}.accept_ra", value="2")
    ours = {proc_path(s.key): (s.value, s.bound) for s in node.desired.sysctls}
    wish = ours.get(proc_path(wanted.key))
    hint = f"add `sysctls: {{{wanted.key}: 2}}`: it is accepted all the same"
    if wish == (wanted.value, wanted.bound):
        if late := override(wanted, parameters):
            hint = f"take `{late.key}` out of {late.file}, line {late.line}"
            return f"after a reboot {_loses(interface)}", hint
    elif wish or (parameters.advertised[interface] != "2" and not _forwards_now(parameters)):
        return f"with 1 {_loses(interface)}", hint
    elif not (_is_2_at_boot(wanted, parameters) or _forwards_at_boot(parameters)):
        return f"after a reboot {_loses(interface)}", hint
    return "", ""


def _loses(interface: str) -> str:
    return f"{interface} would lose the default route it was advertised"


def _of_others(sysctl: Sysctl, parameters: Parameters) -> tuple[Assignment, ...]:
    path = proc_path(sysctl.key)
    return tuple(
        each
        for each in parameters.assignments
        if each.file != DROP_IN and fnmatch.fnmatchcase(path, proc_path(each.key))
    )


def _is_2_at_boot(sysctl: Sysctl, parameters: Parameters) -> bool:
    # To systemd a line of the very name outweighs one with a wildcard, to others the last does.
    lines = _of_others(sysctl, parameters)
    named = [each for each in lines if proc_path(each.key) == proc_path(sysctl.key)]
    return bool(lines) and {lines[-1].value, *(each.value for each in named[-1:])} == {"2"}


def _forwards_now(parameters: Parameters) -> bool:
    return _value(FORWARD6, parameters) == FORWARD6.value


def _forwards_at_boot(parameters: Parameters) -> bool:
    """Tell whether others forward IPv6 at the next boot, so that we change nothing about it."""
    return [a.value for a in _of_others(FORWARD6, parameters)][-1:] == [FORWARD6.value]


def _value(sysctl: Sysctl, parameters: Parameters) -> str | None:
    return parameters.values.get(proc_path(sysctl.key))


def satisfied(sysctl: Sysctl, actual: str | None) -> bool:
    """Tell whether a value in force is what is wanted."""
    if actual is None:
        return False
    if sysctl.bound == "exactly":
        return actual == " ".join(sysctl.value.split())
    if not re.fullmatch(r"-?[0-9]{1,20}", actual):
        return False
    difference = int(actual) - int(sysctl.value)
    return difference >= 0 if sysctl.bound == "at_least" else difference <= 0


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
    return tuple(s for s in desired(node, parameters) if _is_kept(s, parameters))


def _is_kept(sysctl: Sysctl, parameters: Parameters) -> bool:
    """Tell whether a parameter is written into our file.

    A minimum is written only where it was needed: written everywhere, it would lower at the next
    boot what a machine's own defaults set higher. Once ours, it stays. A maximum is left out only
    where another file sees to it: kernels have no such low defaults.
    """
    lines = [a for a in parameters.assignments if proc_path(a.key) == proc_path(sysctl.key)]
    if sysctl.bound == "exactly" or any(a.file == DROP_IN for a in lines):
        return True
    if sysctl.bound == "at_most" and not any(satisfied(sysctl, a.value) for a in lines):
        return True
    return not satisfied(sysctl, _value(sysctl, parameters))


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
    wrong = (s for s in desired(node, parameters) if not satisfied(s, _value(s, parameters)))
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
    stand = (_finding(sysctl, parameters) for sysctl in desired(node, parameters))
    adopt = node.desired.adopt
    ours = files.finding(NAME, file, facts.file(DROP_IN), adopt=adopt)
    return (*stand, *_left_alone(node, parameters), ours)


def _left_alone(node: Node, parameters: Parameters) -> Iterator[Finding]:
    for sysctl in asked_for(node, parameters.release):
        actual = _value(sysctl, parameters)
        if hint := overruled(sysctl, node.desired.kube_proxy):
            told = f"{actual}, and kube-proxy sets it at each start"
            yield _said(sysctl, Status.WARN, told, hint)
        elif _lacking(sysctl, parameters):
            own = sysctl in node.desired.sysctls
            hint = f"check the name, or take `{sysctl.key}` out of `sysctls`" if own else ""
            yield _said(sysctl, Status.WARN if own else Status.SKIP, "not in this kernel", hint)
        else:
            told, hint = _cuts_off(sysctl, node, parameters)
            if told:
                yield _said(sysctl, Status.FAIL, f"{actual}: {told}", hint)


def _said(sysctl: Sysctl, status: Status, actual: str, hint: str) -> Finding:
    wanted = _wanted(sysctl)
    return Finding(
        topic=NAME, name=sysctl.key, status=status, actual=actual, wanted=wanted, hint=hint
    )


def _wanted(sysctl: Sysctl) -> str:
    return f"{sysctl.bound.replace('_', ' ')} {sysctl.value}".removeprefix("exactly ")


def _finding(sysctl: Sysctl, parameters: Parameters) -> Finding:
    actual = _value(sysctl, parameters)
    late = override(sysctl, parameters)
    if not satisfied(sysctl, actual):
        state, hint = "not there" if actual is None else actual, APPLY
    elif late:
        state = f"{actual} now, {late.value} after a reboot ({late.file}:{late.line})"
        hint = f"take `{late.key}` out of {late.file}, line {late.line}"
    else:
        return Finding(topic=NAME, name=sysctl.key, status=Status.OK, actual=actual or "")
    return _said(sysctl, Status.FAIL, state, hint)
