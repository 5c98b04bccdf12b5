"""The system itself: what the other topics take for granted, asked once and changed never.

Swap is told of, for kubelet refuses to start beside it; to switch it off is for the operator.
"""

import re
from dataclasses import dataclass

from nodeprep import files
from nodeprep.model import Change, Fact, Facts, Finding, Node, Status

NAME = "system"
TITLE = "System"

TOOLS = ("modprobe", "stat", "sha256sum", "flock", "timeout")
"""Programs on the node that nodeprep's scripts stand on, beyond the shell's own."""


@dataclass(frozen=True, kw_only=True)
class System:
    """What kind of machine answers. ``uid`` is that of the session, after sudo."""

    id: str
    pretty_name: str
    version_id: str
    like: tuple[str, ...]
    kernel: str
    architecture: str
    init: str
    uid: int
    missing_tools: tuple[str, ...]


# The last line of os-release may have no newline: ours begins a line of its own.
# Where it is there, /etc/os-release alone counts, says os-release(5).
_SCRIPT = f"""\
for file in /etc/os-release /usr/lib/os-release; do
  [ -e "$file" ] || continue
  while IFS= read -r line || [ "$line" ]; do
    case $line in ID=* | NAME=* | PRETTY_NAME=* | VERSION_ID=* | ID_LIKE=*)
      printf '%s\\n' "$line" ;;
    esac
  done <"$file"
  break
done
read -r kernel </proc/sys/kernel/osrelease; printf 'nodeprep_kernel=%s\\n' "$kernel"
# Linux tells its machine there since 6.1.
machine=
[ -e /proc/sys/kernel/arch ] && read -r machine </proc/sys/kernel/arch
printf 'nodeprep_machine=%s\\n' "${{machine:-$(uname -m)}}"
read -r init </proc/1/comm; printf 'nodeprep_init=%s\\n' "$init"
while read -r key _ effective _; do
  [ "$key" != Uid: ] || {{ printf 'nodeprep_uid=%s\\n' "$effective"; break; }}
done </proc/self/status
for tool in {" ".join(TOOLS)}; do
  command -v "$tool" >/dev/null || printf 'nodeprep_missing=%s\\n' "$tool"
done
:"""


def parse(text: str) -> System:
    """Read os-release(5) lines and ours; the first answer to a key counts."""
    pairs = [line.partition("=")[::2] for line in text.splitlines() if "=" in line]
    first = {key: value.strip().strip("\"'") for key, value in reversed(pairs)}
    return System(
        id=first.get("ID", "linux"),
        pretty_name=first.get("PRETTY_NAME", first.get("NAME", "Linux")),
        version_id=first.get("VERSION_ID", ""),
        like=tuple(first.get("ID_LIKE", "").split()),
        kernel=first.get("nodeprep_kernel", ""),
        architecture=first.get("nodeprep_machine", ""),
        init=first.get("nodeprep_init", ""),
        uid=int(first.get("nodeprep_uid", "-1")),
        missing_tools=tuple(value for key, value in pairs if key == "nodeprep_missing"),
    )


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """How the last ``apply`` ended. ``stopped_in`` is empty where it finished, or never was."""

    record: str = ""
    stopped_in: str = ""
    running: bool = False


# The lock is asked for only where the record leaves it open: a prepared node starts no process.
_LAST_RUN = f"""\
if [ -e {files.STATE}/last ]; then
  last=
  while IFS= read -r line || [ "$line" ]; do
    last=$line
    printf '%s\\n' "$line"
  done <{files.STATE}/last
  case $last in
    '') echo ;;
    finished) ;;
    *) [ ! -e {files.WORK}/lock ] || flock -n {files.WORK}/lock true || echo running ;;
  esac
fi
:"""


def parse_last_run(text: str) -> LastRun:
    r"""Read the record that an apply script keeps on the node.

    >>> parse_last_run("run a by b, started\nstep_0 begins: load ip_vs\n").stopped_in
    'load ip_vs'
    """
    lines = text.splitlines()
    if not lines:
        return LastRun()
    steps = [match[1] for line in lines if (match := re.match(r"step_\d+ begins: (.*)", line))]
    return LastRun(
        record=lines[0],
        stopped_in="" if "finished" in lines else (steps or ["begin"])[-1],
        running=lines[-1] == "running",
    )


@dataclass(frozen=True, kw_only=True)
class Swap:
    """``areas`` are in use now; ``returns`` are the places that bring some at the next boot.

    ``tolerated`` says that kubelet's configuration lets it start beside swap.
    """

    areas: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    tolerated: bool = False


