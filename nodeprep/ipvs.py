"""IPVS on a node: its devices, and the kernel's table as ``ipvsadm -Ln`` prints it, read."""

import re
from dataclasses import dataclass, replace

DEVICES = ("kube-ipvs0", "nodelocaldns")
"""Dummy devices of a node in ipvs mode: kube-proxy's, and NodeLocal DNSCache's beside it."""


@dataclass(frozen=True, kw_only=True)
class RealServer:
    """Where connections go. ``forward`` is Masq, Route, Tunnel or Local."""

    address: str
    forward: str
    weight: int
    active: int
    inactive: int


@dataclass(frozen=True, kw_only=True)
class VirtualServer:
    """A service in the kernel. ``protocol`` is TCP, UDP, SCTP, or FWM for a firewall mark."""

    protocol: str
    address: str
    scheduler: str
    flags: tuple[str, ...] = ()
    real_servers: tuple[RealServer, ...] = ()


def parse(text: str) -> tuple[VirtualServer, ...]:
    """Read the output of ``ipvsadm -Ln``; lines that are neither kind of server are passed over.

    >>> parse("TCP  10.254.0.1:443 rr\\n  -> 192.168.1.142:6443  Masq  1  0  0\\n")[0].scheduler
    'rr'
    """
    servers: list[VirtualServer] = []
    for line in text.splitlines():
        if virtual := re.match(r"(TCP|UDP|SCTP|FWM) +(\S+)(?: IPv6)? +([a-z]\S*)(.*)", line):
            servers.append(_virtual(virtual))
        elif (real := re.match(r" +-> (\S+) +([A-Z]\w+) +(\d+) +(\d+) +(\d+)", line)) and servers:
            grown = (*servers[-1].real_servers, _real(real))
            servers[-1] = replace(servers[-1], real_servers=grown)
    return tuple(servers)


def _virtual(match: re.Match[str]) -> VirtualServer:
    protocol, address, scheduler, flags = match.groups()
    return VirtualServer(
        protocol=protocol, address=address, scheduler=scheduler, flags=tuple(flags.split())
    )


def _real(match: re.Match[str]) -> RealServer:
    address, forward, *numbers = match.groups()
    weight, active, inactive = map(int, numbers)
    return RealServer(
        address=address, forward=forward, weight=weight, active=active, inactive=inactive
    )
