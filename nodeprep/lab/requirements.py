"""Whether a lab can run on this machine. Everything that is missing is said at once."""

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from nodeprep.errors import LabError
from nodeprep.lab.kinds import kind
from nodeprep.lab.programs import as_root, find
from nodeprep.lab.settings import NODE_PORT, Settings

# Program -> the Debian package that has it.
PROGRAMS: Mapping[str, str] = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "apt-ftparchive": "apt-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "tar": "tar",
}
# Only to build Kubernetes' programs from their source.
BUILD_PROGRAMS: Mapping[str, str] = {"dpkg-source": "dpkg-dev"}
# Only for nodes whose packages come through rpm.
RPM_PROGRAMS: Mapping[str, str] = {"rpmbuild": "rpm", "createrepo_c": "createrepo-c"}
# Only those who are not root need a namespace in which they are.
NAMESPACE_PROGRAMS: Mapping[str, str] = {"unshare": "util-linux", "newuidmap": "uidmap"}

_MIB = 1 << 20
_GIB = 1 << 30
# Measured: the image's folder is 0.9 GiB, twice that while it is built; a node's disk grows.
_IMAGE_SPACE = 3 * _GIB
_NODE_SPACE = _GIB // 4
# Measured: the source, the compiler and what it makes meanwhile.
_BUILD_SPACE = 2 * _GIB
# Measured: the API server 320 MiB, etcd 40, with three nodes.
_CONTROL_PLANE_MEMORY = 400 * _MIB
# Measured: what QEMU itself takes beside the guest's memory.
_QEMU_MEMORY_MIB = 170


def check(settings: Settings) -> None:
    """Raise LabError with all that is missing, and the apt-get line that brings the programs."""
    packages = missing_packages(_programs(settings), find)
    problems = [*_machine_problems(packages), *_room_problems(settings), *taken(settings)]
    if packages:
        problems.insert(0, f"not installed: {', '.join(packages)}")
    if problems:
        raise LabError(
            report(problems), hint=f"apt-get install {' '.join(packages)}" if packages else ""
        )


def _programs(settings: Settings) -> Mapping[str, str]:
    build = BUILD_PROGRAMS if settings.kube_proxy or settings.cluster else {}
    rpm = RPM_PROGRAMS if any(kind(name).rpm_names is not None for name in settings.kinds) else {}
    namespaces = {} if os.geteuid() == 0 else NAMESPACE_PROGRAMS
    return {**PROGRAMS, **build, **rpm, **namespaces}


def report(problems: list[str]) -> str:
    """Return the problems as one text, a line each."""
    return "\n".join(["a lab cannot run here:", *(f"  - {problem}" for problem in problems)])


def missing_packages(
    programs: Mapping[str, str], look: Callable[[str], str | None]
) -> tuple[str, ...]:
    """Return the packages of those programs that ``look`` does not find, sorted, each once."""
    return tuple(sorted({package for name, package in programs.items() if look(name) is None}))


def _machine_problems(missing: tuple[str, ...]) -> list[str]:
    problems = []
    if (machine := platform.machine()) != "x86_64":
        problems.append(f"the nodes are x86_64 machines, this one is {machine}")
    if find("apt-get") is None:
        problems.append("packages come through the host's apt-get: this needs Debian or its kin")
    if "util-linux" not in missing and not _namespaces_work():
        problems.append(
            "no user namespaces: become root, or let the kernel have them and give this user"
            " a line in /etc/subuid and /etc/subgid"
        )
    return problems


def _namespaces_work() -> bool:
    trial = subprocess.run([*as_root(), "true"], capture_output=True, check=False)
    return trial.returncode == 0


def _room_problems(settings: Settings) -> list[str]:
    problems = []
    for folder, wanted, purpose in (
        (settings.cache, _cache_space(settings), "what is built once"),
        (settings.folder, settings.nodes * _NODE_SPACE, "the nodes' disks"),
    ):
        free = shutil.disk_usage(_existing(folder)).free
        if free < wanted:
            problems.append(_short(f"disk space in {folder} for {purpose}", wanted, free))
    memory, owners = _memory(settings)
    if (available := available_memory(Path("/proc/meminfo").read_text())) < memory:
        problems.append(_short(f"memory for {owners}", memory, available))
    return problems


def _memory(settings: Settings) -> tuple[int, str]:
    """Return how much is wanted, and for whom."""
    nodes = settings.nodes * (settings.memory + _QEMU_MEMORY_MIB) * _MIB
    if settings.cluster:
        return nodes + _CONTROL_PLANE_MEMORY, f"{settings.nodes} nodes and the control plane"
    return nodes, f"{settings.nodes} nodes"


def _cache_space(settings: Settings) -> int:
    """Return what is wanted for the things that the cache has not yet."""
    spaces = {
        **{f"image-{name}": _IMAGE_SPACE for name in settings.kinds},
        "kube-proxy": _BUILD_SPACE if settings.kube_proxy else 0,
        "kube-apiserver": _BUILD_SPACE if settings.cluster else 0,
    }
    return sum(space for name, space in spaces.items() if not any(settings.cache.glob(f"{name}-*")))


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _short(what: str, wanted: int, there: int) -> str:
    return f"too little {what}: {wanted // _MIB} MiB wanted, {there // _MIB} MiB free"


def available_memory(meminfo: str) -> int:
    """Return the bytes that /proc/meminfo says can be had without swapping."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


def taken(settings: Settings) -> list[str]:
    """Return a problem for each address of the lab where somebody listens already."""
    return [
        f"{address}:{NODE_PORT} is taken: is another lab up? `--network 127.77.N` is another place"
        for address in settings.addresses
        if _is_taken(address)
    ]


def _is_taken(address: str) -> bool:
    with socket.socket() as trial:
        # As QEMU binds it: a connection in its last minute is no obstacle.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, NODE_PORT))
        except OSError:
            return True
    return False
