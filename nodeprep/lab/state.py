"""What was started: a lab as a value, and as the file ``lab.json`` in its folder."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nodeprep.errors import LabError, UsageError
from nodeprep.lab.process import Process

_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class LabNode:
    """One node: where it answers, and the QEMU process that it is (None: not started).

    ``kind`` is the name of its package manager, ``image`` the folder of the image it boots.
    """

    name: str
    kind: str
    image: Path
    address: str
    port: int
    machine_id: str
    process: Process | None = None


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """The cluster's two programs, and the ports they have of the host's loopback.

    ``port`` is the API server's, the others are etcd's: for its client and for its own kind.
    ``kubeadm`` tells that kube-proxy is a DaemonSet there, as kubeadm has it.
    """

    port: int
    etcd_port: int
    peer_port: int
    kubeadm: bool = False
    etcd: Process | None = None
    apiserver: Process | None = None


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A lab that is, or was, up. Memory is in MiB a node, paths are absolute."""

    folder: Path
    accelerator: str
    memory: int
    nodes: tuple[LabNode, ...]
    server: Process | None = None
    control_plane: ControlPlane | None = None

    @property
    def inventory(self) -> Path:
        """The inventory that nodeprep reads with -i."""
        return self.folder / "inventory.yaml"

    @property
    def known_hosts(self) -> Path:
        """The nodes' host keys."""
        return self.folder / "known_hosts"

    @property
    def identity(self) -> Path:
        """The key that logs in on all nodes; its public half lies beside it."""
        return self.folder / "id_ed25519"

    @property
    def guarded_password(self) -> Path:
        """What sudo asks the user ``guarded`` for."""
        return self.folder / "guarded-password"

    @property
    def repositories(self) -> Path:
        """What nodes install: a folder for each kind, with its packages."""
        return self.folder / "packages"

    @property
    def kubeconfig(self) -> Path:
        """What kube-proxies on the nodes read, where the lab has a cluster."""
        return self.folder / "kubeconfig"

    @property
    def nodeprep_kubeconfig(self) -> Path:
        """The same for a user who may do nothing yet, where kube-proxy is a DaemonSet."""
        return self.folder / "kubeconfig-nodeprep"

    @property
    def kubeadm(self) -> bool:
        """Whether kube-proxy is a DaemonSet here, as kubeadm has it."""
        return self.control_plane is not None and self.control_plane.kubeadm

    @property
    def control_folder(self) -> Path:
        """Where etcd and the API server keep data, keys and logs."""
        return self.folder / "control-plane"

    @property
    def control_processes(self) -> tuple[tuple[str, Process | None], ...]:
        """The cluster's programs by name, in the order in which they end."""
        plane = self.control_plane
        if plane is None:
            return ()
        return (("kube-apiserver", plane.apiserver), ("etcd", plane.etcd))

    def node(self, name: str) -> LabNode:
        """Return the node of this name. Raises UsageError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = " ".join(node.name for node in self.nodes)
        raise UsageError(f"the lab has no node {name}", hint=f"it has {names}")

    def node_folder(self, name: str) -> Path:
        """Return where a node keeps its disks, console log and control socket."""
        return self.folder / name

    def with_process(self, name: str, process: Process | None) -> "Lab":
        """Return the lab with another process for one of its nodes."""
        nodes = (
            replace(node, process=process) if node.name == name else node for node in self.nodes
        )
        return replace(self, nodes=tuple(nodes))


def state_file(folder: Path) -> Path:
    """Return the file that says what was started here."""
    return folder / "lab.json"


def claim(lab: Lab) -> None:
    """Write the state for the first time. Raises LabError if a lab is there already.

    The file's creation is the claim: of two that come at once one loses.
    """
    lab.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with state_file(lab.folder).open("x") as stream:
            stream.write(to_json(lab))
    except FileExistsError:
        raise already_up(lab.folder) from None


def already_up(folder: Path) -> LabError:
    """Return the error that says that this folder has a lab."""
    return LabError(
        f"a lab is already up in {folder}",
        hint=f"nodeprep lab status --dir {folder}    nodeprep lab down --dir {folder}",
    )


def save(lab: Lab) -> None:
    """Replace the state file in one step."""
    target = state_file(lab.folder)
    fresh = target.with_suffix(".new")
    fresh.write_text(to_json(lab))
    fresh.replace(target)


def load(folder: Path) -> Lab:
    """Read the lab in this folder. Raises LabError if there is none."""
    folder = folder.absolute()
    try:
        return from_json(folder, state_file(folder).read_text())
    except FileNotFoundError:
        raise LabError(f"no lab in {folder}", hint="nodeprep lab up") from None


def to_json(lab: Lab) -> str:
    """Return the state file's text."""
    fields = asdict(lab) | {"version": _VERSION}
    del fields["folder"]
    return json.dumps(fields, indent=2, default=str) + "\n"


def from_json(folder: Path, text: str) -> Lab:
    """Return the lab that a state file describes. Raises LabError if it cannot be read."""
    try:
        fields = json.loads(text)
        if fields.pop("version") != _VERSION:
            raise ValueError("it was written by another version")  # noqa: TRY301
        server = _process(fields.pop("server"))
        plane = _control_plane(fields.pop("control_plane", None))
        nodes = tuple(_nodes(fields.pop("nodes")))
        return Lab(folder=folder, server=server, control_plane=plane, nodes=nodes, **fields)
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"cannot read {state_file(folder)}: {error}") from error


def _nodes(rows: list[dict[str, Any]]) -> Iterable[LabNode]:
    for row in rows:
        own = {"image": Path(row["image"]), "process": _process(row["process"])}
        yield LabNode(**(row | own))


def _control_plane(fields: dict[str, Any] | None) -> ControlPlane | None:
    if fields is None:
        return None
    processes = {name: _process(fields[name]) for name in ("etcd", "apiserver")}
    return ControlPlane(**(fields | processes))


def _process(fields: dict[str, Any] | None) -> Process | None:
    return Process(**fields) if fields else None
