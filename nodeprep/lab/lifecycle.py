"""Up, reboot, reset, down.

Everything that ``up`` starts, it also ends if it does not reach its own end: a node that breaks,
Ctrl-C and SIGTERM leave nothing behind. Nothing is ever ended that the lab did not start.
"""

import secrets
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

from nodeprep.errors import Interrupted, LabError
from nodeprep.lab import (
    control_plane,
    keys,
    kinds,
    kubeadm,
    machine,
    objects,
    qmp,
    readiness,
    repository,
    requirements,
    seed,
    state,
)
from nodeprep.lab.image import Image
from nodeprep.lab.inventory_file import inventory_text
from nodeprep.lab.materials import Materials, Say, gather
from nodeprep.lab.process import end
from nodeprep.lab.settings import NODE_PORT, Settings
from nodeprep.lab.state import Lab, LabNode

_LAB_FILES = (
    "inventory.yaml",
    "known_hosts",
    "id_ed25519",
    "id_ed25519.pub",
    "guarded-password",
    "kubeconfig",
    "kubeconfig-nodeprep",
    "repository.log",
    "lab.new",
)
_NODE_FILES = (
    "disk.qcow2",
    "seed.ext4",
    "qmp",
    "pid",
    "console.log",
    "ssh_host_ed25519_key",
    "ssh_host_ed25519_key.pub",
)


def silent(_: str) -> None:
    """Say nothing of the progress."""


def up(settings: Settings, say: Say = silent) -> Lab:
    """Start a lab and return it once every node lets its operator in.

    Raises LabError if it cannot run here, is up already, or a node does not come up, and
    Interrupted after Ctrl-C or SIGTERM; in all cases nothing of it is left running.
    """
    _refuse_second(settings.folder)
    requirements.check(settings)
    with _interruptible():
        materials = gather(settings, say)
        lab = _new_lab(settings, materials)
        state.claim(lab)
        try:
            return _start(lab, settings, materials, say)
        except BaseException:
            down(lab.folder)
            raise


def _refuse_second(folder: Path) -> None:
    """Say so before anything is built; ``state.claim`` settles it between two at once."""
    if state.state_file(folder).exists():
        raise state.already_up(folder)


def _new_lab(settings: Settings, materials: Materials) -> Lab:
    wanted = zip(settings.addresses, settings.kind_of_each, strict=True)
    nodes = (
        LabNode(
            name=f"node{number}",
            kind=kind,
            image=materials.images[kind].folder,
            address=address,
            port=NODE_PORT,
            machine_id=secrets.token_hex(16),
        )
        for number, (address, kind) in enumerate(wanted, start=1)
    )
    return Lab(
        folder=settings.folder.absolute(),
        accelerator=materials.accelerator,
        memory=settings.memory,
        nodes=tuple(nodes),
    )


def _start(lab: Lab, settings: Settings, materials: Materials, say: Say) -> Lab:
    """Start all there is, the nodes last, then wait: everything comes up side by side."""
    keys.make_key(lab.identity, "nodeprep lab")
    _write_secret(lab.guarded_password, secrets.token_urlsafe(12))
    repository.offer(lab.repositories, materials.packages)
    server, url = repository.serve(
        lab.repositories, lab.folder / "repository.log", state.state_file(lab.folder)
    )
    lab = _saved(replace(lab, server=server))
    if materials.control_plane:
        lab = _start_control_plane(lab, materials.control_plane, kubeadm_too=settings.kubeadm)
    for node in lab.nodes:
        _write_seed(lab, node, url, materials)
        lab = _power_on(lab, node)
    _write_papers(lab)
    say(f"{len(lab.nodes)} nodes: booting ({settings.memory} MiB each, {lab.accelerator})")
    if lab.control_plane:
        _fill_cluster(lab, say)
    for node in lab.nodes:
        readiness.wait_until_up(lab, node)
        say(f"{node.name} answers on {node.address}:{node.port}")
    return lab


def _start_control_plane(lab: Lab, programs: control_plane.Programs, *, kubeadm_too: bool) -> Lab:
    """Start etcd and the API server, and write down which processes they are."""
    plane = control_plane.claim(lab, kubeadm=kubeadm_too)
    lab = _saved(replace(lab, control_plane=plane))
    control_plane.write_secrets(lab, plane)
    store = control_plane.start_etcd(lab, plane, programs.etcd)
    lab = _saved(replace(lab, control_plane=replace(plane, etcd=store)))
    server = control_plane.start_apiserver(lab, plane, programs.apiserver)
    return _saved(replace(lab, control_plane=replace(plane, etcd=store, apiserver=server)))


