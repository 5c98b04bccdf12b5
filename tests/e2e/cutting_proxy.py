"""A way to a node that breaks: passes bytes on, and cuts both directions when told to."""

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def cutting_proxy(host: str, port: int, *, after: int) -> Iterator[int]:
    """Give a loopback port that leads to ``host:port`` for ``after`` bytes of its answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, host, port, after), daemon=True).start()
        yield server.getsockname()[1]


def _serve(server: socket.socket, host: str, port: int, after: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            node = socket.create_connection((host, port))
            threading.Thread(target=_pass, args=(client, node, None), daemon=True).start()
            threading.Thread(target=_pass, args=(node, client, after), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, left: int | None) -> None:
    with contextlib.suppress(OSError), source, sink:
        while piece := source.recv(65536):
            sink.sendall(piece if left is None else piece[:left])
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    return
