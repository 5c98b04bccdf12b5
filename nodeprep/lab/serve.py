"""A folder served over HTTP on the host's loopback, by a process of its own.

Run by path, with nothing but the standard library: ``python serve.py FOLDER LOG LIFELINE``. Once it
listens it prints its process id and port, and goes on in the background until the file LIFELINE is
gone. The system chooses the port, so two labs never want the same one.
"""

import functools
import os
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    """Keeps connections open: apt asks for many small files in a row."""

    protocol_version = "HTTP/1.1"


class _Server(ThreadingHTTPServer):
    """Ends when its lab does, even when nobody is left to tell it."""

    daemon_threads = True
    lifeline: Path

    def service_actions(self) -> None:
        """Look twice a second whether the lab is still there."""
        if not self.lifeline.exists():
            sys.exit(0)


def main(folder: str, log: str, lifeline: str) -> None:
    """Listen, leave a child behind that serves, and tell the parent who and where it is."""
    handler = functools.partial(_Handler, directory=folder)
    server = _Server(("127.0.0.1", 0), handler)
    server.lifeline = Path(lifeline)
    child = os.fork()
    if child:
        print(child, server.server_port, flush=True)
        return
    os.setsid()
    _leave_streams(log)
    os.chdir("/")
    server.serve_forever()


def _leave_streams(log: str) -> None:
    """Let go of the parent's streams, so that it does not wait for us; log to a file."""
    with open(os.devnull) as nothing, open(log, "a") as output:  # noqa: PTH123 - descriptors
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
