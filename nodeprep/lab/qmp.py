"""One command to a running QEMU, over its control socket (QEMU Machine Protocol)."""

import json
import socket
from io import BufferedRWPair
from pathlib import Path

from nodeprep.errors import LabError


def execute(path: Path, command: str, *, seconds: float = 5.0) -> None:
    """Run a command such as ``quit`` or ``system_reset``.

    Raises LabError if nobody listens, no answer comes in time, or QEMU refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            with connection.makefile("rwb") as stream:
                stream.readline()  # the greeting
                _ask(stream, "qmp_capabilities")
                _ask(stream, command)
    except OSError as error:
        raise LabError(f"QEMU does not answer on {path}: {error}") from error


def _ask(stream: BufferedRWPair, command: str) -> None:
    """Send one command and read up to its answer; events may come in between."""
    stream.write(json.dumps({"execute": command}).encode() + b"\n")
    stream.flush()
    for line in stream:
        answer = json.loads(line)
        if "return" in answer:
            return
        if "error" in answer:
            raise LabError(f"QEMU refuses {command}: {answer['error'].get('desc', answer)}")
    raise ConnectionError("it hung up")
