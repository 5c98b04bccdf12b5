"""The packages that nodes install, as repositories on the host's loopback: one for each kind.

What a node would download from Debian's mirror is downloaded once, on the host: the packages
asked for and all they need that the image does not have. Nodes reach the host as 10.0.2.2.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nodeprep.errors import LabError
from nodeprep.lab import rpms
from nodeprep.lab.cache import cached, digest
from nodeprep.lab.image import Image
from nodeprep.lab.kinds import Kind
from nodeprep.lab.mirror import Mirror, PrivateApt
from nodeprep.lab.process import Process, identify
from nodeprep.lab.programs import run

HOST_AS_SEEN_BY_NODES = "10.0.2.2"
_SERVER = Path(__file__).with_name("serve.py")
_RPMS = Path(rpms.__file__)


def repository(
    cache: Path, mirror: Mirror, image: Image, kind: Kind, packages: Sequence[str]
) -> Path:
    """Return the folder with the packages, made first if the cache has it not.

    Raises LabError with apt's words, for example if a package is not in Debian.
    """
    recipe = (image.folder.name, " ".join(sorted(packages)), repr(kind), _RPMS.read_bytes())
    return cached(
        cache / f"packages-{kind.name}-{digest(*recipe)}",
        lambda folder: _build(folder, mirror, image, kind, packages),
    )


def _build(folder: Path, mirror: Mirror, image: Image, kind: Kind, packages: Sequence[str]) -> None:
    apt = PrivateApt(folder=folder / "apt", status=image.status)
    apt.prepare(mirror, "deb")
    apt.get("install", "--download-only", *packages)
    for package in (apt.folder / "cache" / "archives").glob("*.deb"):
        package.rename(folder / package.name)
    run(["rm", "-rf", apt.folder])
    if kind.rpm_names is None:
        _write_index(folder)
    else:
        rpms.make(folder, kind.rpm_names)


def _write_index(folder: Path) -> None:
    """Write Packages and Release, as apt looks for them in a repository without suites."""
    (folder / "Packages").write_text(run(["apt-ftparchive", "packages", "."], cwd=folder))
    (folder / "Release").write_text(run(["apt-ftparchive", "release", "."], cwd=folder))


def offer(folder: Path, repositories: Mapping[str, Path]) -> None:
    """Make the folder that is served: each kind's packages under its name."""
    folder.mkdir()
    for name, packages in repositories.items():
        (folder / name).symlink_to(packages)


def serve(folder: Path, log: Path, lifeline: Path) -> tuple[Process, str]:
    """Serve the folder in the background for as long as the file ``lifeline`` is there.

    Return the server and its URL for nodes.
    """
    pid, port = run([sys.executable, "-I", _SERVER, folder, log, lifeline]).split()
    process = identify(int(pid))
    if process is None:
        raise LabError(f"the package server ended at once; see {log}")
    return process, f"http://{HOST_AS_SEEN_BY_NODES}:{port}"
