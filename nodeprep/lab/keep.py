"""A program in the background, for as long as a file is there.

Run by path, with nothing but the standard library: ``python keep.py LOG LIFELINE PROGRAM WORD...``.
Once the program is started its process id is printed, and a keeper stays behind: it ends with the
program, and ends the program as soon as the file LIFELINE is gone.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

_PAUSE = 0.5
_PATIENCE = 5.0


def main(log: str, lifeline: str, *words: str) -> None:
    """Leave a keeper behind, and tell whom it keeps."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with open(reader) as answer:  # noqa: PTH123 - a descriptor
            print(answer.read(), flush=True)
        return
    os.close(reader)
    os.setsid()
    _leave_streams(log)
    child = subprocess.Popen(words, cwd="/")
    with open(writer, "w") as answer:  # noqa: PTH123 - a descriptor
        answer.write(str(child.pid))
    _keep(child, Path(lifeline))


def _keep(child: subprocess.Popen[bytes], lifeline: Path) -> None:
    while child.poll() is None:
        if not lifeline.exists():
            _end(child)
        time.sleep(_PAUSE)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()


def _leave_streams(log: str) -> None:
    """Let go of the parent's streams, so that nobody waits for us; log to a file."""
    with open(os.devnull) as nothing, open(log, "a") as output:  # noqa: PTH123 - descriptors
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
