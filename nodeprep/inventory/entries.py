"""The entries of an ipset: checked, and brought to the form in which ``ipset save`` prints them.

>>> listed("hash:net", "inet", ["10.0.0.1/24", "10.0.1.0-10.0.1.2"], most=9).entries
('10.0.0.0/24', '10.0.1.0/31', '10.0.1.2')

So what stands in the kernel is compared as text. Where ipset takes a range or a network for many
entries, they are written out, as ipset does it. An entry that is written twice counts once.
"""

import ipaddress
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodeprep.inventory.characters import shown
from nodeprep.ipset import TYPES, Part

MOST_TOLD = 20
"""How many wrong entries of one list are told: a list of something else has them all wrong."""

MAX_PORT = 65535

_Choice = tuple[Sequence[Any], Callable[[Any], str]]
"""What a part stands for, and how one of these is written."""

_FORMS: Mapping[Part, str] = {
    "ip": "ADDRESS",
    "net": "NETWORK",
    "port": "PROTOCOL:PORT",
    "mac": "MAC",
    "iface": "INTERFACE",
}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Entries in ipset's own form, sorted; and what is wrong, by the place in what was given."""

    entries: tuple[str, ...]
    faults: Mapping[int, str]


def listed(kind: str, family: str, texts: Iterable[str], *, most: int) -> Listing:
    """Return the entries that ``texts`` are for a set of this type and family.

    One that stands for more than ``most`` entries is wrong; with more than that in all, the rest
    is not read.
    """
    flags: dict[str, str] = {}
    faults: dict[int, str] = {}
    for at, text in enumerate(texts):
        try:
            _collect(_entry(kind, family, text, most), flags)
            if len(flags) > most:
                break
        except ValueError as error:
            faults[at] = str(error)
            if len(faults) == MOST_TOLD:
                break
    entries = sorted(element + flag for element, flag in flags.items())
    return Listing(entries=tuple(entries), faults=faults)


def _collect(elements: Iterable[tuple[str, str]], flags: dict[str, str]) -> None:
    for element, flag in elements:
        if flags.setdefault(element, flag) != flag:
            raise ValueError(f"{shown(element)} is here with `nomatch` and without it")


def _entry(kind: str, family: str, text: str, most: int) -> Iterator[tuple[str, str]]:
    parts = TYPES[kind]
    element = text.removesuffix(" nomatch")
    flag = text[len(element) :]
    words = element.split(",")
    if len(words) != len(parts) or " " in element or (flag and "net" not in parts):
        raise ValueError(f"{shown(text)} is not an entry of {kind}: write {form(kind)}")
    choices = [_READ[part](word, family, kind) for part, word in zip(parts, words, strict=True)]
    count = math.prod(len(values) for values, _ in choices)
    if count > most:
        raise ValueError(f"{shown(text)} stands for {count} entries: at most {most} are taken")
    for combination in itertools.product(*(map(write, values) for values, write in choices)):
        yield ",".join(combination), flag


def form(kind: str) -> str:
    """Return how an entry of a type is written.

    >>> form("hash:net,port")
    "'NETWORK,PROTOCOL:PORT'"
    """
    parts = ",".join(_FORMS[part] for part in TYPES[kind])
    return f"'{parts}'" if "," in parts else parts


# --- addresses and networks -----------------------------------------------------------------