# The shell itself reads both lists: on a node without swap no program is started.
_SWAP = """\
swap=
while read -r area _; do
  case $area in /*) swap=1; printf 'area %s\\n' "$area" ;; esac
done </proc/swaps
number=0
[ -e /etc/fstab ] && while read -r device _ kind options _ || [ "$device" ]; do
  number=$((number + 1))
  case $device,$kind,$options, in
    '#'* | *,noauto,*) ;;
    *,swap,*) swap=1; printf 'returns /etc/fstab:%d\\n' "$number" ;;
  esac
done </etc/fstab
for file in /etc/systemd/system/*.swap /etc/systemd/zram-generator.conf \\
  /usr/lib/systemd/zram-generator.conf /etc/systemd/system/*.wants/zramswap.service; do
  [ -s "$file" ] && swap=1 && printf 'returns %s\\n' "$file"
done
[ "$swap" ] && grep -qsE '^ *failSwapOn: *false' /var/lib/kubelet/config.yaml \\
  /etc/kubernetes/kubelet-config.yaml && echo tolerated
:"""


def parse_swap(text: str) -> Swap:
    r"""Read ``area NAME``, ``returns PLACE`` and ``tolerated``.

    >>> parse_swap("area /dev/zram0\n").areas
    ('/dev/zram0',)
    """
    lines = text.splitlines()
    return Swap(
        areas=tuple(line.removeprefix("area ") for line in lines if line.startswith("area ")),
        returns=tuple(line[len("returns ") :] for line in lines if line.startswith("returns ")),
        tolerated="tolerated" in lines,
    )


SYSTEM = Fact(name="system", script=lambda _: _SCRIPT, parse=parse)
LAST_RUN = Fact(name="system.last_run", script=lambda _: _LAST_RUN, parse=parse_last_run)
SWAP = Fact(name="system.swap", script=lambda _: _SWAP, parse=parse_swap)
FACTS = (SYSTEM, SWAP, LAST_RUN)


def paths(_: Node) -> tuple[str, ...]:
    """Nothing here is written."""
    return ()


secrets = paths


def changes(_: Node, __: Facts) -> tuple[Change, ...]:
    """Nothing here is changed: a missing tool or right is for the operator to give."""
    return ()


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say whether the session may do what nodeprep does, and with which tools."""
    return (
        _rights(node, facts[SYSTEM]),
        _tools(facts[SYSTEM]),
        _swap(facts[SWAP]),
        *_last_run(facts[LAST_RUN]),
    )


def _rights(node: Node, system: System) -> Finding:
    if system.uid == 0:
        return Finding(topic=NAME, name="root", status=Status.OK, actual="session runs as root")
    return Finding(
        topic=NAME,
        name="root",
        status=Status.FAIL,
        actual=f"session runs as uid {system.uid}",
        wanted="root",
        hint=f"set `ssh: {{user: root}}` or `sudo: passwordless` for {node.name}",
    )


def _tools(system: System) -> Finding:
    if not system.missing_tools:
        return Finding(topic=NAME, name="tools", status=Status.OK, actual=", ".join(TOOLS))
    missing = " ".join(system.missing_tools)
    return Finding(
        topic=NAME,
        name="tools",
        status=Status.FAIL,
        actual=f"not there: {missing}",
        wanted=", ".join(TOOLS),
        hint="install kmod, coreutils and util-linux with the system's package manager",
    )


def _swap(swap: Swap) -> Finding:
    now, later = ", ".join(swap.areas), ", ".join(swap.returns)
    if not (now or later):
        return Finding(topic=NAME, name="swap", status=Status.OK, actual="none")
    actual = f"in use: {now}" if now else f"none now, but at the next boot ({later})"
    if swap.tolerated:
        actual = f"{actual}; kubelet starts all the same"
        return Finding(topic=NAME, name="swap", status=Status.OK, actual=actual)
    off = "swapoff -a" if now else ""
    source = f"take it out of {later}" if later else "find what brings it back: systemctl -t swap"
    return Finding(
        topic=NAME,
        name="swap",
        status=Status.WARN,
        actual=f"{actual}: kubelet will not start with it",
        wanted="none, or `failSwapOn: false` in kubelet's configuration",
        hint="; ".join(filter(None, (off, source))),
    )


def _last_run(last: LastRun) -> tuple[Finding, ...]:
    if not last.stopped_in:
        return ()
    how = "is still in the step" if last.running else "stopped in the step"
    return (
        Finding(
            topic=NAME,
            name="last run",
            status=Status.WARN,
            actual=f'{last.record}: {how} "{last.stopped_in}"',
            wanted="finished",
            hint=f"see {files.STATE}/log on the node; nodeprep apply, or if nothing is left to do: "
            f"rm {files.STATE}/last",
        ),
    )
