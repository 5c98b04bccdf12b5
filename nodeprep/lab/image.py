"""The disk, kernel and initrd that all nodes of a kind share: Debian's own, built once and kept.

Everything that is special about a node comes later, from its seed disk. What lands in the image
besides Debian's packages is in the folder ``guest`` beside this file; each kind takes its part.

Facts: mmdebstrap and ``mkfs.ext4 -d`` need neither root nor a mount. The initrd has no udev and a
short list of modules, and is stored unpacked: an emulated processor would unpack it at every boot.
"""

import gzip
import io
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from nodeprep.lab.cache import cached, digest
from nodeprep.lab.kinds import Kind
from nodeprep.lab.mirror import RELEASE, Mirror
from nodeprep.lab.programs import as_root, run

PACKAGES = (
    "bash",
    "ca-certificates",
    "dbus",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "openssh-server",
    "passwd",
    "procps",
    "sudo",
    "systemd-sysv",
    "udev",
)
GUEST = Path(__file__).parent / "guest"
_DISK = "4G"
_CUSTOMIZE = "usr/lib/nodeprep-lab/customize"
# Nobody reads manuals on a virtual node, and its initrd needs no udev to find one disk.
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/initramfs-tools/hooks/udev",
    "/usr/share/initramfs-tools/scripts/*/udev",
)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A built image; its parts are files of one folder."""

    folder: Path

    @property
    def disk(self) -> Path:
        """The root file system, a raw ext4; nodes write to overlays and never to it."""
        return self.folder / "base.ext4"

    @property
    def kernel(self) -> Path:
        """Debian's kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initrd, unpacked."""
        return self.folder / "initrd.img"

    @property
    def status(self) -> Path:
        """Which packages are installed in it, as dpkg writes it down."""
        return self.folder / "dpkg-status"


def image(cache: Path, mirror: Mirror, kind: Kind) -> Image:
    """Return the kind's image, built first if the cache has none made of the same things.

    Takes about a minute to build. Raises LabError with mmdebstrap's words if it fails.
    """
    files = guest_files(kind)
    recipe = digest(mirror.sources(), repr(kind), files, Path(__file__).read_bytes())
    return Image(
        folder=cached(
            cache / f"image-{kind.name}-{recipe}",
            lambda folder: _build(folder, mirror, kind, files),
        )
    )


def guest_files(kind: Kind) -> bytes:
    """Return a kind's part of ``guest`` as a tar: equal bytes for equal content, all root's."""
    names = {
        str(path.relative_to(GUEST / part)): path
        for part in kind.guest
        for path in sorted((GUEST / part).rglob("*"))
    }
    names[_CUSTOMIZE] = GUEST / "customize.sh"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, path in names.items():
            _add(archive, name, path)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    """Add a file without who made it and when. What starts with #! may be run."""
    entry = tarfile.TarInfo(name)
    if path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
        return
    content = path.read_bytes()
    entry.size = len(content)
    entry.mode = 0o755 if content.startswith(b"#!") else 0o644
    archive.addfile(entry, io.BytesIO(content))


def _build(folder: Path, mirror: Mirror, kind: Kind, files: bytes) -> None:
    (folder / "guest.tar").write_bytes(files)
    (folder / "sources.list").write_text(mirror.sources())
    run(bootstrap_command(folder, mirror, kind))
    _make_disk(folder)
    _unpack_initrd(folder)
    for name in ("guest.tar", "sources.list", "root.tar", "initrd.gz"):
        (folder / name).unlink()


def bootstrap_command(folder: Path, mirror: Mirror, kind: Kind) -> list[str]:
    """Return the mmdebstrap that turns sources.list and guest.tar into root.tar.

    The guest's files come before the packages, so that the initrd is made right the first time.
    """
    return [
        "mmdebstrap",
        "--quiet",
        f"--variant={kind.variant}",
        f"--include={','.join((*PACKAGES, *kind.packages))}",
        *(f"--aptopt={option}" for option in mirror.options),
        "--dpkgopt=force-confold",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        f"--essential-hook=tar-in {folder}/guest.tar /",
        f'--customize-hook=chroot "$1" /{_CUSTOMIZE}',
        RELEASE,
        f"{folder}/root.tar",
        f"{folder}/sources.list",
    ]


def _make_disk(folder: Path) -> None:
    """Turn root.tar into a disk, and take the kernel out of it.

    One shell inside one namespace: as an ordinary user the unpacked files belong to ids that
    only exist there. The kernel makes the device nodes at boot.
    """
    steps = f"""
        mkdir tree
        tar --extract --file=root.tar --directory=tree --numeric-owner --exclude='./dev/*'
        cp tree/boot/vmlinuz-* vmlinuz
        cp tree/boot/initrd.img-* initrd.gz
        cp tree/var/lib/dpkg/status dpkg-status
        rm -f tree/boot/initrd.img-*
        mkfs.ext4 -q -L lab-root -J size=16 -E lazy_itable_init=1 -d tree base.ext4 {_DISK}
        rm -rf tree
    """
    run([*as_root(), "sh", "-euc", steps], cwd=folder)


def _unpack_initrd(folder: Path) -> None:
    with gzip.open(folder / "initrd.gz") as packed, (folder / "initrd.img").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
