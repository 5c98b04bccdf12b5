"""One node as a QEMU process: its command line, its start, its end.

QEMU goes into the background by itself once all is set up, so a port that is taken or a file that
is missing is an error here and now. The node is then known by its pid file and its control socket.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodeprep.errors import LabError
from nodeprep.lab import qmp
from nodeprep.lab.acceleration import processor
from nodeprep.lab.image import Image
from nodeprep.lab.process import Process, end, identify, wait_until_gone
from nodeprep.lab.programs import run

_KERNEL_OPTIONS = (
    "console=ttyS0",
    "root=/dev/vda",
    "rootfstype=ext4",
    "rw",
    "quiet",
    "panic=-1",
    "net.ifnames=0",
    "fsck.mode=skip",
    "mitigations=off",
    # Emulated code is translated once for each place it runs at: see docs/lab.md for what it gave.
    "norandmaps",
    "nokaslr",
    "init_on_alloc=0",
    "apparmor=0",
    # On one processor there is nobody to wait for, and rules of packets wait often.
    "rcupdate.rcu_expedited=1",
    "random.trust_cpu=on",
    "systemd.show_status=no",
)
_SOCKET_PATH_LIMIT = 107  # bytes, of sockaddr_un
_PATIENCE = 10.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A node's machine: the folder with its disks, and what it is started with.

    ``memory`` is in MiB; ``accelerator`` is what QEMU's -accel takes.
    """

    folder: Path
    image: Image
    memory: int
    address: str
    port: int
    machine_id: str
    accelerator: str

    @property
    def disk(self) -> Path:
        """Its own disk, an overlay on the image."""
        return self.folder / "disk.qcow2"

    @property
    def seed(self) -> Path:
        """Its seed disk."""
        return self.folder / "seed.ext4"

    @property
    def control(self) -> Path:
        """Its control socket."""
        return self.folder / "qmp"

    @property
    def pid_file(self) -> Path:
        """Where QEMU writes its process id."""
        return self.folder / "pid"

    @property
    def console(self) -> Path:
        """What it wrote on its serial console, over all boots."""
        return self.folder / "console.log"


def arguments(machine: Machine) -> list[str]:
    """Return QEMU's whole command line.

    Writes stay in the host's memory until the host finds time
    (cache=unsafe): they outlive the guest and QEMU, not a crash of the host.
    """
    return [
        "qemu-system-x86_64",
        *("-accel", machine.accelerator, "-M", "pc", "-cpu", processor(machine.accelerator)),
        *("-m", str(machine.memory), "-smp", "1"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-kernel", str(machine.image.kernel), "-initrd", str(machine.image.initrd)),
        *("-append", kernel_options(machine)),
        *_disk_arguments("root", machine.disk, "format=qcow2,cache=unsafe,discard=unmap"),
        *_disk_arguments("seed", machine.seed, "format=raw,readonly=on"),
        *("-netdev", f"user,id=net,hostfwd=tcp:{machine.address}:{machine.port}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-chardev", f"file,id=console,append=on,path={_escaped(machine.console)}"),
        *("-serial", "chardev:console"),
        *("-qmp", f"unix:{_escaped(machine.control)},server=on,wait=off"),
        *("-pidfile", str(machine.pid_file), "-daemonize"),
    ]


def kernel_options(machine: Machine) -> str:
    """Return the kernel's command line; the machine-id is needed before any disk is read."""
    return " ".join([*_KERNEL_OPTIONS, f"systemd.machine_id={machine.machine_id}"])


def _disk_arguments(name: str, path: Path, options: str) -> tuple[str, ...]:
    drive = f"if=none,id={name},file={_escaped(path)},{options}"
    return ("-drive", drive, "-device", f"virtio-blk-pci,drive={name}")


def _escaped(path: Path) -> str:
    """Double the commas: in QEMU's options a single one begins the next option."""
    return str(path).replace(",", ",,")


def start(machine: Machine) -> Process:
    """Give the machine a fresh disk and start it. Raises LabError with QEMU's words."""
    if len(str(machine.control).encode()) > _SOCKET_PATH_LIMIT:
        raise LabError(f"too long for a socket's path: {machine.control}", hint="--dir /tmp/lab")
    machine.disk.unlink(missing_ok=True)
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
    run([*overlay, "-b", machine.image.disk, machine.disk])
    run(arguments(machine))
    process = identify(int(machine.pid_file.read_text()))
    if process is None:
        raise LabError(f"QEMU ended at once; see {machine.console}")
    return process


def stop(machine_folder: Path, process: Process | None) -> None:
    """End the machine whose folder this is: by its control socket, else by its process.

    The socket reaches the right QEMU even when a start was cut short before its process could be
    written down. Does nothing where none runs.
    """
    with suppress(LabError):
        qmp.execute(machine_folder / "qmp", "quit")
    if process and not wait_until_gone(process, _PATIENCE):
        end(process)


def console_tail(machine_folder: Path, lines: int = 12) -> str:
    """Return the end of what the machine wrote on its console."""
    console = machine_folder / "console.log"
    text = console.read_text(errors="replace") if console.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
