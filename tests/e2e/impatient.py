"""nodeprep that soon gives up on a busy lock: ``python -m tests.e2e.impatient ARGUMENT...``.

All else is as its users have it.
"""

import sys

from nodeprep import package_managers
from nodeprep.cli import run_command

if __name__ == "__main__":
    package_managers.LOCK_SECONDS = 6
    run_command(sys.argv[1:])
