"""What is compared: how each tool is set up as an expert would, and what it says of changes."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from nodeprep import __version__
from nodeprep.lab.state import Lab

Names = Sequence[str]
PEERS = Path(__file__).resolve().parent.parent / "peers"
SCRIPT = "script"
"""The name of the contender that the others are put in relation to."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a comparison works: the lab, a folder for what the tools read, and where they are.

    ``tools`` is the virtual environment that has Ansible, mitogen and pyinfra.
    """

    lab: Lab
    folder: Path
    tools: Path

    @property
    def ssh_config(self) -> Path:
        """How ssh reaches the nodes: with the lab's key, and its host keys alone."""
        return self.folder / "ssh_config"

    @property
    def ssh_config_curve(self) -> Path:
        """The same, with the key exchange that costs least."""
        return self.folder / "ssh_config_curve"

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names."""
        return tuple(node.name for node in self.lab.nodes)

    @property
    def pyinfra_inventory(self) -> Path:
        """The nodes as pyinfra reads them."""
        return self.folder / "inventory.py"

    @property
    def packages(self) -> Path:
        """Where the tools' Python packages are."""
        (found,) = self.tools.glob("lib/python*/site-packages")
        return found

    def program(self, name: str) -> str:
        """Return the path of one of the tools' programs."""
        return str(self.tools / "bin" / name)

    def version(self, package: str) -> str:
        """Return which version of a tool's package is there."""
        (found,) = metadata.distributions(name=package, path=[str(self.packages)])
        return found.version


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the job.

    ``command`` is for the nodes of these names. ``changes`` reads from what it printed how many
    changes it says it made.
    """

    name: str
    label: Callable[[Desk], str]
    command: Callable[[Desk, Names], list[str]]
    changes: Callable[[str], int]
    environment: Callable[[Desk], Mapping[str, str]] = field(default=lambda _: {})


# --- what they read -------------------------------------------------------------------------


def lay_out(desk: Desk) -> None:
    """Write what the tools read: the same nodes, the same key, the same host keys for all."""
    config = ssh_config(desk.lab)
    desk.ssh_config.write_text(config)
    desk.ssh_config_curve.write_text(f"{config}  KexAlgorithms curve25519-sha256\n")
    desk.pyinfra_inventory.write_text(f"nodes = {pyinfra_hosts(desk.lab)!r}\n")


def ssh_config(lab: Lab) -> str:
    """Return what ssh -F reads: the nodes by their names; the last block holds for all."""
    each = (f"Host {node.name}\n  HostName {node.address}\n" for node in lab.nodes)
    return "".join(each) + (
        "Host *\n"
        f"  Port {lab.nodes[0].port}\n"
        "  User root\n"
        f"  IdentityFile {lab.identity}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {lab.known_hosts}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  BatchMode yes\n"
    )


def pyinfra_hosts(lab: Lab) -> list[tuple[str, dict[str, object]]]:
    """Return the nodes as pyinfra's inventories have them."""
    shared = {
        "ssh_user": "root",
        "ssh_key": str(lab.identity),
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
        "ssh_known_hosts_file": str(lab.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    return [
        (node.name, {"ssh_hostname": node.address, "ssh_port": node.port, **shared})
        for node in lab.nodes
    ]


# --- Ansible --------------------------------------------------------------------------------


def _playbook(desk: Desk, names: Names) -> list[str]:
    playbook = str(PEERS / "ansible" / "playbook.yml")
    return [desk.program("ansible-playbook"), "-i", f"{','.join(names)},", playbook]


def _ansible(desk: Desk) -> Mapping[str, str]:
    return {
        "ANSIBLE_CONFIG": str(PEERS / "ansible" / "ansible.cfg"),
        "ANSIBLE_HOME": str(desk.folder / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(desk.folder / "cp"),
        "ANSIBLE_SSH_ARGS": f"-F {desk.ssh_config} -o ControlMaster=auto -o ControlPersist=60s",
    }


def _mitogen(desk: Desk) -> Mapping[str, str]:
    plugins = desk.packages / "ansible_mitogen" / "plugins" / "strategy"
    return {
        **_ansible(desk),
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(plugins),
        # It is also how long the first Python on a node may take to start: seconds, if emulated.
        "ANSIBLE_TIMEOUT": "120",
    }


def ansible_changes(text: str) -> int:
    r"""Add up the recap of a playbook.

    >>> ansible_changes("node1 : ok=9 changed=2 unreachable=0\nnode2 : ok=9 changed=1 unreach")
    3
    """
    return _sum_of(r"^\S+ +: ok=\d+ +changed=(\d+) ", text)


# --- pyinfra --------------------------------------------------------------------------------


def _deploy(desk: Desk, names: Names) -> list[str]:
    options = ("--yes", "--parallel", "25", *(f"--limit={name}" for name in names))
    deploy = str(PEERS / "pyinfra" / "deploy.py")
    return [desk.program("pyinfra"), *options, str(desk.pyinfra_inventory), deploy]


def pyinfra_changes(text: str) -> int:
    """Read how many operations changed a node, from the table at the end.

    >>> pyinfra_changes("    Grand total     50     -     -     50")
    0
    """
    return _sum_of(r"^\s*Grand total +\d+ +(\d+|-) ", text)


# --- by hand --------------------------------------------------------------------------------


def _fleet(config: Path, names: Names) -> list[str]:
    return ["sh", str(PEERS / "script" / "fleet.sh"), str(config), *names]


def script_changes(text: str) -> int:
    r"""Count the lines in which the script says what it changed.

    >>> script_changes("changed: packages installed\nchanged: loaded ip_vs\n")
    2
    """
    return len(re.findall("^changed: ", text, re.MULTILINE))


# --- nodeprep -------------------------------------------------------------------------------


def nodeprep(desk: Desk, verb: str, *words: str) -> list[str]:
    """Return a command of the nodeprep that this bench lies beside."""
    inventory = str(desk.lab.inventory)
    return [sys.executable, "-m", "nodeprep", verb, "-i", inventory, *words]


def nodeprep_changes(text: str) -> int:
    """Read the last line of an apply.

    >>> nodeprep_changes("14 changes made on 5 nodes")
    14
    """
    return _sum_of(r"^(\d+) changes? made on ", text)


def _sum_of(pattern: str, text: str) -> int:
    """Add up the numbers that a pattern finds. Raises ValueError where it finds none."""
    found = re.findall(pattern, text, re.MULTILINE)
    if not found:
        raise ValueError(f"nothing in it says what changed: {text[-500:]!r}")
    return sum(0 if number == "-" else int(number) for number in found)


# --- all of them ----------------------------------------------------------------------------


CONTENDERS: tuple[Contender, ...] = (
    Contender(
        name="ansible",
        label=lambda desk: f"Ansible {desk.version('ansible-core')}, pipelining, 25 forks",
        command=_playbook,
        environment=_ansible,
        changes=ansible_changes,
    ),
    Contender(
        name="mitogen",
        label=lambda desk: f"the same with mitogen {desk.version('mitogen')}",
        command=_playbook,
        environment=_mitogen,
        changes=ansible_changes,
    ),
    Contender(
        name="pyinfra",
        label=lambda desk: f"pyinfra {desk.version('pyinfra')}",
        command=_deploy,
        changes=pyinfra_changes,
    ),
    Contender(
        name=SCRIPT,
        label=lambda _: "a script through `xargs -P 25 ssh`",
        command=lambda desk, names: _fleet(desk.ssh_config, names),
        changes=script_changes,
    ),
    Contender(
        name="script-curve25519",
        label=lambda _: "the same with `KexAlgorithms=curve25519-sha256`",
        command=lambda desk, names: _fleet(desk.ssh_config_curve, names),
        changes=script_changes,
    ),
    Contender(
        name="nodeprep",
        label=lambda _: f"nodeprep {__version__}",
        command=lambda desk, names: nodeprep(desk, "apply", "--limit", ",".join(names)),
        changes=nodeprep_changes,
    ),
)


def environment(desk: Desk, contender: Contender) -> Mapping[str, str]:
    """Return the environment of a contender's command: ours, and no terminal to colour for."""
    return {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "XDG_STATE_HOME": str(desk.folder / "state"),
        **contender.environment(desk),
    }
