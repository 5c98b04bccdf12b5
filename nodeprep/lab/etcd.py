"""The store behind the API server: Debian's own etcd, unpacked into the cache."""

from pathlib import Path

from nodeprep.lab.cache import cached, digest
from nodeprep.lab.mirror import Mirror, unpack

_PACKAGE = "etcd-server"


def etcd(cache: Path, mirror: Mirror) -> Path:
    """Return the program, downloaded first if the cache has it not.

    Raises LabError with apt's words.
    """
    name = digest(mirror.sources(), _PACKAGE)
    folder = cached(cache / f"etcd-{name}", lambda root: unpack(root, mirror, _PACKAGE))
    return folder / "usr" / "bin" / "etcd"
