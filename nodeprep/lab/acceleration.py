"""KVM where it really works, else emulation.

On some virtual machines ``/dev/kvm`` opens and the guest then dies in its first instructions
("KVM internal error"), and QEMU does not fall back by itself. So KVM is believed only after a
short trial boot of the very image that nodes get; the answer holds for one boot of this machine
and one version of QEMU.
"""

import json
import os
import subprocess
from pathlib import Path

from nodeprep.lab.cache import digest, locked
from nodeprep.lab.image import Image
from nodeprep.lab.process import boot_id
from nodeprep.lab.programs import run, search_path

KVM = "kvm"
# 512 MiB of translated code: with 128, a guest of six minutes had filled and lost it 50 times.
EMULATION = "tcg,tb-size=512"
_DEVICE = Path("/dev/kvm")
_TRIAL_SECONDS = 30.0
# The first program of the trial is `true`: it ends, the kernel says so, and QEMU stops.
_TRIAL_OPTIONS = "console=ttyS0 root=/dev/vda ro quiet panic=-1 init=/usr/bin/true"
_TRIAL_PASSED = "Attempted to kill init"


def accelerator(cache: Path, image: Image) -> str:
    """Return what QEMU's -accel takes; a trial costs a few seconds, once per boot of the host."""
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return EMULATION
    answers = cache / "acceleration.json"
    key = digest("kvm", boot_id(), run(["qemu-system-x86_64", "--version"]), image.folder.name)
    with locked(cache / ".acceleration.lock"):
        known = json.loads(answers.read_text()) if answers.exists() else {}
        if key not in known:
            known = {key: boots_with_kvm(image)}
            answers.write_text(json.dumps(known))
    return KVM if known[key] else EMULATION


def processor(accelerator: str) -> str:
    """Return what QEMU's -cpu takes: all it can do, a random number generator among it.

    Emulated, page tables for 57-bit addresses would be one level more to walk for nothing.
    """
    return "max" if accelerator == KVM else "max,la57=off"


def trial_arguments(image: Image) -> list[str]:
    """Return the QEMU of the trial: it writes nothing, and a reboot ends it."""
    return [
        "qemu-system-x86_64",
        *("-accel", KVM, "-M", "pc", "-cpu", processor(KVM), "-m", "256"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _TRIAL_OPTIONS),
        *("-drive", f"if=none,id=d,format=raw,snapshot=on,file={image.disk}"),
        *("-device", "virtio-blk-pci,drive=d", "-serial", "stdio"),
    ]


def boots_with_kvm(image: Image) -> bool:
    """Boot the image with KVM up to its first program, for at most 30 seconds."""
    try:
        trial = subprocess.run(
            trial_arguments(image),
            env={**os.environ, "PATH": search_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return trial.returncode == 0 and _TRIAL_PASSED.encode() in trial.stdout
