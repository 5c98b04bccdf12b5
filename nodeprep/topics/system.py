"""The system itself: what the other topics take for granted, asked once and changed never."""

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
_SCRIPT = f"""\
cat /etc/os-release /usr/lib/os-release 2>/dev/null
echo
read -r kernel </proc/sys/kernel/osrelease; printf 'nodeprep_kernel=%s\\n' "$kernel"
printf 'nodeprep_machine=%s\\n' "$(uname -m)"
read -r init </proc/1/comm; printf 'nodeprep_init=%s\\n' "$init"
printf 'nodeprep_uid=%s\\n' "$(id -u)"
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


# The lock is asked for only where the record leaves it open: a prepared node starts one process.
_LAST_RUN = f"""\
if [ -e {files.STATE}/last ]; then
  record=$(cat {files.STATE}/last)
  printf '%s\\n' "$record"
  case $record in
    *finished) ;;
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


SYSTEM = Fact(name="system", script=lambda _: _SCRIPT, parse=parse)
LAST_RUN = Fact(name="system.last_run", script=lambda _: _LAST_RUN, parse=parse_last_run)
FACTS = (SYSTEM, LAST_RUN)


def paths(_: Node) -> tuple[str, ...]:
    """Nothing here is written."""
    return ()


secrets = paths


def changes(_: Node, __: Facts) -> tuple[Change, ...]:
    """Nothing here is changed: a missing tool or right is for the operator to give."""
    return ()


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say whether the session may do what nodeprep does, and with which tools."""
    return (_rights(node, facts[SYSTEM]), _tools(facts[SYSTEM]), *_last_run(facts[LAST_RUN]))


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
