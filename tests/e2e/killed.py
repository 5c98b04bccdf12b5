"""nodeprep, killed at one effect of a roll: ``python -m tests.e2e.killed N ARGUMENT...``.

Intents and outcomes are counted, from 0 in each process: for each verb of each node there is one of
both. An even N kills before the (N/2)th is written, when the act that it tells of has just been
done; an odd one after it, when the next act has not begun.
"""

import os
import signal
import sys
from typing import Any

from nodeprep import journal
from nodeprep.cli import run_command


def main() -> None:
    point, left = divmod(int(sys.argv[1]), 2)
    append, count = journal.Journal.append, iter(range(1_000_000))

    def counted(self: journal.Journal, kind: journal.Kind, **fields: Any) -> journal.Record:
        number = next(count) if kind in ("intent", "outcome") else -1
        if number == point and not left:
            os.kill(os.getpid(), signal.SIGKILL)
        record = append(self, kind, **fields)
        if number == point and left:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    journal.Journal.append = counted  # type: ignore[method-assign]
    run_command(sys.argv[2:])


if __name__ == "__main__":
    main()