def _fill_cluster(lab: Lab, say: Say) -> None:
    """Wait for the API server, and tell it what is in the cluster."""
    api = control_plane.wait_until_ready(lab)
    names = tuple(node.name for node in lab.nodes)
    objects.create(api, names)
    if lab.kubeadm:
        kubeadm.create(api, names, control_plane.authority(lab))
    say(f"the API server answers on 127.0.0.1:{api.port}, with {len(objects.SERVICES)} services")


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")


def _write_seed(lab: Lab, node: LabNode, url: str, materials: Materials) -> None:
    folder = lab.node_folder(node.name)
    folder.mkdir(mode=0o700)
    host_key = folder / "ssh_host_ed25519_key"
    keys.make_key(host_key, node.name)
    content = seed.Seed(
        hostname=node.name,
        host_key=host_key,
        authorized_key=keys.public_half(lab.identity),
        guarded_password=lab.guarded_password.read_text().strip(),
        kind=kinds.kind(node.kind),
        repository=f"{url}/{node.kind}",
        programs=materials.programs,
        container_images=materials.container_images,
        endpoints=objects.ENDPOINTS if lab.control_plane else (),
        secrets=kubeadm.papers(lab, node) if lab.kubeadm else {},
    )
    seed.write(content, folder / "seed.ext4")


def _write_papers(lab: Lab) -> None:
    """Write known_hosts and the inventory."""
    lines = (
        keys.known_hosts_line(
            node.address,
            node.port,
            keys.public_half(lab.node_folder(node.name) / "ssh_host_ed25519_key"),
        )
        for node in lab.nodes
    )
    lab.known_hosts.write_text("".join(f"{line}\n" for line in lines))
    lab.inventory.write_text(inventory_text(lab))


def _power_on(lab: Lab, node: LabNode) -> Lab:
    """Start a node on a fresh disk, and write down which process it is."""
    process = machine.start(
        machine.Machine(
            folder=lab.node_folder(node.name),
            image=Image(folder=node.image),
            memory=lab.memory,
            address=node.address,
            port=node.port,
            machine_id=node.machine_id,
            accelerator=lab.accelerator,
        )
    )
    return _saved(lab.with_process(node.name, process))


def _saved(lab: Lab) -> Lab:
    state.save(lab)
    return lab


def load(folder: Path) -> Lab:
    """Return the lab in this folder. Raises LabError if there is none."""
    return state.load(folder)


def reboot(lab: Lab, name: str, *, hard: bool = False) -> str:
    """Reboot a node and return the id of its new boot, once it lets its operator in again.

    ``hard`` presses the reset button. Else the node is asked, and shuts down in good order.
    Raises UsageError for a name that is not there, LabError if the node does not come back.
    """
    node = lab.node(name)
    before = readiness.boot_id(lab, node)
    if hard:
        qmp.execute(lab.node_folder(name) / "qmp", "system_reset")
    elif not before:
        raise LabError(f"{name} does not answer", hint=f"nodeprep lab reboot {name} --hard")
    else:
        readiness.ask_to_reboot(lab, node)
    return readiness.wait_until_up(lab, node, other_than=before)


def reset(lab: Lab, names: Iterable[str]) -> Lab:
    """Give nodes fresh disks and start them again; who they are (name, host key) stays.

    Returns the lab with its new processes once all of them answer. Raises UsageError for a name
    that is not there, before anything is touched.
    """
    nodes = [lab.node(name) for name in names]
    for node in nodes:
        machine.stop(lab.node_folder(node.name), node.process)
        lab = _power_on(lab, node)
    for node in nodes:
        readiness.wait_until_up(lab, lab.node(node.name))
    return lab


def down(folder: Path) -> bool:
    """End the lab in this folder and remove its files; the cache stays.

    Tells whether there was one. The state file goes last, so that a ``down`` that was cut short
    can be run again.
    """
    folder = folder.absolute()
    if not state.state_file(folder).exists():
        return False
    lab = state.load(folder)
    for node in lab.nodes:
        machine.stop(lab.node_folder(node.name), node.process)
        _remove(lab.node_folder(node.name), _NODE_FILES)
    for _, process in lab.control_processes:
        if process:
            end(process)
    if lab.server:
        end(lab.server)
    for name in _LAB_FILES:
        (folder / name).unlink(missing_ok=True)
    _remove(lab.repositories, {node.kind for node in lab.nodes})
    if lab.control_plane:
        shutil.rmtree(lab.control_folder, ignore_errors=True)
    _remove(folder, (state.state_file(folder).name,))
    return True


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files by name, and the folder if nothing of anybody else's is in it."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into an exception, so that what was started can be ended.

    Only the main thread may; in others the signals stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, _interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(
        f"stopped by {signal.Signals(number).name}; everything that was started is down again"
    )
