"""A wire between us and a node that can be cut, or go dead, after so many bytes."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["up", "down"]
"""``up`` goes to the node, ``down`` comes from it."""


@dataclass(kw_only=True)
class Wire:
    """A TCP proxy to ``target``. At ``limit`` bytes in the direction ``way`` it is cut.

    With ``dead`` it is not cut but carries nothing more. ``drop`` is how many connections are
    closed at once before the first one is let through.
    """

    target: int
    way: Way = "down"
    limit: int | None = None
    dead: bool = False
    drop: int = 0
    carried: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    accepted: int = 0

    def room(self, way: Way) -> int:
        """Return how many bytes may still go this way."""
        if self.limit is None or way != self.way:
            return 1 << 30
        return self.limit - self.carried[way]


@contextlib.contextmanager
def wire(**settings: object) -> Iterator[tuple[Wire, int]]:
    """Give a wire and the port at which it is entered."""
    one = Wire(**settings)  # type: ignore[arg-type]
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(one, server, ended))
        thread.start()
        try:
            yield one, int(server.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def _serve(one: Wire, server: socket.socket, ended: threading.Event) -> None:
    server.settimeout(0.02)
    threads: list[threading.Thread] = []
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            client, _ = server.accept()
            one.accepted += 1
            if one.accepted <= one.drop:
                client.close()
                continue
            threads.append(threading.Thread(target=_carry, args=(one, client, ended)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def _carry(one: Wire, client: socket.socket, ended: threading.Event) -> None:
    with client, socket.create_connection(("127.0.0.1", one.target)) as node:
        ways: dict[socket.socket, tuple[Way, socket.socket]] = {
            client: ("up", node),
            node: ("down", client),
        }
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            for end in ways:
                selector.register(end, selectors.EVENT_READ)
            while not ended.is_set() and one.room(one.way) > 0:
                for key, _ in selector.select(0.02):
                    assert isinstance(key.fileobj, socket.socket)
                    way, other = ways[key.fileobj]
                    if not _moved(one, key.fileobj, way, other):
                        return
            while one.dead and not ended.wait(0.02):
                pass


def _moved(one: Wire, source: socket.socket, way: Way, other: socket.socket) -> bool:
    data = source.recv(min(65536, max(1, one.room(way))))
    data = data[: one.room(way)]
    one.carried[way] += len(data)
    other.sendall(data)
    return bool(data)
