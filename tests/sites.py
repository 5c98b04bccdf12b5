"""Two sites and a control room, each in a network namespace of its own.

A site's nodes are namespaces with an sshd; they hang on their site by a wire, and nobody else has
a way to them. Scheduler, workers and nodeprep are the real programs, with a CA made for the test.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.namespaces import Namespace, namespace
from tests.shells import PATH
from tests.sshd import PROGRAM, key, public

SITES = ("east", "west")
CONTROL = "10.79.0.1"
SCHEDULER = f"tls://{CONTROL}:8786"
TLS = ("--tls-ca-file", "ca.pem", "--tls-cert", "peer.pem", "--tls-key", "peer.key")


@dataclass(kw_only=True)
class Sites:
    """All of it, by name: the rooms, their nodes, and the workers that stand in them."""

    folder: Path
    stack: ExitStack
    control: Namespace
    rooms: dict[str, Namespace] = field(default_factory=dict)
    nodes: dict[str, Namespace] = field(default_factory=dict)
    workers: dict[str, list["subprocess.Popen[bytes]"]] = field(default_factory=dict)

    def nodeprep(self, *words: str) -> "subprocess.Popen[str]":
        """Begin nodeprep in the control room, with the workers for its hands."""
        fleet = ("--executor", "dask", "--scheduler", SCHEDULER, *TLS)
        command = (sys.executable, "-m", "nodeprep", words[0], "-i", "inventory.yaml", *words[1:])
        return subprocess.Popen(
            (*self.control.enter[:-1], f"--wd={self.folder}", *command, *fleet),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """What the programs run with; the one of this checkout is meant."""
        here = Path(__file__).parent.parent
        return {"PATH": PATH, "LC_ALL": "C", "HOME": str(self.folder), "PYTHONPATH": str(here)}

    def start(self, room: Namespace, *words: str) -> "subprocess.Popen[bytes]":
        """Run one of Dask's own commands in a room until the end."""
        log = self.stack.enter_context((self.folder / f"{words[0]}.log").open("ab"))
        process = subprocess.Popen(
            (*room.enter[:-1], f"--wd={self.folder}", sys.executable, "-m", "dask", *words, *TLS),
            stdout=log,
            stderr=log,
            env=self.environment,
        )
        self.stack.callback(_end, process)
        return process

    def add_worker(self, site: str) -> "subprocess.Popen[bytes]":
        """Start one more worker at a site."""
        options = ("--no-nanny", "--nthreads", "8", "--no-dashboard", "--resources", f"{site}=8")
        process = self.start(self.rooms[site], "worker", SCHEDULER, *options)
        self.workers.setdefault(site, []).append(process)
        return process

    def write_inventory(self, text: str) -> None:
        """Write an inventory of all nodes, each with its site, and this for all of them."""
        lines = "".join(
            f"  - {{name: {name}, address: {_address(name)}, labels: {{site: {name[:4]}}}}}\n"
            for name in self.nodes
        )
        ssh = "{user: root, identity_file: ./user, known_hosts: [./known_hosts], config: none}"
        inventory = f"defaults:\n  ssh: {ssh}\n  sudo: none\n{text}nodes:\n{lines}"
        (self.folder / "inventory.yaml").write_text(inventory)


@contextlib.contextmanager
def sites(folder: Path, nodes: int) -> Iterator[Sites]:
    """Give two sites of so many nodes each, with a scheduler and no worker yet."""
    if PROGRAM is None:
        pytest.skip("no sshd here")
    with ExitStack() as stack:
        control = stack.enter_context(namespace())
        one = Sites(folder=folder, stack=stack, control=control)
        _make_certificates(folder)
        key(folder, "user")
        for name in ("user", "user.pub"):
            (folder / name).chmod(0o600)
        for number, site in enumerate(SITES, 1):
            room = one.rooms[site] = stack.enter_context(namespace())
            wire(control, room, f"10.79.0.{number + 1}", CONTROL)
            for place in range(1, nodes + 1):
                name = f"{site}{place}"
                node = one.nodes[name] = stack.enter_context(namespace())
                wire(room, node, _address(name), f"10.79.{number}.254")
                _serve_ssh(one, name, node)
        one.start(control, "scheduler", "--host", SCHEDULER, "--no-dashboard")
        yield one


def _address(name: str) -> str:
    return f"10.79.{SITES.index(name[:4]) + 1}.{name[4:]}"


def wire(room: Namespace, other: Namespace, far: str, near: str) -> None:
    """Lay a wire between two rooms with an address at each end, and a route along it."""
    name = "w" + far.replace(".", "-")
    room.ask(f"ip link add {name} type veth peer name wire0 netns {other.pid}")
    for end, device, own, others in ((room, name, near, far), (other, "wire0", far, near)):
        end.ask(f"ip addr add {own}/32 dev {device}; ip link set {device} up")
        end.ask(f"ip route add {others} dev {device}")


def _serve_ssh(one: Sites, name: str, node: Namespace) -> None:
    folder = one.folder / name
    folder.mkdir()
    host_key, address = key(folder, "host"), _address(name)
    (folder / "authorized").write_text(public(one.folder / "user") + "\n")
    settings = (
        f"ListenAddress {address}",
        f"HostKey {host_key}",
        f"AuthorizedKeysFile {folder}/authorized",
        *("PidFile none", "StrictModes no", "UsePAM no", "PermitRootLogin yes"),
    )
    (folder / "config").write_text("\n".join(settings) + "\n")
    with (one.folder / "known_hosts").open("a") as known:
        known.write(f"{address} {public(host_key)}\n")
    node.ask("mkdir -p /run/sshd")
    log = one.stack.enter_context((folder / "log").open("ab"))
    words = (*node.enter, str(PROGRAM), "-D", "-e", "-f", str(folder / "config"))
    one.stack.callback(_end, subprocess.Popen(words, stderr=log))


def _make_certificates(folder: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(("openssl", *words), cwd=folder, check=True, capture_output=True)

    fresh = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl("req", "-x509", *fresh, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl("req", *fresh[:-2], "-keyout", "peer.key", "-out", "peer.csr", "-subj", "/CN=peer")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl("x509", "-req", "-in", "peer.csr", *signed, "-out", "peer.pem")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def until(happened: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
