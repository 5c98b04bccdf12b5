"""An SSH server that plays a whole fleet: the address that is dialled tells which node it is.

    python -m bench.simulated.server --host-key FILE --user-key FILE.pub --answer FILE [RATES]

It listens once for all addresses of the loopback device, and for no other device. It prints
``listening PORT``. For every line on its standard input it prints what it has done so far, as one
line of JSON; at the end of its standard input it ends. Several of them may share one port
(``--port``): the kernel deals out the connections.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncssh
import uvloop

from bench.simulated.answers import Record, garbage, nonce_of
from bench.simulated.conduct import Conduct, Rates, conduct
from bench.simulated.fleet import name, number_of

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel has a limit of its own below this."""

OFFERED = {
    "kex_algs": (
        *("curve25519-sha256", "curve25519-sha256@libssh.org"),
        *("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"),
        *("diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256"),
    ),
    "encryption_algs": (
        *("chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"),
        *("aes128-gcm@openssh.com", "aes256-gcm@openssh.com"),
    ),
    "mac_algs": (
        *("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"),
        *("hmac-sha2-256", "hmac-sha2-512"),
    ),
    "compression_algs": ("none",),
}
"""What a stock OpenSSH 9 offers and this library has: the client's choice is as on a real node."""


@dataclass(kw_only=True)
class Diary:
    """What the server has done so far: connections by conduct, logins, scripts answered."""

    connections: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    strangers: int = 0
    first: float | None = None

    def told(self) -> dict[str, Any]:
        """Return it, with the seconds of CPU that this process has used up."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {**vars(self), "cpu": used.ru_utime + used.ru_stime}


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All nodes: the answer that each gives, and by which rates they misbehave."""

    record: Record
    rates: Rates
    host_key: Path
    user_key: Path
    diary: Diary = field(default_factory=Diary)

    @cached_property
    def options(self) -> "asyncssh.SSHServerConnectionOptions":
        """How every connection is served."""
        return asyncssh.SSHServerConnectionOptions(
            config=None,
            server_host_keys=[str(self.host_key)],
            authorized_client_keys=str(self.user_key),
            process_factory=self.answer,
            encoding=None,
            login_timeout=120,
            **OFFERED,
        )

    async def meet(self, sock: socket.socket) -> None:
        """Do with one connection what the node that was dialled does."""
        number = number_of(sock.getsockname()[0])
        which = conduct(number, self.rates)
        self.diary.connections[which] += 1
        self.diary.first = self.diary.first or time.monotonic()
        match which:
            case Conduct.REFUSE:
                _slam(sock)
            case Conduct.MUTE:
                await _never_answer(sock)
            case _:
                loop = asyncio.get_running_loop()
                # asyncssh.run_server would read the keys anew for each connection.
                await loop.connect_accepted_socket(
                    lambda: asyncssh.SSHServerConnection(loop, self.options), sock
                )

    async def answer(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        """Take a script, and answer as the node that it was sent to."""
        self.diary.sessions += 1
        number = number_of(process.get_extra_info("sockname")[0])
        nonce = nonce_of(await process.stdin.read())
        if nonce is None:
            process.exit(1)
            return
        await self._say(process, conduct(number, self.rates), number, nonce)

    async def _say(
        self,
        process: "asyncssh.SSHServerProcess[bytes]",
        which: Conduct,
        number: int,
        nonce: bytes,
    ) -> None:
        whole = self.record.answer(nonce, name(number))
        match which:
            case Conduct.HALF:
                process.stdout.write(whole[: len(whole) // 2])
                await process.channel.wait_closed()
                return
            case Conduct.GARBAGE:
                whole = garbage(nonce, number)
            case Conduct.SLOW:
                await asyncio.sleep(self.rates.latency)
        process.stdout.write(whole)
        process.stdout.write_eof()
        process.exit(0)


def _slam(sock: socket.socket) -> None:
    # No linger: the peer sees a reset, as from a host whose sshd turns it away.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def _never_answer(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError), sock:
        while await loop.sock_recv(sock, 4096):
            pass


def listen(port: int) -> socket.socket:
    """Return a socket that listens on every address of the loopback device, and on no other."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    sock.bind(("0.0.0.0", port))  # noqa: S104 bound to the loopback device above
    sock.listen(BACKLOG)
    sock.settimeout(0)
    return sock


async def accept(sock: socket.socket, fleet: Fleet) -> None:
    """Take connections until cancelled; each is one node's."""
    loop, hands = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    while True:
        connection, peer = await loop.sock_accept(sock)
        if not peer[0].startswith("127."):
            fleet.diary.strangers += 1
            connection.close()
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hand = asyncio.ensure_future(fleet.meet(connection))
        hands.add(hand)
        hand.add_done_callback(hands.discard)


async def tell(diary: Diary) -> None:
    """Answer each line of standard input with the diary, until there are no more."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(json.dumps(diary.told()), flush=True)


async def serve(given: argparse.Namespace) -> None:
    """Play the fleet until standard input ends."""
    fleet = Fleet(
        record=Record.of(given.answer.read_bytes()),
        rates=Rates.given(given),
        host_key=given.host_key,
        user_key=given.user_key,
    )
    sock = listen(given.port)
    print("listening", sock.getsockname()[1], flush=True)
    accepting = asyncio.ensure_future(accept(sock, fleet))
    await tell(fleet.diary)
    accepting.cancel()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Play a fleet of nodes behind one SSH server.")
    for option in ("--host-key", "--user-key", "--answer"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    Rates.add_options(parser)
    return parser.parse_args()


def main() -> None:
    """Raise the limit of open files as far as it goes, and serve."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(serve(_arguments()))


if __name__ == "__main__":
    main()