def _address(word: str, family: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    example = "192.0.2.1" if family == "inet" else "2001:db8::1"
    try:
        if "%" not in word:
            is_4 = family == "inet"
            return ipaddress.IPv4Address(word) if is_4 else ipaddress.IPv6Address(word)
    except ValueError:
        pass
    raise ValueError(f"{shown(word)} is no address of the family {family}, such as {example}")


def _ends(word: str, family: str) -> tuple[int, int] | None:
    if family != "inet" or "-" not in word:
        return None
    first, last = (int(_address(end, family)) for end in word.split("-", 1))
    if last < first:
        raise ValueError(f"{shown(word)} runs backwards: write the smaller address first")
    return first, last


def _network(word: str, family: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    host, slash, prefix = word.partition("/")
    address = _address(host, family)
    if slash and not (re.fullmatch("[0-9]{1,3}", prefix) and int(prefix) <= address.max_prefixlen):
        raise ValueError(f"{shown(word)} has no prefix of 0 to {address.max_prefixlen} bits")
    whole = f"{address}/{prefix or address.max_prefixlen}"
    return ipaddress.ip_network(whole, strict=False)


def _ips(word: str, family: str, _: str) -> _Choice:
    ends = _ends(word, family)
    if ends is None:
        network = _network(word, family)
        if family == "inet6" and network.num_addresses > 1:
            raise ValueError(f"{shown(word)}: an IPv6 set of addresses takes one at a time")
        ends = int(network.network_address), int(network.broadcast_address)
    if ends[0] == 0:
        raise ValueError(f"{shown(word)} begins with the address that is all zeros: ipset has none")
    return range(ends[0], ends[1] + 1), _text_of(family)


def _text_of(family: str) -> Callable[[int], str]:
    return _text_6 if family == "inet6" else _text_4


def _text_4(number: int) -> str:
    return str(ipaddress.IPv4Address(number))


def _text_6(number: int) -> str:
    # Two kinds of addresses end like IPv4 in the C library's writing (inet_ntop), not in Python's.
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if number >> 32 == 0xFFFF:  # noqa: PLR2004 ::ffff:0:0/96, IPv4 that is mapped
        return f"::ffff:{low}"
    if number >> 32 == 0 and number >> 16:
        return f"::{low}"
    return ipaddress.IPv6Address(number).compressed


def _nets(word: str, family: str, kind: str) -> _Choice:
    ends = _ends(word, family)
    if ends is None:
        networks = [_network(word, family)]
    else:
        first, last = map(ipaddress.IPv4Address, ends)
        networks = list(ipaddress.summarize_address_range(first, last))
    if networks[0].prefixlen == 0 and kind != "hash:net,iface":
        halves = "0.0.0.0/1 and 128.0.0.0/1" if family == "inet" else "::/1 and 8000::/1"
        raise ValueError(f"{shown(word)} is everything, which {kind} does not take: write {halves}")
    return networks, _net_text


def _net_text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    base = int(network.network_address)
    text = _text_4(base) if network.version == 4 else _text_6(base)  # noqa: PLR2004 IPv4
    return text if network.prefixlen == network.max_prefixlen else f"{text}/{network.prefixlen}"


# --- the other parts ------------------------------------------------------------------------


def _ports(word: str, _: str, __: str) -> _Choice:
    found = re.fullmatch(
        r"(?:(tcp|udp|sctp|udplite):)?([0-9]{1,5})(?:-([0-9]{1,5}))?", word.lower()
    )
    first, last = (int(found[2]), int(found[3] or found[2])) if found else (0, 0)
    if not found or not 0 < first <= last <= MAX_PORT:
        raise ValueError(
            f"{shown(word)} is no port: write a number such as tcp:80, udp:53 or tcp:8000-8010; "
            "tcp, udp, sctp or udplite"
        )
    protocol = found[1] or "tcp"
    return range(first, last + 1), lambda port: f"{protocol}:{port}"


def _macs(word: str, _: str, __: str) -> _Choice:
    if not re.fullmatch("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", word) or not word.strip("0:"):
        raise ValueError(f"{shown(word)} is no MAC address, such as '02:00:5E:10:00:01'")
    return (word.upper(),), str


def _ifaces(word: str, _: str, __: str) -> _Choice:
    if not re.fullmatch(r"(physdev:)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,14}", word):
        raise ValueError(f"{shown(word)} is no interface, such as eth0: at most 15 characters")
    return (word,), str


_READ: Mapping[Part, Callable[[str, str, str], _Choice]] = {
    "ip": _ips,
    "net": _nets,
    "port": _ports,
    "mac": _macs,
    "iface": _ifaces,
}


# --- a file of them -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Line:
    """One entry of a file: its line and column, from 1, and its text."""

    line: int
    column: int
    text: str


def lines(text: str) -> tuple[Line, ...]:
    r"""Return the entries of a file: one a line, behind ``#`` a comment, empty lines as you like.

    >>> lines("10.0.0.1 # the gateway\n\n")
    (Line(line=1, column=1, text='10.0.0.1'),)
    """
    numbered = enumerate(text.split("\n"), 1)
    stripped = ((at, line, line.partition("#")[0].strip()) for at, line in numbered)
    return tuple(
        Line(line=at, column=line.index(entry) + 1, text=" ".join(entry.split()))
        for at, line, entry in stripped
        if entry
    )
