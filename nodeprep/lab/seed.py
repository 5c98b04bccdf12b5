"""The small read-only disk that tells a node who it is.

It carries the node's name, its host key, who may log in, where packages come from, programs such
as a kube-proxy, the endpoints that a cluster has on each node, and what its pods are made of.
``guest/files/usr/lib/nodeprep-lab/seed`` reads it at first boot.
"""

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodeprep.lab.kinds import Kind
from nodeprep.lab.programs import as_root, run

# Room for the file system itself, beside what is put into it: it grows with its size.
_SPARE_MIB = 4
_SPARE_SHARE = 10
_MIB = 1 << 20
_SECRET = 0o600


@dataclass(frozen=True, kw_only=True)
class Seed:
    """What one node is told.

    ``repository`` is the URL of packages of its ``kind``. ``programs`` are copied into its
    /usr/local/bin; ``container_images`` stay on the disk, each a program that a pod is to run.
    ``endpoints`` are addresses, each of which gets a network namespace and a server there; without
    any the node has none of that. ``secrets`` are files for root alone, by path.
    """

    hostname: str
    host_key: Path
    authorized_key: str
    guarded_password: str
    kind: Kind
    repository: str
    programs: tuple[Path, ...] = ()
    container_images: tuple[Path, ...] = ()
    endpoints: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def files(self) -> dict[str, tuple[int, str]]:
        """Return the files to put in place on the node: path -> mode and text, all root's."""
        public = self.host_key.with_name(f"{self.host_key.name}.pub")
        files = {
            "etc/hostname": (0o644, f"{self.hostname}\n"),
            "etc/hosts": (0o644, f"127.0.0.1 localhost\n127.0.1.1 {self.hostname}\n"),
            "etc/ssh/ssh_host_ed25519_key": (_SECRET, self.host_key.read_text()),
            "etc/ssh/ssh_host_ed25519_key.pub": (0o644, public.read_text()),
            "etc/ssh/lab_authorized_keys": (0o644, f"{self.authorized_key}\n"),
            self.kind.source: (0o644, self.kind.source_text.format(url=self.repository)),
        }
        if self.endpoints:
            files["etc/lab-endpoints"] = (0o644, "".join(f"{one}\n" for one in self.endpoints))
        return files | {path: (_SECRET, text) for path, text in self.secrets.items()}


def write(seed: Seed, disk: Path) -> None:
    """Make the disk, an ext4 of just the size it needs, owned by root inside."""
    with tempfile.TemporaryDirectory(prefix="seed-", dir=disk.parent) as name:
        folder = Path(name)
        _write_secret(folder / "files.tar", tar(seed.files()))
        _write_secret(folder / "passwords", f"guarded:{seed.guarded_password}\n".encode())
        _copy(seed.programs, folder / "programs")
        _copy(seed.container_images, folder / "images")
        _make_disk(folder, disk)


def _copy(programs: Iterable[Path], folder: Path) -> None:
    folder.mkdir()
    for program in programs:
        shutil.copy(program, folder / program.name)


def tar(files: dict[str, tuple[int, str]]) -> bytes:
    """Return the files as a tar: on the node one program puts them all in place."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (mode, text) in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=_SECRET)
    path.write_bytes(content)


def _make_disk(folder: Path, disk: Path) -> None:
    content = sum(file.stat().st_size for file in folder.rglob("*")) // _MIB
    size = content + content // _SPARE_SHARE + _SPARE_MIB
    disk.touch(mode=_SECRET)
    make = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-L", "lab-seed"]
    run([*as_root(), *make, "-d", folder, disk, f"{size}M"])
