"""kubectl for the nodes: Debian's own, of the Kubernetes of all else, unpacked into the cache."""

from pathlib import Path

from nodeprep.lab.cache import cached, digest
from nodeprep.lab.mirror import Mirror, unpack

_PACKAGE = "kubernetes-client"


def kubectl(cache: Path, mirror: Mirror) -> Path:
    """Return the program, a static one, downloaded first if the cache has it not.

    Raises LabError with apt's words.
    """
    name = digest(mirror.sources(), _PACKAGE)
    folder = cached(cache / f"kubectl-{name}", lambda root: unpack(root, mirror, _PACKAGE))
    return folder / "usr" / "bin" / "kubectl"
