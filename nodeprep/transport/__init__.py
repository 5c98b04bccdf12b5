"""The door to the nodes: a strict connection, and one way to run a script over it.

paramiko brings the protocol, logins and the user's ssh config. Set right are these: host keys are
checked on every hop before any login, every wait has a limit, and a script goes over a raw channel
in one piece with its answer counted and capped.

A script never meets the login shell's settings: it runs in an empty environment, under a limit of
its own on the node, so that a hung command does not outlive its session for long.

::

    route        the hops to a node, from the inventory and the user's ssh config
    connection   an open way: dialling, jump hosts, greeting, login
    host_keys    the verdict on every key that a host shows
    session      a script over the way, under a limit
    local        the same without a way, on this machine
"""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from nodeprep.credentials import Passwords
from nodeprep.model import Node
from nodeprep.shell import Script
from nodeprep.transport.connection import Limits, opened
from nodeprep.transport.local import OPERATOR, LocalSession, OperatorSession, ask_here, run_here
from nodeprep.transport.route import route
from nodeprep.transport.session import SshSession

__all__ = ["OPERATOR", "Limits", "Session", "ask_here", "connect", "run_here"]


class Session(Protocol):
    """An open way to a node's root shell."""

    def run(self, script: Script, limit: float) -> bytes:
        """Run ``script`` and return what it printed, at most ``frames.CAP`` bytes.

        ``limit`` is in seconds. Raises DeadlinePassed after it, Unreachable where the session is
        lost, LoginRefused where sudo says no, FactError where the answer is too long.
        """


@contextlib.contextmanager
def connect(node: Node, limits: Limits, passwords: Passwords) -> Iterator[Session]:
    """Open the way to ``node`` and close it afterwards.

    Raises HostKeyRefused, LoginRefused, DeadlinePassed or Unreachable, each with what to type.
    """
    password = passwords.get(node.sudo.password)
    if node.address == OPERATOR:
        yield OperatorSession()
        return
    if node.address == "local":
        yield LocalSession(node=node, password=password)
        return
    with opened(route(node.address, node.ssh), limits) as way:
        yield SshSession(node=node, transport=way, password=password, channel_limit=limits.login)
