"""The door to Ansible's own program: what ``ansible-inventory`` says of an inventory.

Its output may hold passwords, and so may its complaints: both stay in memory, and neither is
repeated. Nothing but a path is given to it; a vault's password is found where Ansible looks for it
(ANSIBLE_VAULT_PASSWORD_FILE, ansible.cfg), never on a command line of ours.
"""

import os
import shutil
import subprocess
from pathlib import Path

from nodeprep.errors import UsageError
from nodeprep.inventory.characters import printable

PROGRAM = "ansible-inventory"
PATIENCE = 600
"""Seconds for an inventory that asks a cloud for its hosts."""

STRICT = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True", "ANSIBLE_NOCOLOR": "True"}
"""Without the first, half of a broken inventory would be printed as if it were all of it."""


def is_installed() -> bool:
    """Tell whether the program can be found."""
    return shutil.which(PROGRAM) is not None


def listing(path: Path) -> bytes:
    """Return what ``ansible-inventory --list`` prints of the inventory at ``path``.

    Raises UsageError where it cannot be started, fails, or does not end.
    """
    # Absolute, because a name with a comma in it could be a list of hosts.
    command = [PROGRAM, "-i", str(path.absolute()), "--list"]
    hint = f"see why with: {PROGRAM} -i {printable(str(path))} --list"
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **STRICT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
    except FileNotFoundError as error:
        raise UsageError(f"{PROGRAM} is not installed", hint="pip install ansible-core") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{PROGRAM} did not end in {PATIENCE} seconds", hint=hint) from error
    except OSError as error:
        raise UsageError(f"{PROGRAM} cannot be started: {error.strerror}", hint=hint) from error
    if done.returncode:
        raise UsageError(f"{PROGRAM} failed with status {done.returncode}", hint=hint)
    return done.stdout
